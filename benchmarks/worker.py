"""One side at one size, in a process of its own that answers to its parent.

Reads one JSON request per line and answers each with one JSON line on the original stdout
(whatever a package prints goes to stderr). Requests: the case, then `{"run": n}` any number of
times. A process of its own per cell keeps thread pools, compilers and peak memory apart.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

MB = 1 / 1024


def peak() -> float:
    """Return the largest resident memory in MB since the last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MB


def current() -> float:
    """Return the resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024 * MB


def reset() -> bool:
    """Forget the peak so far; return False where the system does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def limit_threads(threads: int) -> None:
    """Confine this process to as many cores as threads, before anything counts cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    eigen = "true" if threads > 1 else "false"
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={eigen}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"


def prepare(request: dict) -> tuple[object, dict]:
    """Build a side and return it with its residual and memory."""
    limit_threads(request["case"]["threads"])
    from sides import SIDES, Case, Numbers

    started = time.perf_counter()
    numbers = Numbers(Case(**request["case"]))
    side = SIDES[request["side"]].make(numbers)
    del numbers
    exact = reset()
    baseline = current()
    first_residual = side.residual().tolist()
    side.step()  # compiles, makes the state of Adam
    first_peak = peak()
    reset()
    side.step()
    later_peak = peak()
    # "steady" leaves out what a compiler needed once.
    memory = {
        "exact": exact,
        "baseline_mb": baseline,
        "extra_mb": max(first_peak, later_peak) - baseline,
        "steady_mb": later_peak - baseline,
        "process_mb": max(first_peak, later_peak),
    }
    setup = time.perf_counter() - started
    return side, {"residual": first_residual, "memory": memory, "setup_s": setup}


def run(side, count: int) -> dict:
    """Time `count` steps one by one, after one that warms the caches where that is cheap."""
    if count > 1:
        side.step()
    wall, cpu = [], []
    for _ in range(count):
        t, c = time.perf_counter(), time.process_time()
        side.step()
        wall.append(time.perf_counter() - t)
        cpu.append(time.process_time() - c)
    return {"wall": wall, "cpu": cpu}


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    side = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if side is None:
                side, answer = prepare(request)
            else:
                answer = run(side, request["run"])
        except (ImportError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError) as e:
            answer = {"error": f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"}
        out.write(json.dumps(answer) + "\n")
        out.flush()
        if "error" in answer:
            return


if __name__ == "__main__":
    main()
