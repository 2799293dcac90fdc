"""Decides about runs of suites: what runs where, what runs again, when it ends. Pure."""
