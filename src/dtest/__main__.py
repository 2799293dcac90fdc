"""``python -m dtest``."""

from dtest.cli.main import main

if __name__ == "__main__":
    main()
