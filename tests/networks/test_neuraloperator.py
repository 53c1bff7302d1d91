"""Networks of neuraloperator against the library by hand; its loop, folders, training, refusals."""

import copy
import functools
import json
import math
import sys
import warnings

import pytest
import torch

from sciml.cli import paths
from sciml.data.walk_labels.walk_clouds import WalkClouds
from sciml.data.walk_labels.walk_data import WalkData
from sciml.errors import ConfigError, InvalidArgument, MissingPackage, PretrainedError
from sciml.modules.wos_operator import WalkOperator
from sciml.networks import neuraloperator_library
from sciml.networks.elliptic.neuraloperator_elliptic import NeuralopCloud, NeuralopGrid
from sciml.networks.neuraloperator_library import segment_sums
from sciml.optim.construct import construct
from sciml.optim.curvature.terms import total_loss
from sciml.physics.elliptic.elliptic_families import StarDiffusion, StarPoisson
from sciml.pretrained import load_pretrained, save_operator
from sciml.testing import contract, runs

FNO = {"n_modes": [6, 6], "hidden_channels": 5, "n_layers": 2}
UNO = {
    "hidden_channels": 5,
    "lifting_channels": 7,
    "projection_channels": 7,
    "n_layers": 3,
    "uno_out_channels": [5, 6, 5],
    "uno_n_modes": [[6, 6], [4, 4], [6, 6]],
    "uno_scalings": [[1, 1], [0.5, 0.5], [2, 2]],
    "channel_mlp_skip": "linear",
}
KERNEL = {"gno_weighting_function": "half_cos", "gno_embed_channels": 2}
STATE = {"fno_n_modes": [4, 4], "fno_hidden_channels": 6, "fno_n_layers": 2}
GINO = {
    **KERNEL,
    **STATE,
    "in_gno_radius": 0.6,
    "out_gno_radius": 0.6,
    "in_gno_pos_embed_type": "nerf",
    "out_gno_pos_embed_type": "nerf",
    "in_gno_channel_mlp_hidden_layers": [8],
    "out_gno_channel_mlp_hidden_layers": [8],
}
FNOGNO = {
    **KERNEL,
    **STATE,
    "gno_radius": 0.6,
    "gno_pos_embed_type": "nerf",
    "gno_channel_mlp_hidden_layers": [8],
}
GRIDS = {"FNO": FNO, "TFNO": FNO, "UNO": UNO}
CLOUDS = {"GINO": GINO, "FNOGNO": FNOGNO}


def grid(model="FNO", options=None, **more):
    torch.manual_seed(0)
    return NeuralopGrid(**{"nodes": 16, "model": model, "options": options or GRIDS[model], **more})


def cloud(model="GINO", options=None, nodes=9):
    torch.manual_seed(0)
    return NeuralopCloud(nodes=nodes, model=model, options=options or CLOUDS[model])


def network(model):
    return grid(model) if model in GRIDS else cloud(model)


def fields(dim=2, n=16, count=3, names=()):
    """Balls of different size with random data, as on a grid; g is that of the closest point."""
    generator = torch.Generator().manual_seed(1)
    axis = torch.linspace(-1.5, 1.5, n)
    x = torch.stack(torch.meshgrid(*[axis] * dim, indexing="ij"))
    r = x.square().sum(0).sqrt()
    radius = torch.tensor([0.6, 0.9, 1.2])[:count].view(-1, *[1] * dim)
    slopes = torch.rand(count, dim, generator=generator)
    found = {"sdf": r - radius, "boundary": torch.einsum("nk,k...->n...", slopes, x / r)}
    for name in ("source", *names):
        found[name] = torch.rand(count, *[n] * dim, generator=generator)
    return found


