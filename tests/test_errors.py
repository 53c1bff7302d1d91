"""Messages, and the names they suggest."""

import itertools
import pickle
from pathlib import Path

import pytest

from sciml.errors import InvalidArgument, did_you_mean, nearest, one_mistake

CONFIGS = Path(__file__).parents[1] / "configs"


def distance(a, b):
    """Insertions, deletions, substitutions and swaps of neighbours, by the textbook's table."""
    table = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i, j in itertools.product(range(1, len(a) + 1), range(1, len(b) + 1)):
        changed = a[i - 1] != b[j - 1]
        ways = [table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + changed]
        if min(i, j) > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
            ways.append(table[i - 2, j - 2] + 1)
        table[i, j] = min(ways)
    return table[len(a), len(b)]


def test_one_mistake_is_a_distance_of_at_most_one():
    words = ["".join(w) for n in range(5) for w in itertools.product("abc", repeat=n)]
    found = [one_mistake(a, b) for a in words[::3] for b in words]
    assert found == [distance(a, b) <= 1 for a in words[::3] for b in words]
    assert 0 < sum(found) < len(found) / 2


@pytest.mark.parametrize(
    ("typed", "options", "expected"),
    [
        ("sopa", ["soap", "sophia"], "soap"),  # sophia has more letters in common
        ("cgs_value", ["cgs_walks", "cgs_value_iteration"], "cgs_value_iteration"),
        ("KFAC", ["kfac", "mkor", "ekfac"], "kfac"),
        ("lr", ["fallback_lr", "lr2"], "lr2"),
        ("adagrda", ["adadelta", "adagrad", "adam"], "adagrad"),
        ("xyz", ["adam", "kfac"], None),
        ("", ["adam"], None),
        ("adam", [], None),
    ],
)
def test_what_is_suggested(typed, options, expected):
    assert nearest(typed, options) == nearest(typed, reversed(options)) == expected


@pytest.mark.parametrize("group", ["model", "optimizer", "solver", "network"])
def test_swapped_letters_find_every_name_of_the_command_line(group):
    names = {path.stem for path in (CONFIGS / group).glob("*.yaml")}
    assert len(names) > 3
    for name in names:
        for i in range(len(name) - 1):
            typed = name[:i] + name[i + 1] + name[i] + name[i + 2 :]
            if not any(one_mistake(typed, other) for other in names - {name}):
                assert nearest(typed, names) == name


def test_the_sentence_lists_all():
    assert did_you_mean("sopa", ["sophia", "soap"]) == (
        "Did you mean 'soap'? Available: soap, sophia"
    )
    assert did_you_mean("xyz", ["b", "a"]) == "Available: a, b"


def test_an_error_has_three_parts_and_survives_a_process_boundary():
    error = InvalidArgument("x=1", "a positive number.", "Type x=2")
    assert str(error) == "x=1. Expected a positive number. Type x=2."
    other = pickle.loads(pickle.dumps(error))
    assert str(other) == str(error) and other.hint == "Type x=2"
    assert isinstance(error, ValueError)
