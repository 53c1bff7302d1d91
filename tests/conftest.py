"""Settings of the whole suite."""

import gc
import os

import pytest

# Workers of `pytest -n` share the cores; before torch is imported, and for what tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def own_objects():
    """Let the garbage collector see what the test makes alone: whoever counts waits for nothing."""
    gc.freeze()
    yield
    gc.unfreeze()
