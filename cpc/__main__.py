"""`python -m cpc` is the command `cpc`."""

from cpc.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
