"""Test runners other than pytest: how each is called and what its results say. Pure.

Starts nothing and reads no file: `dtest.agents.runner_session` does.
"""
