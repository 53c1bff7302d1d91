"""Train every model for a short time and write `docs/gallery.md` with a picture of each.

    python docs/make_gallery.py --seconds 60 --files FOLDER
    python docs/make_gallery.py --models pinn_hjb wos_poisson2d

Each picture comes from `python train.py model=NAME`, cut off after `--seconds` of training, so
errors are those of a short run, not the ones in the guides. FOLDER holds the public files
`darcy_train_16.pt` and `mini_car.pt` of neuraloperator, for models of people's own files. Models
that were not asked for keep their row; `docs/pictures/gallery/rows.json` has the figures.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures" / "gallery"
WIDTH, COLORS = 640, 200  # pixels, and entries of the palette: 10 to 40 kB a picture
# The first that a run has: what was computed, before how well it was learned.
KINDS = ("fields", "ray", "error_over_time", "confusion", "iterations", "scatter", "losses")
SCORES = ("test/rel_l2", "test/accuracy", "test/iterations", "test/loss")

GROUPS = {
    "Problems of one unknown, up to many dimensions": """
        pinn_poisson2d pinn_poisson5d pinn_heat4d pinn_poisson pinn_sine_gordon pinn_allen_cahn
        pinn_biharmonic pinn_hjb pinn_hjb_linear pinn_hjb_rosenbrock pinn_bsb pinn_semilinear_heat
        pinn_schrodinger pinn_wave""",
    "Systems, shapes, data and unknowns": """
        pinn_burgers1d pinn_burgers2d pinn_poisson2d_holes pinn_poisson_boltzmann2d
        pinn_poisson3d_holes
        pinn_poisson2d_blocks pinn_heat2d_varying pinn_heat2d_multiscale pinn_heat2d_holes
        pinn_heat2d_long pinn_cavity pinn_step_flow pinn_channel_long pinn_wave1d
        pinn_wave2d_varying pinn_wave2d_long pinn_gray_scott pinn_kuramoto_sivashinsky
        pinn_poisson_nd pinn_heat_nd pinn_poisson_coefficient pinn_heat_coefficient
        pinn_helmholtz2d pinn_kovasznay pinn_system""",
    "Operators of elliptic problems": """
        wos_poisson2d wos_poisson2d_gino wos_poisson3d wos_screened2d wos_varcoef2d
        pino_poisson2d""",
    "Operators on files": "fno tfno uno unet fno_deq deeponet pod_deeponet cloud_unet gino fnogno",
    "Hard constraints": """
        moe_diffusion_sorption pihc_diffusion_sorption pisc_diffusion_sorption moe_navier_stokes
        pihc_navier_stokes pisc_navier_stokes moe_burgers pihc_burgers pisc_burgers moe_darcy
        pihc_darcy pisc_darcy""",
    "Equilibria and flows": """
        fno_deq_semilinear fno_deq_darcy fno_deq_navier_stokes deq_digits deq_cifar10
        homoode_digits homoode_cifar10 neural_ode_digits""",
    "Graphs": """
        cgs_heat cgs_porous cgs_resistor cgs_walks cgs_value_iteration cgs_chains cgs_tu""",
    "Cells of materials": """
        equino_disk equino_random equino_rve1 equino_rve2 equino_rve3 vpionet_disk""",
    "Linear systems and flows": "dcdm_2d dcdm_3d pressure_2d pressure_3d sol_burgers sol_wake",
}
FILES = {  # what is typed behind models of people's own
    **dict.fromkeys(
        ("fno", "tfno", "uno", "unet", "fno_deq", "deeponet", "pod_deeponet"),
        ("data.path=darcy_train_16.pt",),
    ),
    **dict.fromkeys(
        ("cloud_unet", "gino", "fnogno"),
        ("data.path=mini_car.pt", "data.points=vertices", "data.outputs=[press]"),
    ),
    "pinn_system": ("problem=kovasznay",),
}
WITHOUT = {  # models that this command cannot train by itself
    "deq_cifar10": "needs the files of CIFAR-10 and a GPU",
    "homoode_cifar10": "needs the files of CIFAR-10 and a GPU",
}


def main(argv: list[str] | None = None) -> int:
    """Train the models that were asked for, and write the page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="of training for each model")
    parser.add_argument("--files", type=Path, default=Path.cwd(), help="folder of public files")
    parser.add_argument("--models", nargs="*", help="names; all by default")
    given = parser.parse_args(argv)
    PICTURES.mkdir(parents=True, exist_ok=True)
    kept = PICTURES / "rows.json"
    rows = json.loads(kept.read_text()) if kept.exists() else {}
    every = [name for names in GROUPS.values() for name in names.split()]
    for name in given.models or every:
        if name in WITHOUT:
            continue
        row = trained(name, given.seconds, given.files)
        print(name, row, flush=True)
        if row:
            rows[name] = row
            kept.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    (ROOT / "docs" / "gallery.md").write_text(page(rows))
    return 0


