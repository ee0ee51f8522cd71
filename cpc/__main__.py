"""`python -m cpc` is the command `cpc`."""

from cpc.cli import main

raise SystemExit(main())
