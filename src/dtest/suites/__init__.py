"""Suites of tests as work to be spread: units, plans, what is known from earlier runs. Pure."""