def points(count=2, inner=30, outer=20):
    """Points in the unit disk and on its circle, with random data."""
    generator = torch.Generator().manual_seed(1)
    a = 2 * math.pi * torch.rand(count, inner + outer, generator=generator)
    r = torch.rand(count, inner + outer, generator=generator).sqrt()
    r[:, inner:] = 1
    return {
        "points": torch.stack([r * a.cos(), r * a.sin()], 2),
        "boundary": torch.rand(count, inner + outer, generator=generator),
        "distance": r - 1,
        "source": torch.rand(count, inner + outer, generator=generator),
    }


def inputs(model):
    return fields() if model in GRIDS else points()


# --- what the library's networks are given, and what is made of their answer ----------------------
@pytest.mark.parametrize("model", GRIDS)
def test_grids_against_the_library_by_hand(model):
    from neuralop import models

    made = grid(model)
    plain = getattr(models, model)(
        in_channels=6, out_channels=1, positional_embedding=None, **copy.deepcopy(GRIDS[model])
    )
    plain.load_state_dict(made.model.state_dict())
    given = fields()
    s, g, f = given.values()
    near, own = torch.exp(-s.abs() / 0.1), (s < 0).float()
    c = torch.stack([(v * w).sum() / w.sum() for v, w in zip(g, near, strict=True)])
    a = [(((v - m) ** 2 * w).sum() / w.sum()) for v, m, w in zip(g, c, near, strict=True)]
    a = [(b + (v**2 * w).sum() / w.sum() / 16) ** 0.5 for b, v, w in zip(a, f, own, strict=True)]
    c, a = c[:, None, None], torch.stack(a)[:, None, None]
    channels = torch.zeros(3, 6, 16, 16)
    for i in range(16):
        for j in range(16):
            channels[:, 0, i, j] = s[:, i, j].clamp(-0.5, 0.5)
            channels[:, 1, i, j] = ((g - c) / a)[:, i, j]
            channels[:, 2, i, j] = (f / a)[:, i, j]
            channels[:, 3, i, j] = (s[:, i, j] < 0).float()
            channels[:, 4, i, j], channels[:, 5, i, j] = 2 * i / 15 - 1, 2 * j / 15 - 1
    learned = a * plain(channels)[:, 0]
    inside = g + (1 - torch.exp(-s.abs() / 0.1)) * learned
    found = made(**given)
    assert learned.std() > 1e-3
    assert torch.allclose(found[s < 0], inside[s < 0], atol=1e-6, rtol=1e-6)
    assert torch.equal(found[s >= 0], g[s >= 0])
    assert torch.equal(made.infer(**given)["value"], found)


def test_coefficients_and_cubes():
    made = grid(coefficients=["screening", "diffusion"])
    given = fields(names=("screening", "diffusion"))
    whole = made(**given)
    assert list(made.schema()["inputs"]) == list(given)
    for name in ("screening", "diffusion"):
        assert (made(**{**given, name: given[name] + 1}) - whole).abs().max() > 1e-4
    with pytest.raises(InvalidArgument, match="no diffusion"):
        made(**{**given, "diffusion": None})
    cube = grid(dim=3, options={**FNO, "n_modes": [4, 4, 4]})
    given = fields(3, 8, 2)
    assert cube(**given).shape == (2, 8, 8, 8)
    assert cube.schema()["inputs"]["sdf"]["shape"] == ["N", "H", "W", "D"]


def test_values_between_nodes():
    """At nodes they are those of the grid; what is learned outside the domain is not looked at."""
    made, given = grid(), fields()
    axis = torch.linspace(-1.5, 1.5, 16)
    nodes = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(1, -1, 2)
    s = given["sdf"].flatten(1)
    found, inside = made.at(nodes.expand(3, -1, -1), s, **given), s < 0
    assert torch.allclose(found[inside], made(**given).flatten(1)[inside], atol=1e-5, rtol=1e-5)
    made.learned = lambda sdf, **_: torch.where(sdf < 0, 2.0, 1e6)
    x = torch.tensor([[[0.55, 0.1], [0.0, 0.0]]])  # the first has neighbours outside
    one = {k: v[:1] for k, v in given.items()}
    depth = x.norm(dim=2) - 0.6
    g = made.at(x, torch.zeros(1, 2), **one)
    assert torch.allclose(
        made.at(x, depth, **one) - g, 2 * (1 - torch.exp(depth / 0.1)), atol=1e-5, rtol=1e-6
    )


