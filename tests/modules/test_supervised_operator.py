"""Operators trained on files: what is learned, reported, saved, continued and passed on."""

import json
import re

import numpy as np
import pytest
import torch

import sciml
from sciml.cli.main import main
from sciml.cli.runs import initial
from sciml.data.field_files import FieldFiles
from sciml.errors import ConfigError, InvalidArgument, RangeWarning
from sciml.networks.fields.deeponet import DeepONet
from sciml.networks.fields.description import FieldSet, from_channels, to_channels
from sciml.networks.fields.field_interpolation import interpolated
from sciml.networks.fields.fno import GridFNO
from sciml.networks.fields.unet import UNet
from sciml.testing import runs
from sciml.testing import small_files as small

TINY = ("network.width=8", "network.hidden=16", "network.modes=4", "network.layers=2",
        "optimizer.lr=1e-2", "schedule.warmup=0", "trainer.val_check_interval=null")  # fmt: skip


def odd_files(folder):
    """Yield strange but legitimate files, and the axes that are recognised in their output."""
    x = small.smooth(24, 16, 12)
    y = small.smoothed(x)
    yield {"x": x, "y": y}, ("x", "y")
    yield {"x": np.stack([x, 2 * x, x], -1), "y": np.stack([y, y], -1)}, ("x", "y", "c")
    yield {"x": x[:, None], "y": y[:, None]}, ("c", "x", "y")
    yield {"a": x, "u": np.stack([y] * 9, -1)}, ("x", "y", "t")
    yield {"x": x[:, 0], "y": y[:, 0]}, ("x",)
    cube = small.smooth(24, 8, 6, 8)
    yield {"x": cube, "y": small.smoothed(cube)}, ("x", "y", "z")
    yield {"x": (3 * x).round().astype("i4"), "y": (9 * y).round().astype("i2")}, ("x", "y")
    yield {"x": x > 0, "y": y.astype(">f8")}, ("x", "y")
    yield {"x": x[:, 0, :3], "y": y}, ("x", "y")  # three numbers for the whole sample


def test_strange_but_legitimate_files_are_answered_in_their_own_layout(tmp_path):
    for k, (held, axes) in enumerate(odd_files(tmp_path)):
        np.savez(tmp_path / f"{k}.npz", **held)
        data = FieldFiles(path=str(tmp_path / f"{k}.npz"))
        assert data.fields.outputs[0].axes == axes, k
        network = GridFNO(data.sizes["fields"], width=4, hidden=4, modes=2, layers=1)
        batch = data.batch(0).to("cpu", torch.float32)
        answer = network.infer(**batch.inputs)[data.fields.outputs[0].name]
        wanted = torch.from_numpy(data.rows._all[data.fields.outputs[0].name])
        assert answer.shape[1:] == wanted.shape[1:], k
        assert network(**batch.inputs).shape == batch.target.shape, k


def trained(path, folder, *words, steps=60, model="fno"):
    line = [f"model={model}", f"data.path={path}", *(TINY if model == "fno" else ()), *words]
    trainer = {"max_steps": steps, "limit_val_batches": 0}
    run = runs.fit(runs.prepare(line, folder, callbacks=["export"], trainer=trainer))
    run.trainer.test(run.module, run.data, verbose=False)
    return run


def test_layout_goes_there_and_back():
    value = torch.arange(2 * 4 * 3 * 5 * 2).reshape(2, 4, 3, 5, 2)
    for axes in (("x", "t", "y", "c"), ("c", "y", "x", "t"), ("t", "x", "c", "y")):
        sizes = {a: value.shape[1 + axes.index(a)] for a in ("t", "c")}
        packed = to_channels(value, axes)
        assert packed.shape[1] == sizes["t"] * sizes["c"] and packed.dim() == 4
        assert torch.equal(from_channels(packed, axes, sizes), value)
    by_hand = to_channels(value, ("x", "t", "y", "c"))  # times slower than channels
    assert torch.equal(by_hand[:, 1], value[:, :, 0, :, 1])


