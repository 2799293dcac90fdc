"""Carries runs of suites to their end: one conductor in office, any number that stand by."""