@pytest.mark.parametrize("query", [False, True])
@pytest.mark.parametrize("model", CLOUDS)
def test_clouds_against_the_library_by_hand(model, query):
    """One problem after the other, with the library's own loop over points."""
    made, given = cloud(model), points()
    asked = 0.9 * given["points"][:, :7] if query else given["points"]
    axis = [-1.5 + 3 * k / 8 for k in range(9)]
    latent = torch.tensor([[[a, b] for b in axis] for a in axis])
    wanted = []
    for k in range(2):
        x, g, s, f = (v[k] for v in given.values())
        c = sum(g[30:]) / 20  # the last points lie on the boundary
        a = (sum((v - c) ** 2 for v in g[30:]) / 20 + sum(v**2 for v in f) / 50 / 16) ** 0.5
        g, f = (g - c) / a, f / a
        if model == "GINO":
            u = made.model(x[None], latent[None], asked[k][None], x=torch.stack([g, s, f], 1)[None])
            wanted.append(c + a * u[0, :, 0])
            continue
        rows = []
        for y in latent.reshape(-1, 2):
            gaps = (x - y).norm(dim=1)
            j = int(gaps.argmin())
            rows.append(torch.stack([g[j], s[j], f[j], gaps[j]]))
        nodes = torch.stack(rows).view(1, 9, 9, 4)
        wanted.append(c + a * made.model(in_p=latent, out_p=asked[k], f=nodes)[0, :, 0])
    wanted = torch.stack(wanted)
    found = made(**given, query=asked if query else None)
    assert found.shape == asked.shape[:2] and wanted.std() > 1e-4
    assert torch.allclose(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", [*GRIDS, *CLOUDS])
def test_shifted_and_scaled_data(model):
    made, given = network(model), inputs(model)
    u = made(**given)
    other = {**given, "boundary": 3 * given["boundary"] + 7, "source": 3 * given["source"]}
    assert torch.allclose(made(**other), 3 * u + 7, atol=1e-4, rtol=1e-5)
    constant = {**given, "boundary": 0 * u + 2.5, "source": 0 * u}
    assert torch.allclose(made(**constant), constant["boundary"], atol=1e-4, rtol=1e-5)


def test_shifts_are_seen_where_there_is_screening():
    made, given = grid(coefficients=["screening"]), fields(names=("screening",))
    u = made(**given)
    other = {k: v if k in ("sdf", "screening") else 3 * v for k, v in given.items()}
    assert torch.allclose(made(**other), 3 * u, atol=1e-5, rtol=1e-6)
    moved = made(**{**given, "boundary": given["boundary"] + 7}) - 7 - u
    assert moved[given["sdf"] < -0.2].abs().max() > 0.01


def test_solutions_on_clouds_have_slopes():
    """Where neighbours fade out: against differences, with what else would be jumps in the way."""
    made, given = cloud(options={**GINO, "out_gno_radius": 0.45}), points()
    line = torch.linspace(-0.8, 0.8, 321)
    query = torch.stack([line, 0.1 + 0 * line], 1).expand(2, -1, -1).clone().requires_grad_()
    u = made(**given, query=query)
    (slope,) = torch.autograd.grad(u.sum(), query)
    u, h = u.detach(), float(line[1] - line[0])
    steps, means = u[:, 2:] - u[:, :-2], 2 * h * slope[:, 1:-1, 0]
    assert (steps - means).abs().max() < 0.05 * steps.abs().max()


# --- sums without the loop ------------------------------------------------------------------------
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_segment_sums_against_the_librarys_loop(reduction, batch):
    from neuralop.layers.segment_csr import segment_csr

    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([3, 0, 1, 7, 0, 4, 0])  # some have no neighbours, the last one, too
    ends = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    ends = ends.expand(*batch, -1) if batch else ends
    rows = torch.rand(*batch, 15, 4, generator=generator).requires_grad_()
    weight = torch.rand(*batch, 7, 4, generator=generator)
    results = []
    for reduce in (segment_csr, segment_sums):
        found = reduce(rows, ends, reduction, use_scatter=False)
        (slope,) = torch.autograd.grad((found.square() * weight).sum(), rows, create_graph=True)
        (second,) = torch.autograd.grad(slope.square().sum(), rows)
        results.append((found, slope, second))
    for theirs, ours in zip(*results, strict=True):
        assert theirs.shape == ours.shape and torch.allclose(theirs, ours, atol=1e-6, rtol=1e-6)


def test_nobody_waits_for_the_loop_and_the_library_stays_as_it_is(monkeypatch):
    from neuralop.layers import integral_transform

    loop = integral_transform.segment_csr
    seen = []

    def broken(src, *_, **__):
        seen.append(src)
        raise ZeroDivisionError

    monkeypatch.setattr(neuraloperator_library, "segment_sums", broken)
    with pytest.raises(ZeroDivisionError):
        cloud()(**points())
    assert len(seen) == 1 and integral_transform.segment_csr is loop
    assert loop.__module__ == "neuralop.layers.segment_csr"


def test_the_library_does_not_change_the_filters_of_warnings(tmp_path, monkeypatch):
    (tmp_path / "loud.py").write_text("import warnings\nwarnings.simplefilter('ignore')\nx = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(warnings.filters)
    assert neuraloperator_library.library("loud").x == 1
    assert list(warnings.filters) == before


# --- saving ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", [*GRIDS, *CLOUDS])
def test_states_are_tensors_and_load_strictly(model):
    pair = torch.nn.ModuleList([network(model), network(model)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = pair.state_dict()
    assert all(isinstance(v, torch.Tensor) for v in state.values())
    torch.manual_seed(9)
    other = copy.deepcopy(pair)
    for p in other.parameters():
        torch.nn.init.normal_(p)
    other.load_state_dict(state, strict=True)
    given = inputs(model)
    with torch.no_grad():
        assert torch.equal(other[1](**given), pair[1](**given))


@pytest.fixture
def folder(tmp_path):
    def save(model):
        made = network(model).eval()
        arguments = {"nodes": 16 if model in GRIDS else 9, "model": model}
        arguments["options"] = {**GRIDS, **CLOUDS}[model]
        return made, save_operator(
            tmp_path / model, made, arguments=arguments, ranges={}, name=model
        )

    return save


@pytest.mark.parametrize("model", [*GRIDS, *CLOUDS])
def test_folders_predict_the_same(model, folder):
    made, place = folder(model)
    loaded, given = load_pretrained(place), inputs(model)
    with torch.no_grad():
        before = made.infer(**given)["value"]
    assert torch.equal(loaded.predict(**given)["value"], before)
    assert torch.allclose(loaded.predict(**given, chunk=1)["value"], before, atol=1e-6, rtol=1e-6)
    assert type(loaded.network.model).__name__ == model


def test_programs_are_refused_in_words(folder):
    """The library looks at the number of samples, and on clouds at that of neighbours."""
    _, place = folder("FNO")
    with pytest.raises(InvalidArgument, match="NeuralopGrid cannot be exported"):
        load_pretrained(place).export()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "os.system"}, "network.model=os.system. Expected 'FNO', 'TFNO', 'UNO'"),
        ({"model": "CODANO"}, "Expected 'FNO', 'TFNO', 'UNO'"),
        ({"options": {**FNO, "conv_module": "os:system"}}, "network.options.conv_module"),
        ({"options": {**FNO, "non_linearity": "eval"}}, "network.options.non_linearity"),
        ({"options": {**FNO, "args": [1]}}, "network.options.args"),
        ({"options": {**FNO, "hidden_channels": 10**6}}, "a model of more than"),
        ({"options": {"class": "os:system", "arguments": {}}}, "never followed"),
    ],
)
def test_hostile_folders_are_refused(change, said, folder):
    _, place = folder("FNO")
    spec = json.loads((place / "model.json").read_text())
    spec["arguments"] |= change
    (place / "model.json").write_text(json.dumps(spec))
    with pytest.raises(PretrainedError, match=said):
        load_pretrained(place)


