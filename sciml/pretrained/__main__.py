"""Write the cards of pretrained folders anew; those of the shipped models if none is named."""

import os
import sys
from pathlib import Path

from sciml.pretrained.files.folder import SHIPPED
from sciml.pretrained.files.model_description import read_spec
from sciml.pretrained.saving import card


def main() -> None:
    """Write every card as a whole."""
    folders = [Path(name) for name in sys.argv[1:]]
    for folder in folders or [path.parent for path in sorted(SHIPPED.glob("*/model.json"))]:
        draft = folder / f".README.md.{os.getpid()}"
        draft.write_text(card.update(folder, read_spec(folder)), encoding="utf-8")
        os.replace(draft, folder / "README.md")


if __name__ == "__main__":
    main()
