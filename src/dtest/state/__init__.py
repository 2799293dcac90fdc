"""What is true now: a fold of the journal. Pure, deterministic and total.

``Cell.apply`` is the only door. An event that no longer applies changes nothing and is counted;
nothing here raises for what the journal holds, and nothing here decides.
"""