# --- what is refused ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hiden_channels": 3}, "options.hiden_channels.*Did you mean 'hidden_channels'"),
        ({"in_channels": 3}, "options.in_channels, 6 here"),
        ({"n_modes": [4, 4, 4]}, "modes along 3 axes. Expected 2"),
        ({"norm": "batch"}, "neuraloperator's FNO refuses"),
        ({"hidden_channels": "many"}, "neuraloperator's FNO refuses"),
    ],
)
def test_wrong_options_are_refused(options, said):
    with pytest.raises(InvalidArgument, match=said):
        grid(options={**FNO, **options})


def test_wrong_networks_and_inputs_are_refused():
    with pytest.raises(InvalidArgument, match="network.model=GINO. Expected 'FNO', 'TFNO', 'UNO'"):
        NeuralopGrid(model="GINO", options=GINO)
    with pytest.raises(InvalidArgument, match="network.model=FNO. Expected 'GINO', 'FNOGNO'"):
        NeuralopCloud(model="FNO", options=FNO)
    with pytest.raises(InvalidArgument, match="missing.*n_modes"):
        NeuralopGrid()
    with pytest.raises(InvalidArgument, match="the coefficient 'viscosity'"):
        grid(coefficients=["viscosity"])
    half = grid(options={**FNO, "resolution_scaling_factor": [0.5, 1]})
    with pytest.raises(InvalidArgument, match=r"\(16, 16\) into one of \(8, 8\)"):
        half(**fields())
    for model in ("FNO", "GINO"):
        given = {k: v.double() for k, v in inputs(model).items()}
        with pytest.raises(InvalidArgument, match="trainer.precision=32-true"):
            network(model).double()(**given)


