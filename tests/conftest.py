"""Settings of the whole suite."""

import os

# Workers of `pytest -n` share the cores; before torch is imported, and for what tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