def test_interpolation_is_of_third_order_on_every_kind_of_grid():
    for kind, place in (("left", lambda n: np.arange(n) / n),
                        ("both", lambda n: np.arange(n) / (n - 1))):  # fmt: skip
        errors = []
        for n in (16, 32):
            f = [torch.from_numpy(np.sin(np.pi * (2 if kind == "left" else 1) * place(m)))
                 for m in (n, 50)]  # fmt: skip
            found = interpolated(f[0][None, None], [50], [kind], True)[0, 0]
            errors.append(float((found - f[1]).abs().max()))
        assert errors[1] < errors[0] / 7 and errors[0] < 5e-3


def fields(path, **settings):
    return FieldFiles(path=str(path), **settings).sizes["fields"]


def test_networks_do_not_depend_on_the_grid_where_they_are_free(tmp_path):
    plain = fields(small.pairs(tmp_path / "a.npz", count=20, n=16), periodic=True)
    torch.manual_seed(0)
    network = GridFNO(plain, width=8, modes=4, layers=2).double()
    coarse = torch.from_numpy(small.smooth(2, 16, 16))
    fine = torch.from_numpy(small.smooth(2, 64, 64))
    torch.testing.assert_close(fine[:, ::4, ::4], coarse, rtol=1e-5, atol=1e-6)
    # band-limited input; what the activations make beyond the modes aliases a little
    difference = network(x=fine)[:, :, ::4, ::4] - network(x=coarse)
    assert float((difference.norm() / network(x=coarse).norm()).detach()) < 2e-2
    unet = UNet(plain, width=4).double()
    there = interpolated(unet(x=coarse), [32, 32], ["left", "left"], True)
    more = interpolated(coarse[:, None], [32, 32], ["left", "left"], True)[:, 0]
    torch.testing.assert_close(unet(x=more), there, rtol=1e-4, atol=1e-4)


def test_views_make_predictions_as_symmetric_as_the_problem(tmp_path):
    path = small.pairs(tmp_path / "a.npz", count=40, n=8)
    plain = fields(path, symmetries=["transpose", "flip_x"])
    torch.manual_seed(0)
    network = UNet(plain, width=4, views=True).double().eval()
    x = torch.from_numpy(small.smooth(3, 8, 8))
    u = network(x=x)
    torch.testing.assert_close(network(x=x.mT), u.mT, rtol=1e-9, atol=1e-9)
    mirrored = x.flip(1).roll(1, 1)
    torch.testing.assert_close(network(x=mirrored), u.flip(2).roll(1, 2), rtol=1e-9, atol=1e-9)
    with pytest.raises(InvalidArgument, match="network.views=true without symmetries"):
        UNet(fields(path), views=True)


def test_the_modes_of_pod_deeponet_span_the_outputs(tmp_path):
    path = small.pairs(tmp_path / "a.npz", count=30, n=8)
    data = FieldFiles(path=str(path))
    network = DeepONet(data.sizes["fields"], width=8, functions=24, pod=True)
    given, target = data.known("train", 100)
    normal = (target.double() - network.out_mean) / network.out_std
    network.learn_modes(normal)
    flat, away = network.modes.double().flatten(1), (normal - network.middle).flatten(1)
    weights = torch.linalg.pinv(flat.T, rtol=1e-6) @ away.T  # fewer waves than modes
    assert float((flat.T @ weights - away.T).norm() / away.norm()) < 1e-4
    size = weights.square().mean(1).sqrt()
    assert size[:8].tolist() == pytest.approx([1.0] * 8, rel=1e-3)