def trained(name: str, seconds: int, files: Path) -> dict | None:
    """Train one model, keep its picture, and return its row; None where the run failed.

    Args:
        name: The model.
        seconds: The time of training, at the end of which the model is tested as always.
        files: Where public files lie.
    """
    first = (ROOT / "configs" / "model" / f"{name}.yaml").read_text().splitlines()[1]
    typed = [w for w in first.split("train.py ")[1].split() if "=FILE" not in w and ".py:" not in w]
    typed += FILES.get(name, ())
    found = [re.sub(r"^data\.path=", f"data.path={files}/", word) for word in typed]
    clock = f"00:{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    with tempfile.TemporaryDirectory() as folder:
        words = [*found, f"trainer.max_time={clock}", f"hydra.run.dir={folder}"]
        done = subprocess.run(
            [sys.executable, "train.py", *words], cwd=ROOT, capture_output=True, text=True
        )
        record = Path(folder, "metrics.json")
        if done.returncode or not record.exists():
            print(done.stderr[-600:], file=sys.stderr)
            return None
        run = json.loads(record.read_text())
        plots = {p.stem: p for p in Path(folder, "plots").glob("*.png")}
        kind = next((k for k in KINDS if k in plots), None) or next(iter(plots), None)
        if kind is None:
            print(f"{name}: no picture", file=sys.stderr)
            return None
        shrink(plots[kind], PICTURES / f"{name}.png")
    score = next((key for key in SCORES if key in run["metrics"]), None)
    return {
        "typed": " ".join(["python train.py", *typed]),
        "score": None if score is None else [score, run["metrics"][score]],
        "steps": run.get("steps"),
        "picture": kind,
    }


def shrink(source: Path, target: Path) -> None:
    """Write a small copy of a picture with a palette."""
    with Image.open(source) as image:
        image = image.convert("RGB")
        image.thumbnail((WIDTH, 2 * WIDTH), Image.Resampling.LANCZOS)
        # an octree: median cut gives rare colours, the ends of a scale, those of other pixels
        image.quantize(COLORS, Image.Quantize.FASTOCTREE).save(target, optimize=True)


def page(rows: dict[str, dict]) -> str:
    """Return the text of the gallery."""
    lines = [
        "# Gallery",
        "",
        "A picture of every model, made by `python docs/make_gallery.py`: the command above it,",
        "cut off after a short time on one CPU core. Figures are of that short run; the guides",
        "have the ones of whole runs.",
    ]
    for title, names in GROUPS.items():
        lines += ["", f"## {title}"]
        for name in names.split():
            lines += ["", f"### {name}", ""]
            if name not in rows:
                lines.append(f"No picture: {WITHOUT.get(name, 'not made yet')}.")
                continue
            row = rows[name]
            told = f", {row['steps']} steps" if row["steps"] else ""
            if row["score"]:
                told += f", {row['score'][0]} = {row['score'][1]:.3g}"
            lines += [f"`{row['typed']}`{told}", "", f"![{name}](pictures/gallery/{name}.png)"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
