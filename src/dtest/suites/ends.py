"""Words that tell, across processes, that a suite ended its run itself."""

STOPPED = "the suite stopped the run: "
"""How the detail of an attempt begins whose session was stopped by ``pytest.exit`` or the like."""