def test_a_linear_operator_is_learned_and_the_folder_predicts_it(tmp_path):
    path = small.pairs(tmp_path / "a.npz", count=60, n=16, dim=1)
    run = trained(path, tmp_path / "run", "data.units={x: m, y: Pa}", steps=150)
    report = run.module.test_report
    assert report["metrics"]["test/rel_l2"] < 0.1
    assert set(report["baselines"]) == {"mean", "nearest", "linear_modes", "kernel_ridge"}
    best = min(report["baselines"].values())
    assert best < 1e-6  # a linear regression has it exactly
    expected = report["metrics"]["test/rel_l2"] / best
    assert report["metrics"]["test/skill"] == pytest.approx(expected, rel=1e-6)
    # the card says what the table says
    told = json.loads((tmp_path / "run" / "pretrained" / "model.json").read_text())["metrics"]
    told = {k: v for k, v in told.items() if "/baseline/" not in k}
    assert told == pytest.approx({k: report["metrics"][k] for k in told}, rel=1e-5)
    assert report["symbol"] == "y" and told["test/skill"] == pytest.approx(expected, rel=1e-5)
    spectrum = report["curves"]["spectrum"]["y"]  # Parseval: all waves together are all points
    for name, size in (("error", report["metrics"]["test/rel_l2_all"]), ("reference", 1.0)):
        assert np.linalg.norm(spectrum[name]) == pytest.approx(size, rel=1e-6)
    assert spectrum["reference"][3:].max() < 1e-6  # three waves are in the data
    op = sciml.load_pretrained(tmp_path / "run")
    x = small.smooth(4, 32).astype(np.float32)  # another grid than that of training
    y = op.predict(x=0.3 * x)["y"].numpy()
    coarse = small.smoothed(0.3 * x[:, ::2])  # the operator averages neighbours of its own grid
    error = np.linalg.norm(y[:, ::2] - coarse) / np.linalg.norm(coarse)
    assert error < 0.2
    card = (tmp_path / "run" / "pretrained" / "README.md").read_text()
    assert "| x | (N, H) | m | x in [" in card and "| y | (N, H) | Pa |" in card
    with pytest.warns(RangeWarning, match="x covers"):
        op.predict(x=100 * x)


