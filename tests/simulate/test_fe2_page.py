"""The programs of docs/fe2.md run as they stand."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "fe2.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_programs_run(number, capsys):
    exec(compile(PROGRAMS[number], f"{PAGE.name}, program {number}", "exec"), {})
    said = capsys.readouterr().out
    if "force" in PROGRAMS[number]:  # the law and the cells pull alike, up to their coarse mesh
        law, cells = (float(v) for v in re.findall(r"force (\S+),", said))
        assert law == pytest.approx(cells, rel=2e-2)
