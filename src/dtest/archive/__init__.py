"""The archive: what a journal holds, as checksummed and chained files that need no broker.

Reads the journal and never changes it. No leader, agent or projection needs an archive: it is for
audits, rehearsals and cold storage. Nothing here knows what an event means.
"""