def test_options_are_not_changed():
    """Layers of the library append to lists that they are given."""
    options = copy.deepcopy(GINO)
    options["in_gno_channel_mlp_hidden_layers"] = [16, 8]  # the first is the width of the input
    before = copy.deepcopy(options)
    cloud(options=options)
    assert options == before


def test_without_the_library(folder, monkeypatch):
    _, place = folder("FNO")
    monkeypatch.setitem(sys.modules, "neuralop.models", None)
    with pytest.raises(MissingPackage, match="Type pip install neuraloperator"):
        grid()
    with pytest.raises(ImportError, match="Type pip install neuraloperator"):
        load_pretrained(place)


NETWORKS = [p for p in paths.options("network") if p.startswith("neuralop")]


def command(name, *words):
    clouds = "gno" in name or "gino" in name
    return [f"model=wos_poisson2d{'_gino' * clouds}", f"network={name}", *words]


def test_options_on_the_command_line():
    config = runs.compose(command("neuralop_fno", "network.options.n_layers=2"))
    assert config["network"]["options"]["n_layers"] == 2
    config = runs.compose(
        command("neuralop_fno", "network.model=TFNO", "++network.options={rank: 0.2}")
    )
    assert config["network"]["options"]["rank"] == 0.2
    assert config["network"]["options"]["hidden_channels"] == 24
    with pytest.raises(ConfigError, match="Did you mean network.options.n_layers"):
        runs.compose(command("neuralop_fno", "network.options.n_layer=2"))


def test_optimizers_that_look_at_rows_of_layers_are_refused_on_clouds():
    """Kernels see one row per pair of neighbours, whatever the number of problems."""
    for optimizer in ("kfac", "kfac_star", "mkor", "engd", "spring"):
        with pytest.raises(ConfigError, match="takes the rows that a layer sees"):
            runs.compose(command("neuralop_gino", f"optimizer={optimizer}"))
    runs.compose(command("neuralop_fno", "optimizer=kfac"))


