"""Train, evaluate, plot and save: `python train.py model=pinn_hjb`; `--help` lists the models."""

import sys
from pathlib import Path

from sciml.cli.train import main

if __name__ == "__main__":
    sys.exit(main(folder=Path(__file__).parent / "configs"))
