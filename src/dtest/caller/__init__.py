"""Whoever has a suite run: finds a cell, hands a document in, follows the run. Prints nothing."""
