"""`python -P -m cpc.consumers NAME`: the process that the supervisor starts for a consumer."""

import os
import sys

from cpc.consumers.process import main

if __name__ == "__main__":
    # No tearing down: everything of value is closed, and a thread of a library must not hold up the end.
    _status = main()
    sys.stderr.flush()
    os._exit(_status)
