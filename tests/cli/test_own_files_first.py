"""Wrong files, arrays and keys of own data are told before torch and lightning are imported."""

import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """
import sys
from sciml.cli import main
code = main.main(sys.argv[1:])
print("imported", *sorted({"torch", "lightning"} & set(sys.modules)), "code", code)
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "model=fno", "data.path={path}", "data.pth=3"], "Did you mean data.path?"),
        (
            ["train", "model=fno", "data.path={path}", "data.inputs=[q]"],
            "data.inputs=q is no array",
        ),
        (["train", "model=unet", "data.path={path}x"], "there is no file"),
        (["train", "model=fno", "data.path={path}", "data.test_path=[no.h5]"], "no file no.h5"),
        (["train", "model=gino", "data.path=no.npz"], "there is no file no.npz"),
        (["inspect", "{path}", "data.pth=3"], "Did you mean data.path?"),
        (["inspect", "{path}", "data.outputs=[q]"], "data.outputs=q is no array"),
    ],
)
def test_no_second_is_lost_over_what_is_wrong(tmp_path, words, said):
    path = tmp_path / "pairs.npz"
    np.savez(path, x=np.zeros((20, 8, 8)), y=np.ones((20, 8, 8)))
    words = [w.format(path=path) for w in words]
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, timeout=120,
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert found.stdout.splitlines()[-1] == "imported code 2" and said in found.stderr, found
