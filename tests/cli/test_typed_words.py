"""Words of a command line, one by one: which are usable, and what is said about the others."""

import pytest

from sciml.cli import paths
from sciml.cli.checks import values
from sciml.cli.typed import overrides, schema
from sciml.cli.typed.typed_words import FOLLOWING, NEEDED, check_word, parse, parsed_words

USABLE = ["model=toy", "~schedule", "schedule=null", "seed=1,2", "hydra.run.dir=x"]
USABLE += [f"{key}=null" for key in FOLLOWING]
# word: what is said of it
REFUSED = {f"{key}=mine": f"{key} follows from model" for key in FOLLOWING}
REFUSED |= {f"~{key}": f"Type the keys, or {key}=null" for key in FOLLOWING}
REFUSED |= {f"~{key}": f"Type {key}=NAME." for key in NEEDED}
REFUSED |= {f"+{key}=a": f"Type {key}=NAME." for key in NEEDED}
REFUSED |= {
    "+schedule=step": "Type schedule=NAME, or schedule=null for none.",
    "++schedule=step": "Type schedule=NAME, or schedule=null for none.",
    "model@there=toy": "moves a group to another place",
    "hydra.job.chdir=true": "hydra.job.chdir cannot be set here",
    "~hydra.run.dir": "cannot be removed",
    "hydra.run.dir=[a]": "takes a word or a number",
    "seed=range(100000)": "more than 10000 runs",
    "seed=range(0)": "names no values",
}


@pytest.mark.parametrize("word", [*USABLE, *REFUSED])
def test_check_word(word):
    findings = []
    usable = check_word(parsed_words([word])[0], paths.config_dir(), findings)
    assert usable == (word in USABLE) == (not findings)
    if word in REFUSED:
        assert len(findings) == 1 and REFUSED[word] in findings[0]


def test_nan_is_a_word_for_the_key_that_takes_it(monkeypatch):
    monkeypatch.setenv(paths.STAMP, "now")
    schema.register()
    for word in ("data.skip=nan", "data.skip=NaN", "++data.skip=nan", "data.skip='nan'"):
        line = overrides.read(["model=fno", "data.path=a.npz", word], paths.config_dir())
        assert line.findings == [] and line.config["data"]["skip"] == "nan", word
    words = ["model=fno", "data.path=a.npz", "data.skip=[3,4]", "data.noise=nan"]
    line = overrides.read(words, paths.config_dir())
    assert line.config["data"]["skip"] == [3, 4]
    found = values.numbers(line.config)  # of all others it is no value
    assert found == ["data.noise=nan is not a number. Expected a finite number."]


def test_text_with_marks_of_hydra_is_shown_in_quotation_marks():
    findings: list = []
    word = "data.path=mein ordner/groesse=1, (a).npz"
    assert parse([word], paths.config_dir(), findings) == []
    typed = findings[0].split('quote it: "')[1].removesuffix('".')
    assert str(parsed_words([typed])[0].value()) == "mein ordner/groesse=1, (a).npz"
    for other in ("data.axes={u: [n", "data.path='a", "a=[1,"):
        findings.clear()
        parse([other], paths.config_dir(), findings)
        assert "quote" not in findings[0]
