"""Trees of files that travel: what they are, how they are cut and packed, who ships them.

Knows nothing of brokers, tasks or agents.
"""
