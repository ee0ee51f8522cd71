"""`python -P -m cpc.commands`."""

from cpc.commands.process import main

if __name__ == "__main__":
    raise SystemExit(main())
