"""Plans of runs: the tests by number, and what else is to have a result."""

from dtest.api.listing import Listing

PLANS = Listing(
    "SELECT * FROM (SELECT *, printf('%020d/%020d', seq, idx) AS page_key FROM planned)",
    "page_key",
    str,
)
