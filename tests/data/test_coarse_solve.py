"""A classical solve as input and base of a network: the solver, its fit, its place in a run."""

import numpy as np
import pytest
import torch

import sciml
from sciml.cli.main import main
from sciml.data.field_files import FieldFiles
from sciml.errors import ConfigError, InvalidArgument
from sciml.physics.evolution import Burgers
from sciml.physics.steady import Darcy, NodalDarcy
from sciml.testing import runs

NODAL = "data.coarse={_target_: sciml.physics.steady.NodalDarcy}"


def media(count, n, seed=0):
    """Return zeros and ones in patches `(count, 1, n, n)`."""
    draw = torch.Generator().manual_seed(seed)
    rough = torch.rand(count, 1, n // 4, n // 4, generator=draw)
    return (rough > 0.5).double().repeat_interleave(4, 2).repeat_interleave(4, 3)


def darcy(path, count=60, n=8):
    """Write media and the solutions of a matrix that is put together entry by entry."""
    x = media(count, n)
    y = torch.stack([by_hand(1.0 + 4.0 * sample[0]) for sample in x])
    np.savez(path, x=x[:, 0].numpy(), y=y.numpy())
    return path


def by_hand(a):
    """Return the solution on the nodes i / n of one medium by a dense matrix."""
    n = len(a)
    wide = torch.cat([a, a[-1:]])
    wide = torch.cat([wide, wide[:, -1:]], 1)
    inner = {(i, j): k for k, (i, j) in enumerate(np.ndindex(n - 1, n - 1))}
    matrix = torch.zeros(len(inner), len(inner), dtype=torch.float64)
    for (i, j), row in inner.items():
        here = wide[i + 1, j + 1]
        for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            there = wide[i + 1 + di, j + 1 + dj]
            w = 2 * here * there / (here + there) * n**2
            matrix[row, row] += w
            if (i + di, j + dj) in inner:
                matrix[row, inner[i + di, j + dj]] -= w
    u = torch.zeros(n, n, dtype=torch.float64)
    u[1:, 1:] = torch.linalg.solve(matrix, torch.ones(len(inner)).double()).reshape(n - 1, n - 1)
    return u


def test_solves_on_nodes_as_a_dense_matrix_does_and_converges_to_the_cells():
    x = media(3, 8)
    found = NodalDarcy(1.0, 5.0).solve(x)
    assert bool(found.converged.all())
    wanted = torch.stack([by_hand(1.0 + 4.0 * sample[0]) for sample in x])
    torch.testing.assert_close(found.value[:, 0], wanted, rtol=1e-7, atol=1e-9)
    n = 64  # where a is smooth, the two discretisations agree
    i = torch.arange(n).double() / n
    smooth = 1 + 0.5 * torch.sin(3 * i)[:, None] * torch.cos(2 * i)
    nodes = NodalDarcy(0.0, 1.0).solve(smooth[None, None]).value[0, 0]
    i = i + 0.5 / n
    smooth = 1 + 0.5 * torch.sin(3 * i)[:, None] * torch.cos(2 * i)
    cells = Darcy(n).solve(smooth[None]).value[0]
    middle = (cells[31:33, 31:33].mean(), nodes[32, 32])
    assert float(middle[0]) == pytest.approx(float(middle[1]), rel=2e-3)


def test_numbers_are_fitted_to_known_solutions(tmp_path):
    held = np.load(darcy(tmp_path / "a.npz"))
    x, y = (torch.from_numpy(held[k])[:, None] for k in "xy")
    found = NodalDarcy().fitted(x, y)
    assert found.low == pytest.approx(1.0, rel=2e-2)
    assert found.high == pytest.approx(5.0, rel=2e-2)
    assert NodalDarcy(2.0, 3.0).fitted(x, y).low == 2.0
    with pytest.raises(InvalidArgument, match="inputs from 0 to 7"):
        NodalDarcy().fitted(7 * x, y)
    with pytest.raises(InvalidArgument, match="low=1.0 with high=None"):
        NodalDarcy(low=1.0)


def test_a_solver_on_another_grid_than_the_fields_is_refused(tmp_path):
    path = str(darcy(tmp_path / "a.npz", count=20))
    with pytest.raises(InvalidArgument, match="grid=both for fields on a grid called left"):
        FieldFiles(path=path, coarse=NodalDarcy(1.0, 5.0, grid="both"))
    assert FieldFiles(path=path, coarse=NodalDarcy(1.0, 5.0)).fields.solved == 1


def test_statistics_are_those_of_what_is_left_to_learn(tmp_path):
    path = darcy(tmp_path / "a.npz")
    solver = NodalDarcy(1.0, 6.0)
    data = FieldFiles(path=str(path), coarse=solver, symmetries=["transpose"], batch_size=8)
    held, rows = np.load(path), data.chosen["train"]
    x, y = (torch.from_numpy(held[k][rows])[:, None] for k in "xy")
    rest = y - solver.solve(x).value
    plain = data.sizes["fields"]
    assert plain["out_std"][0] == pytest.approx(float(rest.std(correction=0)), rel=1e-6)
    assert plain["solved"] == 1 and len(plain["mean"]) == 2
    batch = data.batch(0)  # seen through a symmetry, the solve is that of what is seen
    again = solver.solve(batch.inputs["x"][:, None]).value
    torch.testing.assert_close(batch.extra["solved"], again, rtol=1e-5, atol=1e-7)


def test_a_network_corrects_the_solve_and_says_what_that_brings(tmp_path):
    path = darcy(tmp_path / "a.npz")
    words = ["model=unet", f"data.path={path}", NODAL[:-1] + ", low: 1.0, high: 6.0}",
             "network.width=8", "optimizer.lr=3e-3"]  # fmt: skip
    trainer = {"max_steps": 150, "limit_val_batches": 0}
    run = runs.prepare(words, tmp_path / "run", callbacks=["export"], trainer=trainer)
    packed = run.module.fields.pack(run.data.known("test", 5)[0])
    solved = NodalDarcy(1.0, 6.0).solve(packed).value
    torch.testing.assert_close(run.module.network.solve(packed), solved, rtol=1e-6, atol=1e-9)
    runs.fit(run)
    run.trainer.test(run.module, run.data, verbose=False)
    report = run.module.test_report
    assert report["metrics"]["test/rel_l2"] < 0.5 * report["baselines"]["coarse"]
    assert report["baselines"]["coarse"] == pytest.approx(
        report["metrics"]["test/coarse/rel_l2"], rel=1e-6
    )
    op = sciml.load_pretrained(tmp_path / "run")
    given, target = run.data.known("test", 5)
    with torch.no_grad():
        wanted = run.module.network.eval()(**{k: v.float() for k, v in given.items()})
    torch.testing.assert_close(op.predict(**given)["y"], wanted[:, 0], rtol=1e-6, atol=1e-8)
    assert main(["verify", str(tmp_path / "run"), "-o", str(tmp_path / "v.png")]) == 0
    bound = ["--tolerance", "1e-9", "-o", str(tmp_path / "v.png")]
    assert main(["verify", str(tmp_path / "run"), *bound]) == 1


def test_problems_in_time_are_solved_on_their_own_grid(tmp_path, capsys):
    fine = Burgers(points=64, time_count=5, horizon=0.4, viscosity=0.05)
    x = fine.sample(24, torch.Generator().manual_seed(0))
    np.savez(tmp_path / "a.npz", x=x[:, 0].numpy(), y=fine.solve(x).value.numpy())
    coarse = Burgers(points=48, time_count=5, horizon=0.4, viscosity=0.05)
    data = FieldFiles(path=str(tmp_path / "a.npz"), coarse=coarse)
    solved = data.coarse(data.chosen["train"][:4], data.known("train", 100)[0])
    assert solved.shape[1:] == (5, 64)
    same = FieldFiles(path=str(tmp_path / "a.npz"), coarse=fine)  # the solver of the data
    given, target = same.known("train", 100)
    solved = same.coarse(same.chosen["train"], given)
    torch.testing.assert_close(solved, target, rtol=1e-9, atol=1e-12)
    with pytest.raises(InvalidArgument, match="Burgers with 3 channels out"):
        FieldFiles(path=str(tmp_path / "a.npz"), coarse=Burgers(points=64, time_count=3))
    with pytest.raises(ConfigError, match="is no coarse"):
        runs.prepare(["model=fno", f"data.path={tmp_path / 'a.npz'}",
                      "data.coarse={_target_: sciml.optim.KFAC}"], tmp_path)  # fmt: skip