def test_prediction_needs_no_training_code(tmp_path):
    import subprocess
    import sys

    path = small.pairs(tmp_path / "a.npz", count=20, n=8, dim=1)
    trained(path, tmp_path / "run", steps=2)
    code = (
        "import sys, sciml.cli.main as m\n"
        f"code = m.main(['predict', {str(tmp_path / 'run')!r}, {str(path)!r}, '-o', "
        f"{str(tmp_path / 'out.npz')!r}])\n"
        "assert code == 0 and not {'lightning', 'hydra', 'omegaconf'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "relative L2 error" in done.stdout and (tmp_path / "out.png").stat().st_size > 5000
    with np.load(tmp_path / "out.npz") as found:
        assert found["y"].shape == (20, 8)


def test_roll_outs_are_trained_tested_and_predicted(tmp_path):
    path = small.trajectories(tmp_path / "u.npz", count=40, times=8)
    run = trained(path, tmp_path / "run", "data.steps=2", steps=150)
    report = run.module.test_report
    assert report["metrics"]["test/rel_l2"] < 0.5 * report["baselines"]["persistence"]
    curve = report["curves"]["rollout"]
    ends = [report["metrics"][f"test/rollout/{name}"] for name in ("first", "last")]
    assert ends == [curve["y"]["model"][k] for k in (0, -1)]
    assert {"persistence", "kernel_ridge", "nearest"} < set(curve["y"])
    given, target = run.data.known("test", 100)
    still = (given["u"] - target[:, 0]).norm(dim=1) / target[:, 0].norm(dim=1)
    assert curve["y"]["persistence"][0] == pytest.approx(float(still.mean()), rel=1e-6)
    assert len(curve["x"]) == 7 and curve["x"][-1] == pytest.approx(0.7)
    op = sciml.load_pretrained(tmp_path / "run")
    u = torch.from_numpy(np.load(path)["u"][:3]).float()
    found = op.rollout(5, u=u[:, 0])["u"]
    assert found.shape == (3, 5, 16)
    by_hand = u[:, 0]
    for k in range(5):
        by_hand = op.predict(u=by_hand)["u"]
        torch.testing.assert_close(found[:, k], by_hand, rtol=1e-5, atol=1e-6)
    with pytest.raises(InvalidArgument, match="steps=0"):
        op.rollout(0, u=u[:, 0])


def test_pushforward_trains_the_last_call_alone(tmp_path):
    path = small.trajectories(tmp_path / "u.npz", count=20, times=8)
    line = ["model=fno", f"data.path={path}", *TINY, "data.steps=3", "module.pushforward=true"]
    run = runs.prepare(line, tmp_path)
    batch = run.data.batch(0).to("cpu", torch.float32)
    run.module.train()
    found = run.module.predict_batch(batch)
    assert found.shape == batch.target.shape
    term = run.module.data_term(found, batch)
    packed = run.module.fields.pack(batch.inputs)
    with torch.no_grad():
        for _ in range(2):
            packed = run.module.fields.advanced(packed, run.module.network.step(packed))
    last = run.module.network.step(packed)
    wanted = (last - batch.target[:, -1:]).flatten(1) / batch.target[:, -1:].flatten(1).norm(
        dim=1, keepdim=True
    )
    torch.testing.assert_close(term.residual, wanted, rtol=1e-5, atol=1e-6)


def test_training_begins_with_the_weights_of_a_folder_and_freezes_some(tmp_path):
    path = small.pairs(tmp_path / "a.npz", count=20, n=8, dim=1)
    first = trained(path, tmp_path / "first", steps=3).module.network.state_dict()
    line = ["model=fno", f"data.path={path}", *TINY, f"init_from={tmp_path / 'first'}"]
    run = runs.prepare([*line, "freeze=[lift.*]"], tmp_path / "second",
                       trainer={"max_steps": 2, "limit_val_batches": 0})  # fmt: skip
    for name, value in run.module.network.state_dict().items():
        assert torch.equal(value, first[name]), name
    after = runs.fit(run).module.network.state_dict()
    moved = {n for n, v in after.items() if not torch.equal(v, first[n])}
    assert moved and not any(n.startswith("lift") for n in moved)
    torch.manual_seed(0)
    wider = GridFNO(fields(path), width=8, hidden=16, modes=4, layers=3)
    taken, left = initial.begin_with(wider, str(tmp_path / "first"))
    assert left == [n for n in wider.state_dict() if ".2." in n and n not in taken]
    with pytest.raises(ConfigError, match="no tensor of which fits this UNet"):
        initial.begin_with(UNet(fields(path), width=4), str(tmp_path / "first"))
    with pytest.raises(ConfigError, match="freeze with lfit.*which is no weight.*Did you mean"):
        initial.freeze(wider, ["lfit.*"])


def test_inspect_shows_what_a_run_would_see(tmp_path, capsys):
    path = small.trajectories(tmp_path / "u.npz", count=20, times=8)
    assert main(["inspect", str(path), "data.bundle=2"]) == 0
    said = capsys.readouterr().out
    assert "u  (20, 8, 16) float64" in said and "t: 8 values from 0 to 0.7" in said
    assert "roll-out: 1 state in, 2 out, repeated 3 times" in said
    assert "split  train 16, val 2, test 2" in said
    assert main(["inspect", str(path), "data.outputs=[v]"]) == 2
    assert "data.outputs=v is no array" in capsys.readouterr().err
    assert main(["train", "model=fno"]) == 2
    assert "data.path" in capsys.readouterr().err


def test_outputs_of_different_size_count_alike(tmp_path):
    x = small.smooth(20, 16)
    np.savez(tmp_path / "a.npz", x=x, small=1e-3 * x, large=1e3 * x)
    run = runs.prepare(
        ["model=fno", f"data.path={tmp_path / 'a.npz'}", "data.inputs=[x]",
         "data.outputs=[small,large]", *TINY], tmp_path,
    )  # fmt: skip
    batch = run.data.batch(0).to("cpu", torch.float32)
    rows = run.module.data_term(torch.zeros_like(batch.target), batch).residual
    shares = rows.reshape(len(rows), 2, -1).square().sum((0, 2))
    assert float(shares[0] / shares[1]) == pytest.approx(1.0, rel=1e-3)
    assert FieldSet(run.data.sizes["fields"]).out_channels == 2
    assert json.dumps(run.data.sizes)  # plain data, as a card holds


def burgers(path, count=24):
    """Write solutions of Burgers' equation, and return the words that name it."""
    from sciml.physics.evolution import Burgers

    problem = Burgers(points=32, time_count=9, horizon=0.5, viscosity=0.05)
    x = problem.sample(count, torch.Generator().manual_seed(0))
    np.savez(path, x=x[:, 0].numpy(), y=problem.solve(x).value.numpy())
    return (
        "module.equation={_target_: sciml.physics.constraints.BurgersConstraint, problem: "
        "{_target_: sciml.physics.evolution.Burgers, points: 32, time_count: 9, "
        "horizon: 0.5, viscosity: 0.05}}"
    )


def test_an_equation_of_the_house_is_learned_beside_the_data(tmp_path, capsys):
    word = burgers(tmp_path / "a.npz")
    line = ("data.train=4", "module.baselines=false", word)
    found = {}
    for weight in (0.0, 1.0):
        run = trained(tmp_path / "a.npz", tmp_path / str(weight), *line,
                      f"module.physics={weight}", steps=80)  # fmt: skip
        found[weight] = run.module.test_report["metrics"]
    # four solutions say little; the equation says the rest
    assert found[1.0]["test/residual"] < 0.8 * found[0.0]["test/residual"]
    known = found[1.0]["test/residual_of_data"]
    batch = run.data.test_chunk(0).to("cpu", torch.float32)
    size = run.module.residual(batch.target, batch).square().mean(1).sqrt().mean()
    assert known == pytest.approx(float(size), rel=1e-6) and known < found[1.0]["test/residual"]
    answer = ["verify", str(tmp_path / "1.0"), "-o", str(tmp_path / "v.png"), "--problems", "5"]
    assert main([*answer, "--tolerance", "9"]) == 0
    said = capsys.readouterr().out
    assert "2 test samples of" in said and "by Burgers" in said and "the solver's own" in said
    assert float(re.search(r"solver to data +([\d.e+-]+)", said)[1]) < 1e-6  # it made them
    (tmp_path / "a.npz").rename(tmp_path / "gone.npz")
    assert main(answer) == 0 and "samples drawn anew" in capsys.readouterr().out
    (tmp_path / "gone.npz").rename(tmp_path / "a.npz")
    assert main(["verify", str(tmp_path / "0.0"), "--tolerance", "1e-9", *answer[2:]]) == 1
    with pytest.raises(InvalidArgument, match=r"grid of \(9, 16\) points.*y has \(9, 32\)"):
        trained(tmp_path / "a.npz", tmp_path, *line[:2], word.replace("points: 32", "points: 16"))


@pytest.mark.parametrize("loss", ["relative", "h1"])
def test_norms_instead_of_squares_have_the_gradient_of_the_mean_norm(loss, tmp_path):
    path = small.pairs(tmp_path / "a.npz")
    words = ["model=fno", f"data.path={path}", *TINY, f"module.loss={loss}"]
    squared, plain = (
        runs.prepare([*words, f"module.squared={flag}"], tmp_path).module
        for flag in ("true", "false")
    )
    batch = squared.files.batch(0).to("cpu", torch.float32)
    guess = (1.1 * batch.target + 0.3).requires_grad_()
    rows = squared.data_term(guess, batch).residual
    wanted = torch.linalg.vector_norm(rows, dim=1).mean()
    found = plain.data_term(guess, batch).loss()
    torch.testing.assert_close(found, wanted / 2, rtol=1e-5, atol=0)
    slopes = [torch.autograd.grad(x, guess, retain_graph=True)[0] for x in (found, wanted)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-9)
    exact = plain.data_term(batch.target.clone().requires_grad_(), batch).loss()
    assert float(exact.detach()) == 0.0
    with pytest.raises(InvalidArgument, match="module.squared=false.*relative loss"):
        runs.prepare([*words[:-1], "module.loss=mse", "module.squared=false"], tmp_path)


def test_a_run_begins_with_what_may_be_read_wrongly(tmp_path, caplog):
    x = np.moveaxis(small.smooth(24, 10, 10), 0, -1)
    np.savez(tmp_path / "a.npz", kappa=x, temperature=2 * x)
    words = ["data.inputs=kappa", "data.outputs=temperature", "data.val=1", "data.test=1"]
    line = ["model=fno", f"data.path={tmp_path / 'a.npz'}", *TINY, *words]
    runs.prepare(line, tmp_path / "run")
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    wanted = '"data.axes={kappa: [x, y, n], temperature: [x, y, n]}"'
    assert [text for text in said if wanted in text and "read as 10 samples" in text]
    caplog.clear()
    axes = wanted.strip('"')
    runs.prepare([*line, axes], tmp_path / "again")  # as typed: the line of the message is read
    assert not [r for r in caplog.records if "read as" in r.getMessage()]
