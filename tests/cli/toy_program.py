"""train.py with the toy's classes allowed, for tests that need a process of their own."""

import os
import sys
from pathlib import Path

from sciml.cli.targets import resolving
from sciml.cli.train import main

if __name__ == "__main__":
    resolving.LIBRARIES = (*resolving.LIBRARIES, "toy")
    sys.exit(main(folder=Path(os.environ["TOY_CONFIGS"])))
