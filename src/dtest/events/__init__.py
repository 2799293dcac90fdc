"""The vocabulary: every fact that can stand in the journal, its wire form and its subject.

Pure: no I/O, no clock, no luck. Nothing here decides anything.
"""
