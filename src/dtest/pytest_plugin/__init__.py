"""``pytest --dtest``: an ordinary call of pytest whose tests run in a cell."""