# --- training -------------------------------------------------------------------------------------
DATA = {"batch_size": 2, "pool": 4, "table": 24, "val_count": 2, "val_walks": 4, "test_count": 2}


@pytest.mark.parametrize("objective", ["walks", "pino", "ritz"])
@pytest.mark.parametrize("model", [*GRIDS, *CLOUDS])
def test_two_steps_of_every_objective(model, objective):
    if model in GRIDS:
        data = WalkData(StarPoisson(), nodes=16, **DATA)
    else:
        data = WalkClouds(StarPoisson(), interior=24, boundary=16, **DATA)
    sgd = functools.partial(torch.optim.SGD, lr=1e-3)
    m = WalkOperator(network=network(model), data=data, optimizer=sgd, objective=objective)
    optimizer = m.configure_optimizers()
    before = [p.detach().clone() for p in m.parameters()]
    for step in range(2):
        optimizer.zero_grad()
        total_loss(m.loss_terms(data.batch(step).to("cpu", torch.float32))).backward()
        assert all(p.grad.isfinite().all() for p in m.parameters() if p.grad is not None)
        optimizer.step()
    moved = [bool((p != b).any()) for p, b in zip(m.parameters(), before, strict=True)]
    # a bias added at the end has no part in derivatives of the solution
    assert sum(moved) >= len(moved) - 1


def test_fused_optimizers_treat_complex_weights():
    made = grid()
    assert any(p.is_complex() for p in made.parameters())
    optimizer = construct(functools.partial(torch.optim.Adam, lr=1e-2, fused=True), made)
    made(**fields()).square().mean().backward()
    before = [p.detach().clone() for p in made.parameters()]
    optimizer.step()
    assert all((p != b).any() for p, b in zip(made.parameters(), before, strict=True))


def test_a_family_with_coefficients_trains():
    data = WalkData(StarDiffusion(), nodes=16, **DATA)
    made = grid(coefficients=data.sizes["coefficients"])
    sgd = functools.partial(torch.optim.SGD, lr=1e-3)
    m = WalkOperator(network=made, data=data, optimizer=sgd)
    total_loss(m.loss_terms(data.batch(0).to("cpu", torch.float32))).backward()
    assert all(p.grad.isfinite().all() for p in made.parameters())


SMALL = ["data.table=24", "data.pool=4", "data.batch_size=2", "data.val_count=2"]
SMALL += ["data.val_walks=4", "data.test_count=1"]
CASES = {
    "neuralop_fno": ["network.options.n_modes=[4,4]", "network.options.hidden_channels=6"]
    + ["data.nodes=14"],
    "neuralop_gino": ["network.options.fno_n_modes=[4,4]", "network.options.fno_hidden_channels=6"]
    + ["network.nodes=12", "data.interior=24", "data.boundary=12"],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_configured_network_trains_all_its_weights(name, tmp_path):
    words = command(name, *SMALL)
    contract.gradient_reaches_every_parameter(words, tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_runs_leave_a_folder_and_continue(name, tmp_path):
    words = command(name, *SMALL, *CASES[name])
    contract.predicts_the_same_after_loading(words, tmp_path)
    contract.resumes_bit_identical(words, tmp_path)


@pytest.mark.slow
class TestContract(contract.ModuleContract):
    """The rest of the contract: every optimizer, two ranks.

    python -m pytest -m slow tests/networks/test_neuraloperator.py
    """

    cases = {name: command(name, *SMALL, *words) for name, words in CASES.items()}
    optimizer_cases = ("neuralop_fno",)
    rank_tolerance = 1e-3  # walks of two ranks are not those of one in single precision
    test_overfits_one_batch = None  # the loss keeps the noise of its walks
    test_builds_from_its_config = test_gradient_reaches_every_parameter = None  # done above
    test_predicts_the_same_after_loading = test_resume_equals_uninterrupted = None
