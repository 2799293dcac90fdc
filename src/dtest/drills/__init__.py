"""Failures on purpose: injected into a throw-away cell under load, and what became of the work."""
