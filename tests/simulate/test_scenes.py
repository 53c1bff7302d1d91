"""What the scenes are: geometry, units, time steps, pictures and figures, against arithmetic."""

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from sciml.errors import ConfigError, InvalidArgument
from sciml.physics.fluids import FlowState
from sciml.physics.solids import plate
from sciml.simulate import DamBreak, Simulation, Smoke, Wake, frames, pictures
from sciml.simulate.flow_simulation import line, summary
from sciml.simulate.macro import Step
from sciml.simulate.simulation import described, read


def centres(n, spacing):
    return (np.arange(n) + 0.5) * spacing


def area(flow, state):
    """Return area and centre of what is solid."""
    share = frames.solid_share(flow, state).numpy()
    x, y = (centres(n, flow.spacing) for n in share.shape)
    total = share.sum()
    middle = (share * x[:, None]).sum() / total, (share * y).sum() / total
    return total * flow.spacing**2, middle


def test_the_ball_of_the_smoke_swings_with_its_velocity():
    scene = Smoke(grid=100)
    flow = scene.flow()
    state = flow.start()
    found, middle = area(flow, state)
    assert found == pytest.approx(math.pi * 0.09**2, rel=5e-3)
    assert middle == pytest.approx((0.5, 0.55), abs=1e-6)
    body = flow.body
    for time, x in ((0.75, 0.72), (1.5, 0.5), (2.25, 0.28), (3.0, 0.5)):  # a swing takes 3 s
        assert body.centre(time) == pytest.approx((x, 0.55), abs=1e-9)
    for time in (0.0, 0.4, 1.9):
        step = 1e-5
        ahead, behind = body.centre(time + step), body.centre(time - step)
        slope = [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
        assert body.velocity(time) == pytest.approx(slope, abs=1e-8)
    assert flow.buoyancy == 3.0 and flow.source == (0.5, 0.1)
    assert scene.own_dt == pytest.approx(0.016) and flow.spacing == pytest.approx(0.01)
    assert Smoke(radius=0.0).flow().body is None


def test_three_axes_stand_in_the_middle():
    smoke, wake, dam = (kind(dim=3, grid=16).flow() for kind in (Smoke, Wake, DamBreak))
    assert smoke.shape == (16, 16, 16) and smoke.source == (0.5, 0.1, 0.5)
    assert smoke.body.centre(0.0) == (0.5, 0.55, 0.5)
    assert smoke.body.velocity(0.3)[1:] == (0.0, 0.0)
    assert wake.shape == (48, 16, 16) and wake.body.centre(0.0) == (0.5, 0.5, 0.5)
    assert dam.shape == (32, 16, 16) and dam.column[:2] == (0.6, 0.32) and dam.column[2] >= 1.0
    field = torch.arange(2.0 * 4 * 3 * 5).view(2, 4, 3, 5)
    assert torch.equal(frames.plane(field), field[0, :, :, 2])
    assert torch.equal(frames.plane(field[..., 0]), field[0, :, :, 0])


def test_the_wake_has_the_reynolds_number_that_was_asked_for():
    scene = Wake(grid=80, reynolds=150.0)
    flow = scene.flow()
    assert flow.shape == (240, 80) and flow.spacing == pytest.approx(1 / 80)
    found, middle = area(flow, flow.start())
    diameter = 2 * math.sqrt(found / math.pi)
    assert diameter == pytest.approx(0.15, rel=5e-3) and middle == pytest.approx((0.5, 0.5))
    assert flow.inflow * 0.15 / flow.viscosity == pytest.approx(150.0)
    assert scene.own_dt * flow.inflow / flow.spacing == pytest.approx(1.28)  # cells in a step
    picture = scene.picture(flow, flow.start())
    assert (picture.low, picture.high) == (-20.0, 20.0) and picture.values.shape == (240, 80)
    deep = Wake(grid=8, dim=3)
    picture = deep.picture(deep.flow(), deep.flow().start())
    assert (picture.low, picture.high) == (0.0, 20.0)  # the size of the vorticity


def test_the_column_has_its_width_and_its_height():
    scene = DamBreak(grid=40)
    flow = scene.flow()
    assert flow.shape == (80, 40) and flow.spacing == pytest.approx(0.025)
    state = flow.start()
    level = state.fields["level_set"][0].numpy()
    x, y = centres(80, 0.025), centres(40, 0.025)
    water = (x[:, None] < 0.6) & (y < 0.32)
    sure = (abs(x[:, None] - 0.6) > 0.02) & (abs(y - 0.32) > 0.02)
    assert np.array_equal(level[sure] < 0, water[sure])
    assert float(state.fields["volume"]) * 0.025**2 == pytest.approx(0.6 * 0.32, rel=0.02)
    assert scene.own_dt == pytest.approx(0.008) and flow.gravity == 9.81 and flow.keep_volume
    values = scene.picture(flow, state).values
    assert float(values[0, 0]) == 1.0 and float(values[-1, -1]) == -1.0  # water is what is dark


def test_how_much_the_volume_has_changed():
    scene = DamBreak(grid=40)
    state = scene.flow().start()
    assert scene.measured(state)["volume_change"] == pytest.approx(0.0, abs=1e-12)
    for factor, wanted in ((0.8, 0.25), (1.25, 0.2)):
        fields = {**state.fields, "volume": factor * state.fields["volume"]}
        moved = FlowState(state.velocity, state.pressure, fields, 0.0)
        assert scene.measured(moved)["volume_change"] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DamBreak(width=2.0), lambda: DamBreak(width=0.0), lambda: DamBreak(height=1.0),
        lambda: DamBreak(height=0.0), lambda: DamBreak(gravity=0.0), lambda: Wake(reynolds=0.0),
        lambda: Smoke(radius=-0.1), lambda: Smoke(dim=1), lambda: Smoke(grid=7),
    ],
)  # fmt: skip
def test_scenes_that_cannot_be_are_refused(make):
    with pytest.raises(InvalidArgument):
        make()


