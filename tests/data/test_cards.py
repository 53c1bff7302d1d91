"""Data cards: every command in them makes the file whose checksum stands beside it."""

import platform
import re

import pytest
import torch

from sciml.cli.main import main
from sciml.cli.paths import config_dir

CARDS = config_dir().parent / "datasets"
COMMAND = re.compile(r"^sciml export-data (data=\S+.*?)\n\s+# ([0-9a-f]{64})$", re.M)


def recipes():
    """Return (words, SHA-256) of every command in a card."""
    found = []
    for card in sorted(CARDS.glob("*/README.md")):
        for words, digest in COMMAND.findall(card.read_text(encoding="utf-8")):
            found.append(pytest.param(words.split(), digest, id=words.split()[0]))
    return found


def test_every_family_of_elliptic_problems_has_a_checksum():
    named = {param.id.removeprefix("data=") for param in recipes()}
    assert {
        "star_poisson",
        "star_clouds",
        "star_screened",
        "star_diffusion",
        "box_poisson",
    } <= named


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() != "x86_64" or not torch.__version__.startswith("2.13"),
    reason="checksums are of x86-64 and torch 2.13",
)
@pytest.mark.parametrize(("words", "digest"), recipes())
def test_a_card_is_made_again(words, digest, tmp_path, capsys):
    """pytest -m slow tests/data/test_cards.py -k star_screened: 7 s each for elliptic problems."""
    words = [w for w in words if not w.startswith("out=")] + [f"out={tmp_path / 'set.h5'}"]
    assert main(["export-data", *words]) == 0
    assert digest in capsys.readouterr().out
