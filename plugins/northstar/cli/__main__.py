"""`python -m northstar.cli` is the command `northstar`."""

import sys

from northstar.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
