"""`python -m tinyfleet.cli` is `tinyfleet`."""

from tinyfleet.cli.main import main

if __name__ == "__main__":
    main()
