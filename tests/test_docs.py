"""What README, CONTRIBUTING and docs/ show works: programs run, command lines are accepted.

The programs of a page run one after the other with the same names. A comment before a block makes
it smaller for the test: `<!-- test: steps=1000 -> steps=300 -->`, several of them separated by `;`.
Command lines are checked as typed; those of `sciml` run, at the sizes of `SMALL`.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from sciml.cli import main as cli
from sciml.cli import train
from sciml.testing import small_files
from sciml.testing.runs import compose

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *ROOT.glob("CONTRIBUTING.md")]
BLOCK = re.compile(r"(?:<!-- test: (.*?) -->\n+)?```(\w*)\n(.*?)```", re.DOTALL)
RUNS = re.compile(r"runs/(\w+)/[\d_-]+")
SMALL = {
    "simulate fe2": [],
    "simulate": ["steps=2", "grid=16"],
    "verify": ["--problems=8", "--points=4", "--walks=64", "--tolerance=9"],
}
PER_PAGE = {page.relative_to(ROOT).as_posix(): page.read_text("utf-8") for page in PAGES}


def blocks(text, *languages):
    """Yield the code blocks of a page in these languages, at the size of the test."""
    for smaller, language, code in BLOCK.findall(text):
        if language in languages:
            for change in filter(None, smaller.split(";")):
                before, after = change.split("->")
                assert before.strip() in code, f"{before.strip()} is not in the block after it"
                code = code.replace(before.strip(), after.strip())
            yield code


def lines(text):
    """Return the command lines of a page, without comments."""
    words = (shlex.split(w, comments=True) for code in blocks(text, "") for w in code.splitlines())
    ours = [w for w in words if w[:2] == ["python", "train.py"] or w[:1] == ["sciml"]]
    return [w for w in ours if "plugins=mylab" not in w]  # tests/cli/test_plugins.py has these


@pytest.fixture
def folder(tmp_path, monkeypatch, request):
    """An empty folder with the run folders that a page names."""
    monkeypatch.chdir(tmp_path)
    for run in RUNS.finditer(PER_PAGE[request.param]):
        if not Path(run[0]).exists():
            words = [f"model={run[1]}", "debug=fast", f"hydra.run.dir={run[0]}"]
            assert train.main(words) == 0
    if "files/" in PER_PAGE[request.param]:  # of a user's own
        small_files.write_all(Path("files"))
    for words in lines(PER_PAGE[request.param]):
        if any(w.startswith("hydra.run.dir=runs/") for w in words):
            words = [w for w in words[2:] if not w.startswith("trainer.max_steps=")]
            assert train.main([*words, "debug=fast", "trainer.max_steps=2"]) == 0
    x, t = np.zeros((3, 100), "float32"), np.zeros((3, 1), "float32")
    np.savez("points.npz", x=x, t=t)
    return request.param


# Half a minute each: trainings, an export, a structure.
LONG = ("docs/own_data.md", "docs/loading.md", "docs/fe2.md", "docs/index.md")


def pages(shows):
    """Return the pages that show something, the long ones marked."""
    found = [name for name, text in PER_PAGE.items() if any(shows(text))]
    return [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in found]


@pytest.mark.filterwarnings("ignore::sciml.errors.RangeWarning")  # of samples beyond training
@pytest.mark.parametrize("folder", pages(lambda text: blocks(text, "python")), indirect=True)
def test_programs_run(folder):
    names = {"__name__": "__main__"}
    for code in blocks(PER_PAGE[folder], "python"):
        exec(compile(code, folder, "exec"), names)  # our own pages


@pytest.mark.parametrize("folder", pages(lines), indirect=True)
def test_command_lines_are_accepted(folder, capsys):
    for program, *words in lines(PER_PAGE[folder]):
        if program == "python":
            if "--help" in words:
                assert train.main(words[1:]) == 0
            else:
                words = [w for w in words[1:] if w not in ("-m", "--cfg", "job")]
                compose([w for w in words if not w.startswith("ckpt_path=")])
        else:
            smaller = SMALL.get(" ".join(words[:2]), SMALL.get(words[0], []))
            keys = [w.partition("=")[0] for w in smaller]
            words = [w for w in words if w.partition("=")[0] not in keys]
            assert cli.main([*words, *smaller]) == 0, (words, capsys.readouterr().err)
