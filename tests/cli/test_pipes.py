"""A reader that has seen enough, as in `sciml list | head -1`, is no error of any verb."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "words", [["list"], ["simulate", "smoke", "--help"], ["export-data", "-h"]]
)
def test_a_closed_pipe_is_no_error(words):
    run = "import sys; from sciml.cli.main import main; sys.exit(main())"
    program = [sys.executable, "-c", run, *words]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # before anything is written
        said = process.stderr.read().decode()
    assert said == "" and process.returncode == 0
