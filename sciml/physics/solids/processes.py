"""Independent cases on several processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CHUNKS = 4  # per worker: large enough to send little, small enough to share the work evenly

_FUNCTION: list[Callable] = []  # what this worker process computes, sent to it once


def in_processes(function: Callable, cases: list[tuple], workers: int) -> list:
    """Return `function(*case)` of all cases in order, computed by `workers` processes.

    Processes are started afresh (a fork of a process with threads may hang), so `function` must
    be picklable and a script needs `if __name__ == "__main__":` around what it runs.
    """
    context = multiprocessing.get_context("spawn")
    chunk = max(1, len(cases) // (CHUNKS * workers))
    with (
        one_thread(),
        ProcessPoolExecutor(workers, context, initializer=_adopt, initargs=(function,)) as pool,
    ):
        return list(pool.map(_call, cases, chunksize=chunk))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let processes that start meanwhile use one thread each; BLAS reads this when it is loaded."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _adopt(function: Callable) -> None:
    _FUNCTION[:] = [function]


def _call(case: tuple) -> object:
    return _FUNCTION[0](*case)
