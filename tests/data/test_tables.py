"""Tables: how columns are parted, numbered and named."""

import numpy as np
import pytest

from sciml.data.readers import open_source
from sciml.errors import InvalidArgument

X, Y = np.random.default_rng(0).standard_normal((2, 12, 8)).round(6)
NAMES = [f"x{k}" for k in range(8)] + [f"y{k}" for k in range(8)]


def write(path, names=NAMES, values=None, mark=",", coding="utf-8"):
    values = np.concatenate([X, Y], 1) if values is None else values
    lines = [mark.join(names), *(mark.join(map(str, row)) for row in values)]
    path.write_bytes("\r\n".join(lines).encode(coding))
    return path


@pytest.mark.parametrize("mark", [",", ";", "\t", " "])
def test_columns_are_parted_by_what_the_header_has(tmp_path, mark):
    arrays = open_source(write(tmp_path / "a.csv", mark=mark)).arrays
    np.testing.assert_array_equal(arrays["x"].rows(slice(None)), X)
    np.testing.assert_array_equal(arrays["y"].rows(slice(None)), Y)


def test_columns_stand_in_the_order_of_their_numbers(tmp_path):
    order = np.random.default_rng(1).permutation(16)
    values = np.concatenate([X, Y], 1)[:, order]
    source = open_source(write(tmp_path / "a.csv", [NAMES[k] for k in order], values))
    np.testing.assert_array_equal(source.arrays["y"].rows(slice(None)), Y)
    assert not source.notes


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([*NAMES[:-1], "y5"], "'y5' and 'y5'"),
        ([f"x_{k}" for k in range(4)] + [f"x{k}" for k in range(4)] + NAMES[8:], "'x_0' and 'x0'"),
        ([*NAMES[:7], "x", *NAMES[8:]], "'x0' and 'x'"),
        ([*NAMES[:7], "x03", *NAMES[8:]], "'x3' and 'x03'"),
    ],
)
def test_columns_that_meet_in_one_array_are_refused(tmp_path, names, said):
    with pytest.raises(InvalidArgument, match=f"{said}.*every column once.*Rename"):
        open_source(write(tmp_path / "a.csv", names))


@pytest.mark.parametrize(
    ("numbers", "said"),
    [(range(40, 48), "y40 to y47; they"), ([0, 1, 2, 3, 4, 5, 6, 9], "y0 to y9, without number 7")],
)
def test_gaps_in_numbers_are_told(tmp_path, numbers, said):
    source = open_source(write(tmp_path / "a.csv", NAMES[:8] + [f"y{k}" for k in numbers]))
    assert any(said in note for note in source.notes)
    np.testing.assert_array_equal(source.arrays["y"].rows(slice(None)), Y)


def test_an_index_without_a_name_is_left_out(tmp_path):
    values = np.concatenate([np.arange(12.0)[:, None], X, Y], 1)
    source = open_source(write(tmp_path / "a.csv", ["", *NAMES], values))
    assert set(source.arrays) == {"x", "y"} and any("without a name" in n for n in source.notes)


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "latin-1"])
def test_other_codings_of_names(tmp_path, coding):
    names = NAMES[:8] + [f"höhe{k}" for k in range(8)]
    source = open_source(write(tmp_path / "a.csv", names, coding=coding))
    np.testing.assert_array_equal(source.arrays["höhe"].rows(slice(None)), Y)
    assert any("Latin-1" in note for note in source.notes) == (coding == "latin-1")


def test_what_is_no_table_is_told(tmp_path):
    (tmp_path / "a.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InvalidArgument, match="no text"):
        open_source(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("x0 y0\n0,5 1,5\n")
    with pytest.raises(InvalidArgument, match=r"line 2, column x0: '0,5'.*a point"):
        open_source(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_text("\n\n")
    with pytest.raises(InvalidArgument, match="is empty"):
        open_source(tmp_path / "c.csv")
