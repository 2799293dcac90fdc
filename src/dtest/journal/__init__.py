"""The journal: a port that the rest of dtest speaks to, and its adapters.

``port`` defines it, ``memory`` is the adapter for tests and simulation, ``jetstream`` the real
one. Nothing here knows what an event means.
"""