# --- frames ------------------------------------------------------------------------------------
def test_a_frame_has_x_to_the_right_and_y_up(tmp_path):
    values = torch.zeros(8, 4)
    values[-1, 0] = 1.0  # right, below
    solid = torch.zeros(8, 4)
    solid[0, -1] = 1.0  # left, above
    frames.save(tmp_path / "f.png", frames.Picture(values, 0.0, 1.0, "gray", solid))
    shown = np.asarray(Image.open(tmp_path / "f.png")).astype(int)
    assert shown.shape == (384, 768, 3)  # 96 pixels a cell
    assert tuple(shown[336, 720]) > (220, 220, 220)  # white, where the value is 1
    corner = shown[48, 48]
    np.testing.assert_allclose(corner, [140, 140, 148], rtol=0, atol=16)  # grey, where it is solid
    assert shown[336, 48].max() < 10 and shown[48, 720].max() < 10


def test_colours_span_low_to_high(tmp_path):
    values = torch.tensor([[-3.0, 1.0], [3.0, 9.0]]).repeat_interleave(8, 0).repeat_interleave(8, 1)
    frames.save(tmp_path / "f.png", frames.Picture(values, -1.0, 3.0, "gray"))
    shown = np.asarray(Image.open(tmp_path / "f.png"))[..., 0].astype(int)
    n = len(shown)
    assert n == 768
    low, middle = shown[3 * n // 4, n // 4], shown[n // 4, n // 4]
    assert low == 0 and abs(middle - 127.5) < 4
    assert shown[3 * n // 4, 3 * n // 4] == shown[n // 4, 3 * n // 4] == 255
    frames.save(tmp_path / "g.png", frames.Picture(values, -1.0, 9.0, "gray"))
    frames.animate([tmp_path / "f.png", tmp_path / "g.png"], tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 2 and film.info["duration"] == 60 and film.info["loop"] == 0
    frames.animate([], tmp_path / "none.gif")
    assert not (tmp_path / "none.gif").exists()


@pytest.fixture
def saved(monkeypatch):
    found = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: found.append(self))
    return found


ROWS = [
    {"step": 1, "time": 0.5, "solver": "mic", "iterations": 4, "residual": 1e-7,
     "divergence": 2e-7, "fell_back": 0, "setup_s": 0.25, "solve_s": 0.5, "step_s": 1.0},
    {"step": 2, "time": 1.0, "solver": "cg", "iterations": 9, "residual": 4e-7,
     "divergence": 1e-7, "fell_back": 1, "setup_s": 0.0, "solve_s": 2.0, "step_s": 3.0},
    {"step": 3, "time": 1.5, "solver": "mic", "iterations": 5, "residual": 2e-7,
     "divergence": 3e-7, "fell_back": 1, "setup_s": 0.25, "solve_s": 0.5, "step_s": 1.0},
]  # fmt: skip


def test_figures_over_the_steps(saved, tmp_path):
    found = summary(ROWS)
    assert found == pytest.approx({
        "steps": 3, "iterations": 6, "iterations_max": 9, "residual_max": 4e-7,
        "divergence_max": 3e-7, "fell_back": 2, "cpu/setup_s": 0.5 / 3, "cpu/solve_s": 1.0,
        "cpu/step_s": 5 / 3,
    })  # fmt: skip
    assert summary([]) == {"steps": 0.0}
    said = "step 2/7  t=1  cg: 9 iterations, residual 4.0e-07, 3.00 CPU s"
    assert line(ROWS[1], 7) == said
    frames.curves(tmp_path / "c.png", ROWS)
    left, right = saved[-1].axes
    shown = {one.get_label(): one for one in left.lines}
    assert list(shown["mic"].get_xdata()) == [1, 3] and list(shown["mic"].get_ydata()) == [4, 5]
    assert list(shown["cg"].get_ydata()) == [9]
    spent = {one.get_label(): list(one.get_ydata()) for one in right.lines}
    assert spent == {"mic": [0.75, 0.75], "cg": [2.0]} and right.get_yscale() == "log"


# --- pictures of structures --------------------------------------------------------------------
def test_contours_are_drawn_on_the_deformed_structure(saved, tmp_path):
    mesh = plate().mesh
    u = np.zeros_like(mesh.nodes)
    u[:, 0] = 1e-3 * mesh.nodes[:, 0] / mesh.nodes[:, 0].max()
    values = mesh.nodes[:, 1].copy()
    pictures.contours(tmp_path / "c.png", mesh, u, {"a [MPa]": values, "flat": 0 * values + 2.0})
    axes = [axis for axis in saved[-1].axes if axis.get_title()]
    assert [axis.get_title() for axis in axes] == ["a [MPa]", "flat"]
    width = 0.1 * mesh.size  # the largest displacement as drawn
    assert saved[-1].get_suptitle() == f" (displacements x {width / 1e-3:.3g})"
    low, high = axes[0].dataLim.intervalx
    assert high - low == pytest.approx(np.ptp(mesh.nodes[:, 0]) + width)
    assert axes[0].dataLim.intervaly == pytest.approx(
        [mesh.nodes[:, 1].min(), mesh.nodes[:, 1].max()]
    )
    pictures.contours(tmp_path / "c.png", mesh, 0 * u, {"a": values})
    assert saved[-1].get_suptitle() == " (displacements x 0)"


def test_convergence_and_load_curves(saved, tmp_path):
    left_over = (1.0, 1e-4, 0.0)
    steps = [
        Step(0.5, left_over, 0, 0.1, (0, 0), (2.0, -1.0)),
        Step(1.0, left_over, 0, 0.1, (0, 0), (5.0, -3.0)),
    ]
    pictures.curves(tmp_path / "c.png", steps)
    left, right = saved[-1].axes
    assert [one.get_label() for one in left.lines] == ["load 0.5", "load 1"]
    assert list(left.lines[0].get_xdata()) == [1, 2, 3]
    shown = left.lines[0].get_ydata()
    assert list(shown[:2]) == [1.0, 1e-4] and 0 < shown[2] < 1e-15  # zero has no logarithm
    forces = {one.get_label(): list(one.get_ydata()) for one in right.lines}
    assert forces == {"x component": [0.0, 2.0, 5.0], "y component": [0.0, -1.0, -3.0]}
    assert all(list(one.get_xdata()) == [0.0, 0.5, 1.0] for one in right.lines)


# --- settings ----------------------------------------------------------------------------------
def test_settings_are_read_by_their_types():
    found = read(DamBreak, ["width=0.5", "steps=12", "keep_volume=false", "model=null", "dt=0.25"])
    assert (found.width, found.steps, found.keep_volume) == (0.5, 12, False)
    assert found.model is None and found.dt == 0.25
    assert read(DamBreak, ["dt=none"]).dt is None and read(DamBreak, ["width=1"]).width == 1.0
    assert isinstance(read(DamBreak, ["model=3"]).model, str)
    for word, said in (
        ("steps=1.5", "steps=1.5"), ("keep_volume=1", "bool"), ("width=wide", "float"),
        ("steps", "key=value"), ("step=1", "Did you mean 'steps'"), ("solver=mgi", "multigrid"),
        ("model=", "str"), ("solver=", "cg"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            read(DamBreak, [word])
    with pytest.raises(ConfigError, match="twice"):
        read(DamBreak, ["steps=1", "steps=2"])


def test_settings_are_described_with_their_defaults():
    lines = described(DamBreak).splitlines()
    assert any(one.split()[0] == "keep_volume=true" for one in lines)
    assert any(one.split()[0] == "model=null" for one in lines)
    (solver,) = [one for one in lines if one.strip().startswith("solver=")]
    assert "cg | mic | multigrid" in solver
    assert len({len(one) - len(one[2:].split("  ", 1)[1].lstrip()) for one in lines}) == 1
    assert issubclass(DamBreak, Simulation)
