"""Networks between fields of files: layout, units, positions, other grids, views, roll-outs."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciml.data import FieldFiles
from sciml.errors import InvalidArgument
from sciml.networks.fields import DeepONet, FieldNetwork, FieldSet, GridFNO, GridFNODEQ, UNet
from sciml.networks.fields.coarse_input import coarse_solve
from sciml.networks.fields.description import from_channels, to_channels
from sciml.networks.fields.field_interpolation import interpolated
from sciml.networks.fields.views import back, combinations, view

F64 = torch.float64


def described(size=(8, 6), grid=None, periodic=False, **more):
    """Return a description: inputs a (x, y, 2 channels) and two numbers; outputs u and v."""
    space = list("xyz"[: len(size)])
    plain = {
        "inputs": [
            {"name": "a", "axes": [*space, "c"], "sizes": {"c": 2}, "unit": "m"},
            {"name": "q", "axes": ["c"], "sizes": {"c": 2}},
        ],
        "outputs": [
            {"name": "u", "axes": space, "sizes": {}, "unit": "K"},
            {"name": "v", "axes": ["t", *space], "sizes": {"t": 3}},
        ],
        "size": list(size),
        "grid": [grid or ("left" if periodic else "both")] * len(size),
        "periodic": periodic,
        "mean": [1.0, 2.0, 3.0, 4.0],
        "std": [2.0, 4.0, 5.0, 10.0],
        "out_mean": [10.0, 20.0, 30.0, 40.0],
        "out_std": [1.0, 2.0, 3.0, 4.0],
        "scale": [1.0] * 4,
    }
    return {**plain, **more}


def given(size=(8, 6), count=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(count, *size, 2, generator=draw),
        "q": torch.randn(count, 2, generator=draw),
    }


class Echo(FieldNetwork):
    """A body that answers with the channels it is shown, so that what is around it can be seen."""

    def body(self, z):
        """Return the first four channels."""
        self.shown = z
        return z[:, :4]


# --- layout -------------------------------------------------------------------------------------
def test_channels_are_times_first_then_channels_and_space_in_order():
    value = torch.arange(2 * 3 * 4 * 5 * 6.0).view(2, 3, 4, 5, 6)  # y, t, c, x
    found = to_channels(value, ["y", "t", "c", "x"])
    assert found.shape == (2, 20, 6, 3)
    for t, c, x, y in ((0, 0, 0, 0), (3, 4, 5, 2), (1, 2, 3, 1)):
        assert torch.equal(found[:, 5 * t + c, x, y], value[:, y, t, c, x])
    again = from_channels(found, ["y", "t", "c", "x"], {"t": 4, "c": 5})
    assert torch.equal(again, value)


def test_numbers_are_spread_over_the_grid_and_outputs_come_back_by_name():
    fields, inputs = FieldSet(described()), given()
    packed = fields.pack(inputs)
    assert packed.shape == (3, 4, 8, 6) and (fields.in_channels, fields.out_channels) == (4, 4)
    assert torch.equal(packed[:, :2], inputs["a"].permute(0, 3, 1, 2))
    assert torch.equal(packed[:, 2:], inputs["q"][:, :, None, None].expand(3, 2, 8, 6))
    one = FieldSet({**described(), "inputs": described()["inputs"][:1], "mean": [0.0] * 2,
                  "std": [1.0] * 2})  # fmt: skip
    assert torch.equal(one.inputs_of(packed[:, :2])["a"], inputs["a"])
    value = torch.randn(3, 4, 8, 6)
    found = fields.unpack(value)
    assert torch.equal(found["u"], value[:, 0]) and torch.equal(found["v"], value[:, 1:])
    assert torch.equal(fields.target(found), value)
    with pytest.raises(InvalidArgument, match="inputs on different grids"):
        two = described()
        two["inputs"][1] = {"name": "q", "axes": ["x", "y", "c"], "sizes": {"c": 2}}
        FieldSet(two).pack({"a": inputs["a"], "q": torch.randn(3, 8, 5, 2)})


def test_schemas_name_shapes_and_units():
    schema = FieldSet(described()).schema()
    assert schema["inputs"]["a"]["shape"] == ["N", "H", "W", 2]
    assert schema["inputs"]["a"]["unit"] == "m" and schema["inputs"]["q"]["shape"] == ["N", 2]
    assert schema["outputs"]["v"]["shape"] == ["N", 3, "H", "W"]
    assert schema["outputs"]["u"]["unit"] == "K" and schema["outputs"]["v"]["unit"] == "1"
    for key, said in (("mean", "one per channel, 4"), ("scale", "one per channel, 4")):
        with pytest.raises(InvalidArgument, match=said):
            FieldSet(described(**{key: [1.0]}))


# --- around the body ----------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["left", "both", "cells"])
def test_the_body_sees_normalised_inputs_and_positions(kind):
    network, inputs = Echo(described(grid=kind)), given()
    found = network(**inputs)
    packed = network.fields.pack(inputs)
    mean, std = (torch.tensor(described()[k])[:, None, None] for k in ("mean", "std"))
    torch.testing.assert_close(network.shown[:, :4], (packed - mean) / std, rtol=1e-6, atol=1e-6)
    assert network.shown.shape[1] == network.seen_channels == 6
    for k, n in ((0, 8), (1, 6)):
        i = torch.arange(n).double()
        x = i / (n - 1) if kind == "both" else (i + 0.5 * (kind == "cells")) / n
        seen = network.shown[0, 4 + k].movedim(k, 0)[:, 0]
        torch.testing.assert_close(seen.double(), 2 * x - 1, rtol=1e-6, atol=1e-6)
    out_mean, out_std = (
        torch.tensor(described()[f"out_{k}"])[:, None, None] for k in ("mean", "std")
    )
    torch.testing.assert_close(
        found, out_mean + out_std * (packed - mean) / std, rtol=1e-5, atol=1e-5
    )
    target = found.double()
    rest = network.remainder(packed, target)
    torch.testing.assert_close(rest, ((packed - mean) / std).double(), rtol=1e-5, atol=1e-5)


def test_periodic_fields_have_no_positions_and_increments_a_base():
    plain = described(periodic=True, base=[1, -1, 0, 3])
    network, inputs = Echo(plain), given()
    found = network(**inputs)
    assert network.shown.shape[1] == 4
    packed = network.fields.pack(inputs)
    without = Echo(described(periodic=True))(**inputs)
    added = found - without
    for c, base in enumerate([1, None, 0, 3]):
        wanted = torch.zeros_like(added[:, c]) if base is None else packed[:, base]
        torch.testing.assert_close(added[:, c], wanted, rtol=1e-5, atol=1e-5)
    rest = network.remainder(packed, found.double())
    torch.testing.assert_close(rest.float(), network.shown, rtol=1e-4, atol=1e-4)


def test_a_coarse_solve_is_shown_and_added():
    solver = SimpleNamespace(
        channels=("a",),
        solve=lambda given, on_failure: SimpleNamespace(
            value=torch.cat([given * k for k in range(1, 7)], 1)
        ),
    )
    plain = described(periodic=True, solved=4, mean=[0.0] * 8, std=[1.0] * 8)
    network = Echo(plain, coarse_solver=solver)
    inputs = given()
    packed = network.fields.pack(inputs)
    solved = network.solve(packed)  # of six channels the last four
    torch.testing.assert_close(
        solved, torch.cat([packed[:, :1] * k for k in (3, 4, 5, 6)], 1), rtol=1e-5, atol=1e-6
    )
    found = network(**inputs)
    torch.testing.assert_close(network.shown[:, 4:], solved, rtol=1e-6, atol=1e-6)
    out_mean, out_std = (torch.tensor(plain[f"out_{k}"])[:, None, None] for k in ("mean", "std"))
    torch.testing.assert_close(found, out_mean + out_std * packed + solved, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(network.step(packed, 2 * solved) - found, solved + 0 * found,
                               rtol=1e-3, atol=1e-3)  # fmt: skip
    with pytest.raises(InvalidArgument, match="4 channels of a coarse solve"):
        Echo(plain)
    few = SimpleNamespace(
        channels=("a",), solve=lambda given, on_failure: SimpleNamespace(value=given)
    )
    with pytest.raises(InvalidArgument, match="1 channels out"):
        coarse_solve(few, network.fields, packed)
    many = SimpleNamespace(channels=tuple("abcde"), solve=None)
    with pytest.raises(InvalidArgument, match="which takes a, b, c, d, e"):
        coarse_solve(many, network.fields, packed)


# --- other grids --------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["left", "both", "cells"])
def test_cubics_come_back_on_any_grid(kind):
    def places(n):
        i = torch.arange(n, dtype=F64)
        return i / (n - 1) if kind == "both" else (i + 0.5 * (kind == "cells")) / n

    def field(n, m):
        x, y = places(n)[:, None], places(m)
        if kind == "left":  # what vanishes at both ends, which is how such grids are stored
            return (x * (1 - x) * (2 - x)) * (y * (1 - y))
        return x**3 - 2 * x * y**2 + y

    z = field(9, 7).expand(2, 1, 9, 7)
    found = interpolated(z, [13, 11], [kind, kind], True)
    wanted = field(13, 11)
    inner = (slice(2, -2),) * 2 if kind == "cells" else (slice(None),) * 2
    torch.testing.assert_close(found[0, 0][inner], wanted[inner], rtol=0, atol=1e-10)
    assert interpolated(z, [9, 7], [kind, kind], True) is z
    if kind != "cells":  # whose ends are not extrapolated
        again = interpolated(found, [9, 7], [kind, kind], True)
        torch.testing.assert_close(again[0, 0], z[0, 0], rtol=0, atol=1e-9)


def test_grids_with_the_left_end_go_on_with_their_first_value_or_their_last():
    z = torch.tensor([[[1.0, 0.0, 0.0, 3.0]]], dtype=F64)
    wraps, stays = (interpolated(z, [8], ["left"], w)[0, 0] for w in (True, False))
    torch.testing.assert_close(wraps[::2], z[0, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(stays[::2], z[0, 0], rtol=0, atol=1e-12)
    assert float(wraps[-1]) < float(stays[-1])  # towards 1 the one, towards 3 the other


def test_a_network_that_stays_on_its_grid_sees_it_at_any_resolution():
    plain = described(size=(8, 8), periodic=True)
    network = Echo(plain, resolution="trained")
    fine = given((16, 16))
    network(**fine)
    assert network.shown.shape[2:] == (8, 8)
    free = Echo(plain)
    free(**fine)
    assert free.shown.shape[2:] == (16, 16)
    x = torch.arange(16) / 16
    smooth = torch.sin(2 * math.pi * x)[:, None, None].expand(16, 16, 2)[None]
    inputs = {"a": smooth, "q": torch.zeros(1, 2)}
    torch.testing.assert_close(network(**inputs), free(**inputs), rtol=0, atol=0.15)
    with pytest.raises(InvalidArgument, match="free or trained"):
        Echo(plain, resolution="any")


# --- views --------------------------------------------------------------------------------------
def test_views_are_undone_and_move_points_where_they_say():
    for kind, periodic in (("left", True), ("both", False), ("cells", False)):
        fields = FieldSet(described(size=(6, 6), grid=kind, periodic=periodic))
        value = torch.randn(2, 3, 6, 6)
        for name in ("transpose", "flip_x", "flip_y", "odd", "flip_x_odd", "shift"):
            seen = view(value, name, fields, True)
            assert torch.equal(back(seen, name, fields), value), name
        assert torch.equal(view(value, "transpose", fields, False), value.transpose(2, 3))
        assert torch.equal(view(value, "odd", fields, False), -value)
        flipped = view(value, "flip_y", fields, True)
        i = torch.arange(6)
        j = (-i) % 6 if kind == "left" else 5 - i
        assert torch.equal(flipped, value[..., j])
        assert torch.equal(view(value, "flip_y_odd", fields, True), -flipped)
        assert torch.equal(view(value, "shift", fields, True, 2), value.roll(2, 2))
        numbers = torch.randn(2, 3)
        assert torch.equal(view(numbers, "flip_x", fields, False), numbers)
        assert torch.equal(view(numbers, "odd", fields, False), -numbers)


def test_inputs_on_open_left_grids_take_the_missing_end_from_their_neighbour():
    fields = FieldSet(described(size=(5, 5), grid="left"))
    value = torch.arange(5.0)[None, None, :, None].expand(1, 1, 5, 5)
    seen = view(value, "flip_x", fields, False)[0, 0, :, 0]
    assert seen.tolist() == [4.0, 4.0, 3.0, 2.0, 1.0]
    assert view(value, "flip_x", fields, True)[0, 0, :, 0].tolist() == [0.0, 4.0, 3.0, 2.0, 1.0]


def test_all_subsets_of_symmetries_are_seen():
    assert combinations(()) == [()]
    assert combinations(("flip_x",)) == [(), ("flip_x",)]
    assert len(combinations(("flip_x", "odd"))) == 4
    square = combinations(("transpose", "flip_x"))
    assert len(square) == len(set(square)) == 8 and ("transpose", "flip_x", "flip_y") in square
    assert len(combinations(("transpose", "odd"))) == 4


def test_predictions_are_means_over_views_outside_training_alone():
    class Steep(Echo):
        """A body that no symmetry leaves alone."""

        def body(self, z):
            """Weigh rows by their number."""
            return z[:, :4] * torch.arange(float(z.shape[2]))[:, None]

    plain = described(size=(6, 6), periodic=True, symmetries=["flip_x", "shift"])
    network, plain_one = Steep(plain, views=True), Steep(plain)
    packed = network.fields.pack(given((6, 6)))
    one = plain_one.step(packed)
    assert torch.equal(network.step(packed), one) and len(network.views) == 2
    network.eval()
    other = back(
        plain_one.step(view(packed, "flip_x", network.fields, False)), "flip_x", network.fields
    )
    torch.testing.assert_close(network.step(packed), (one + other) / 2, rtol=1e-5, atol=1e-5)
    network.train()
    assert torch.equal(network.step(packed), one)
    with pytest.raises(InvalidArgument, match="without symmetries"):
        Steep(described(), views=True)


# --- roll-outs ----------------------------------------------------------------------------------
def moving(history=2, bundle=2):
    """Return a description of u (t, x): `history` states in, `bundle` out, and a number."""
    return {
        "inputs": [
            {"name": "u", "axes": ["t", "x"], "sizes": {"t": history}},
            {"name": "q", "axes": ["c"], "sizes": {"c": 1}},
        ],
        "outputs": [{"name": "u", "axes": ["t", "x"], "sizes": {"t": bundle}}],
        "size": [5], "grid": ["left"], "periodic": True,
        "mean": [0.0] * (history + 1), "std": [1.0] * (history + 1),
        "out_mean": [0.0] * bundle, "out_std": [1.0] * bundle, "scale": [1.0] * bundle,
        "history": history, "bundle": bundle,
    }  # fmt: skip


class Counting(FieldNetwork):
    """Each new state is the last one and 1, 2, ..."""

    def body(self, z):
        """Return states."""
        last = z[:, self.fields.history - 1 : self.fields.history]
        return torch.cat([last + k + 1 for k in range(self.fields.bundle)], 1)


@pytest.mark.parametrize(
    ("history", "bundle", "steps"), [(2, 2, 5), (1, 1, 3), (3, 2, 4), (1, 3, 2)]
)
def test_roll_outs_go_on_from_the_newest_states(history, bundle, steps):
    network = Counting(moving(history, bundle))
    u = torch.arange(float(history))[None, :, None].expand(2, history, 5)
    found = network.rollout(steps, u=u, q=torch.zeros(2, 1))["u"]
    assert found.shape == (2, steps, 5)
    wanted = history - 1 + torch.arange(1.0, steps + 1)
    assert torch.equal(found[0, :, 0], wanted)
    packed = network.fields.pack({"u": u, "q": torch.full((2, 1), 7.0)})
    ahead = network.fields.advanced(packed, network.step(packed))
    known = torch.cat([u[0, :, 0], history - 1 + torch.arange(1.0, bundle + 1)])
    assert torch.equal(ahead[0, :history, 0], known[-history:]) and float(ahead[0, -1, 0]) == 7.0
    calls = network.unrolled(packed, 3)
    assert calls.shape == (2, 3, bundle, 5)
    with pytest.raises(InvalidArgument, match="once"):
        Echo(described()).rollout(2, **given())


# --- bodies -------------------------------------------------------------------------------------
BODIES = {
    "fno": lambda d: GridFNO(d, width=4, modes=2, layers=2, hidden=8),
    "padded": lambda d: GridFNO(d, width=4, modes=2, layers=1, hidden=8, padding=0.5),
    "unet": lambda d: UNet(d, width=4),
    "deeponet": lambda d: DeepONet(d, width=8, depth=2, functions=5),
    "deq": lambda d: GridFNODEQ(d, width=4, modes=2, hidden=8, contraction=0.5),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("periodic", [True, False])
def test_bodies_answer_on_their_grid_and_on_others(name, periodic):
    torch.manual_seed(0)
    network = BODIES[name](described(size=(8, 8), periodic=periodic)).eval()
    for size in ((8, 8), (12, 12)):
        found = network(**given(size))
        assert found.shape == (3, 4, *size) and bool(found.isfinite().all())
    whole = network(**given((8, 8)))
    alone = network(**{k: v[1:2] for k, v in given((8, 8)).items()})
    torch.testing.assert_close(alone[0], whole[1], rtol=1e-3, atol=1e-3)  # samples are apart
    if periodic and name != "deeponet":  # moved inputs, moved outputs
        inputs = given((8, 8))
        by = 4 if name == "unet" else 3  # as far as it halves the grid
        moved = network(a=inputs["a"].roll(by, 1), q=inputs["q"])
        torch.testing.assert_close(moved, whole.roll(by, 2), rtol=1e-2, atol=2e-2)


def test_modes_of_training_outputs_span_what_they_were_made_from():
    plain = described(size=(6, 5), samples=40)
    network = DeepONet(plain, width=8, depth=1, functions=3, pod=True)
    draw = torch.Generator().manual_seed(0)
    shapes, middle = torch.randn(3, 4, 6, 5, generator=draw), torch.randn(4, 6, 5, generator=draw)
    outputs = middle + torch.einsum("nk,kcxy->ncxy", torch.randn(40, 3, generator=draw), shapes)
    network.learn_modes(outputs)
    torch.testing.assert_close(network.middle, outputs.mean(0), rtol=1e-4, atol=1e-5)
    flat, modes = (outputs - outputs.mean(0)).flatten(1), network.modes.flatten(1)
    weights = torch.linalg.lstsq(modes.T, flat.T).solution
    torch.testing.assert_close(modes.T @ weights, flat.T, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(weights.std(1, correction=0), torch.ones(3), rtol=1e-3, atol=0)
    gram = modes @ modes.T
    torch.testing.assert_close(gram, gram.diag().diag(), rtol=0, atol=1e-3 * float(gram.max()))
    found = network(**given((6, 5)))
    assert found.shape == (3, 4, 6, 5)
    assert DeepONet({**plain, "samples": 2}, functions=9, pod=True).modes.shape[0] == 2


def test_sums_of_branch_and_trunk():
    torch.manual_seed(0)
    network = DeepONet(described(size=(4, 3)), width=8, depth=1, functions=5)
    z = torch.randn(2, network.seen_channels, 4, 3)
    found = network.body(z)
    weights = network.branch(z[:, :4].flatten(1)).view(2, 4, 5)
    trunk = network.trunk(network.positions(z)[0].flatten(1).T)
    wanted = torch.einsum("bck,pk->bcp", weights, trunk) / math.sqrt(5)
    torch.testing.assert_close(found.flatten(2), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GridFNO(described(), width=0), lambda: GridFNO(described(), modes=4),
        lambda: GridFNO(described(), modes=0), lambda: GridFNO(described(), padding=2.0),
        lambda: UNet(described(), width=0), lambda: UNet(described(), levels=2),
        lambda: DeepONet(described(), depth=0), lambda: GridFNODEQ(described(size=(8,))),
        lambda: GridFNODEQ(described(), contraction=0.0),
    ],
)  # fmt: skip
def test_sizes_that_cannot_be_are_refused(make):
    with pytest.raises(InvalidArgument):
        make()
    GridFNO(described(), modes=3)  # half of six points
    assert np.isfinite(sum(p.numel() for p in UNet(described(size=(8, 8)), levels=2).parameters()))


@pytest.mark.parametrize("history", [1, 2])
def test_roll_outs_have_times_where_the_files_have_them(tmp_path, history):
    u = np.random.default_rng(0).normal(size=(20, 8, 6, 3))  # (n, x, t, c)
    np.savez(tmp_path / "u.npz", u=u)
    axes = {"u": ["n", "x", "t", "c"]}
    data = FieldFiles(path=str(tmp_path / "u.npz"), axes=axes, history=history)
    torch.manual_seed(0)
    network = GridFNO(data.sizes["fields"], width=4, modes=2, layers=1, hidden=8)
    states = [torch.from_numpy(u[:, :, k]).float() for k in range(history)]
    first = states[0] if history == 1 else torch.stack(states, 2)
    found = network.rollout(4, u=first)["u"]
    assert found.shape == (20, 8, 4, 3)
    for k in range(4):  # by hand, one state after another
        given = states[-1] if history == 1 else torch.stack(states[-history:], 2)
        states.append(network.infer(u=given)["u"])
        torch.testing.assert_close(found[:, :, k], states[-1], rtol=1e-5, atol=1e-6)
