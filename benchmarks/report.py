"""Tables, targets and plot of the step-time benchmark."""

from __future__ import annotations

from pathlib import Path

from sides import ESTIMATE, SIDES


def find(rows: list[dict], threads: int, side: str, dim: int, sampled: int = 16) -> dict | None:
    """Return the measured row of a cell, None if it was not run or failed."""
    for row in rows:
        key = (row["threads"], row["side"], row["dim"], row["sampled"])
        if key == (threads, side, dim, sampled) and "error" not in row:
            return row
    return None


def targets(rows: list[dict]) -> list[dict]:
    """Return every target with what was measured; ratios are of minimum step times."""
    out = []

    def add(threads: int, text: str, value: float | None, limit: float, below: bool = True) -> None:
        if value is not None:
            met = value <= limit if below else value >= limit
            out.append(
                {"threads": threads, "target": text, "measured": round(value, 3), "met": met}
            )

    def ratio(a: dict | None, b: dict | None) -> float | None:
        return a["min_ms"] / b["min_ms"] if a and b else None

    for threads in sorted({row["threads"] for row in rows}):

        def cell(side: str, dim: int, k: int = 16, threads: int = threads) -> dict | None:
            return find(rows, threads, side, dim, k)

        for side in ("sciml", "sciml_compiled"):
            name = SIDES[side].label
            small, large, ours = cell(side, 100), cell(side, 10_000), cell(side, 100, 100)
            add(threads, f"{name}: d=10000 / d=100 <= 4", ratio(large, small), 4)
            loop = ratio(large, cell("loop", 10_000))
            add(threads, f"{name} / loop, d=10000 <= 1/10", loop, 0.1)
            more = ratio(cell(side, 100_000, 64), cell(side, 100_000))
            add(threads, f"{name}: K=64 / K=16, d=100000 <= 1.3", more, 1.3)
            if large:
                text = f"{name}: extra MB at d=10000 < 100 (after compiling)"
                add(threads, text, large["steady_mb"], 100)
            if huge := cell(side, 1_000_000):
                text = f"{name}: process GB at d=1000000 < 5"
                add(threads, text, huge["process_mb"] / 1024, 5)
            for peer in ("deepxde", "pina"):
                text = f"{SIDES[peer].label} / {name}, d=100, full Laplacian >= 10"
                add(threads, text, ratio(cell(peer, 100, 100), ours), 10, below=False)
            for dim in sorted({row["dim"] for row in rows}):
                # The faster of the two forms of the peer counts.
                found = [cell(s, dim) for s in ("jax", "jax_sampled_lift")]
                found = [row for row in found if row]
                if found:
                    best = min(found, key=lambda row: row["min_ms"])
                    value = ratio(best, cell(side, dim))
                    add(threads, f"JAX (faster form) / {name}, d={dim} > 1", value, 1, below=False)
    return out


def tables(rows: list[dict], checked: list[dict]) -> str:
    """Return the step times, the memory and the targets as text."""
    dims = sorted({row["dim"] for row in rows})
    lines = []
    for threads in sorted({row["threads"] for row in rows}):
        for title, key in (
            ("step time in ms, minimum / median, K = 16", "time"),
            ("extra memory in MB: first step with compiler / later steps, K = 16", "memory"),
        ):
            lines += ["", f"{threads} thread(s): {title}"]
            lines.append(f"{'':28s}" + "".join(f"{f'd={d}':>20s}" for d in dims))
            for side in ESTIMATE:
                found = [find(rows, threads, side, d) for d in dims]
                if any(found):
                    texts = [_entry(row, key) for row in found]
                    lines.append(f"{SIDES[side].label:28s}" + "".join(f"{t:>20s}" for t in texts))
        full = [r for r in rows if r["threads"] == threads and r["sampled"] == r["dim"] == 100]
        lines += ["", f"{threads} thread(s): full Laplacian, d = 100, minimum / median in ms, MB"]
        for row in full:
            text = row.get("error") or f"{_entry(row, 'time')}   {_entry(row, 'memory')}"
            lines.append(f"{SIDES[row['side']].label:28s}{text}")
    missing = {SIDES[r["side"]].label: r["error"] for r in rows if "error" in r}
    if missing:
        lines += ["", "did not run:", *(f"  {name}: {why}" for name, why in missing.items())]
    lines += ["", f"{'target':64s}{'threads':>8s}{'measured':>10s}  met"]
    for t in checked:
        met = "yes" if t["met"] else "NO"
        lines.append(f"{t['target']:64s}{t['threads']:8d}{t['measured']:10.3g}  {met}")
    return "\n".join(lines)


def _entry(row: dict | None, key: str) -> str:
    if row is None:
        return "-"
    if key == "time":
        return f"{row['min_ms']:.3g} / {row['median_ms']:.3g}"
    return f"{row['extra_mb']:.0f} / {row['steady_mb']:.0f}"


def plot(rows: list[dict], path: Path) -> None:
    """Draw step time against d for all sides, one panel per number of threads."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    counts = sorted({row["threads"] for row in rows})
    figure, axes = plt.subplots(
        1, len(counts), figsize=(5.5 * len(counts), 4.6), sharey=True, squeeze=False
    )
    for axis, threads in zip(axes[0], counts, strict=True):
        for number, side in enumerate(SIDES):
            ours = side.startswith("sciml")
            style = {"color": f"C{number}", "linewidth": 2.2 if ours else 1.2}
            mine = [r for r in rows if r["threads"] == threads and r["side"] == side]
            mine = [r for r in mine if "error" not in r]
            points = sorted((r["dim"], r["min_ms"]) for r in mine if r["sampled"] == 16)
            if points:
                label = SIDES[side].label
                axis.loglog(*zip(*points, strict=True), "o-", ms=4, label=label, **style)
            full = [(r["dim"], r["min_ms"]) for r in mine if r["sampled"] == r["dim"] == 100]
            if full:
                label = f"{SIDES[side].label}, full Laplacian"
                axis.loglog(*zip(*full, strict=True), "x", ms=8, mew=2, label=label, **style)
        axis.set(xlabel="dimension d", title=f"{threads} thread{'s' * (threads > 1)}")
        axis.grid(which="major", alpha=0.3)
    axes[0, 0].set_ylabel("one training step, minimum (ms)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    title = "Sine-Gordon, MLP 4 x 128, K = 16, N = 100 (N = 16 at d = 1 000 000)"
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
