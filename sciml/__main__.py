"""Entry point of `python -m sciml`."""

import sys

from sciml.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
