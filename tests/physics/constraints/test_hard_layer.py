"""The layer: exactness, gradients, invariance, batching, coupling, and what it refuses."""

from types import SimpleNamespace

import pytest
import torch
from discrete_cases import burgers_case, periodic, slopes, smooth

from sciml.errors import ConvergenceError, InvalidArgument
from sciml.physics.constraints import ConstrainedEquation, DarcyConstraint, HardConstraint
from sciml.physics.constraints.expert_rows import expert_rows, unit_columns
from sciml.physics.constraints.expert_solve import solve_experts
from sciml.physics.steady.darcy import Darcy
from sciml.solvers import Dense, Implicit, LevenbergMarquardt, Status, least_squares

TIGHT = LevenbergMarquardt(1e-12, max_iter=60)
EXACT = {"solver": TIGHT, "ridge": 0.0, "adjoint": Implicit(Dense("symmetric"))}


class Heat(ConstrainedEquation):
    """u_t = kappa u_xx by implicit Euler on a periodic grid, kappa the second input."""

    axes, periodic, in_channels, linear = ("t", "x"), (False, True), 2, True

    def __init__(self, problem):
        self.sizes = (len(problem.times), len(problem.grids[0]))
        self.step, self.second = float(problem.times[1]), slopes(self.sizes[1])[1]

    def features(self, field, inputs, *, data):
        slope = torch.zeros_like(field)
        slope[..., 1:, :] = field.diff(dim=-2) / self.step
        return [slope, field @ self.second.T]

    def aux(self, inputs, sizes):
        return [inputs[:, 1:].expand(-1, sizes[0], -1)]

    def formula(self, values, aux):
        return values[0] - aux[0] * values[1]

    def weight(self, sizes):
        out = torch.ones(*sizes)
        out[0] = 0
        return out

    def conditions(self, field, inputs, *, data):
        gap = field[..., 0, :]
        if data:
            gap = gap - inputs[:, 0].reshape(len(inputs), *[1] * (gap.dim() - 2), -1)
        return gap / gap.shape[-1] ** 0.5


def heat_case(samples=2, functions=5):
    problem = periodic(levels=9, points=16)
    equation = Heat(problem)
    kappa = torch.linspace(0.01, 0.05, samples)
    start = torch.sin(2 * torch.pi * problem.grids[0]) + torch.arange(1.0, samples + 1)[:, None]
    u = [start]
    for _ in problem.times[1:]:
        system = torch.eye(16) - equation.step * kappa[:, None, None] * equation.second
        u.append(torch.linalg.solve(system, u[-1]))
    u = torch.stack(u, 1)
    draw = torch.Generator().manual_seed(1)
    basis = torch.cat([u[:, None], smooth(samples, functions - 1, 9, 16, draw)], 1)
    inputs = torch.stack([start, kappa[:, None].expand(-1, 16)], 1)
    return equation, inputs, u, basis


# --- exactness ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("experts", "split"), [(1, "space"), (4, "space"), (2, "time"), (6, [2, 3])]
)
def test_linear_equation_with_the_solution_in_the_basis_is_solved_exactly(experts, split):
    equation, inputs, u, basis = heat_case()
    layer = HardConstraint(equation, experts=experts, split=split, ridge=0.0)
    out = layer(basis, inputs)
    assert out.converged.all()
    assert int(out.iterations.max()) == 1  # one factorisation
    exact = torch.zeros_like(out.weights)
    exact[..., 0] = u.square().mean((1, 2)).sqrt()[:, None]  # of the scaled columns
    torch.testing.assert_close(out.weights, exact, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(out.value, u, rtol=1e-10, atol=1e-10)
    assert float(layer.residual(out.value, inputs).abs().max()) < 1e-10
    assert float(out.residual.max()) < 1e-10
    assert float(out.jump.max()) < 1e-10


def test_darcy_flow_with_the_solution_in_the_basis():
    steady = Darcy(12)
    problem = SimpleNamespace(cells=12, steady=steady)
    a = steady.draw(2, torch.Generator().manual_seed(0))
    u = steady.solve(a).value
    x = (torch.arange(12) + 0.5) / 12
    others = [torch.sin(torch.pi * j * x)[:, None] * torch.sin(torch.pi * x) for j in (1, 2, 3)]
    basis = torch.cat([u[:, None], torch.stack(others).expand(2, -1, -1, -1)], 1)
    layer = HardConstraint(DarcyConstraint(problem), experts=4)
    out = layer(basis, a[:, None])
    assert layer.counts == (2, 2)
    torch.testing.assert_close(out.value, u, rtol=1e-9, atol=1e-11)
    assert float(layer.residual(out.value, a[:, None]).abs().max()) < 1e-8


@pytest.mark.parametrize("initial", ["rows", "lift"])
@pytest.mark.parametrize("experts", [1, 3])
def test_burgers_with_the_solution_in_the_basis_is_solved_in_few_iterations(initial, experts):
    equation, inputs, u, basis = burgers_case(initial=initial)
    if initial == "lift":  # u = u_0 + t b w
        basis = basis.clone()
        clock = torch.arange(1.0, 11.0)[:, None] / 10
        basis[:, 0, 1:] = (u[:, 1:] - u[:, :1]) / clock
    layer = HardConstraint(equation, experts=experts, picard=0, ridge=0.0, solver=TIGHT)
    out = layer(basis, inputs)
    assert out.converged.all()
    assert int(out.iterations.max()) <= 20
    assert float(layer.residual(out.value, inputs).abs().max()) < 1e-9
    torch.testing.assert_close(out.value, u, rtol=1e-9, atol=1e-9)
    started = HardConstraint(equation, experts=experts, picard=3, ridge=0.0, solver=TIGHT)
    torch.testing.assert_close(started(basis, inputs).value, u, rtol=1e-9, atol=1e-9)


# --- gradients ----------------------------------------------------------------------------------
def small_case(left_over):
    equation, inputs, u, basis = burgers_case(samples=1, functions=3, levels=5, points=6)
    return equation, inputs, basis if not left_over else basis[:, 1:]


@pytest.mark.parametrize("left_over", [False, True])
def test_gradients_are_exact_with_and_without_residual(left_over):
    equation, inputs, basis = small_case(left_over)
    layer = HardConstraint(equation, experts=2, **EXACT)
    some = basis[:, :1, 1:2, 2:4].clone().requires_grad_()

    def value(part):
        whole = basis.clone()
        whole[:, :1, 1:2, 2:4] = part
        return layer(whole, inputs).value[:, ::2, ::2]

    assert torch.autograd.gradcheck(value, some, eps=1e-6, atol=1e-6, rtol=1e-5)


def unrolled(layer, basis, inputs, steps=40, damping=1e-3):
    """Return the value after Levenberg-Marquardt steps from zero, differentiated through each."""
    drawn = layer.sampler(basis.shape[2:]).draw(None)
    columns = unit_columns(layer.equation.columns(basis, inputs))
    offset = layer.equation.offset(basis, inputs)
    rows = expert_rows(layer.equation, columns, offset, inputs, drawn)
    w = torch.zeros(len(rows[3]), basis.shape[1])
    for _ in range(steps):
        r = layer.rows.rows(w, *rows)
        jacobian = torch.stack(
            [
                torch.func.jacrev(lambda v, i=i: layer.rows.rows(v, *pick(rows, i)))(w[i])
                for i in range(len(w))
            ]
        )
        gram = jacobian.mT @ jacobian
        gram = gram + damping * torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))
        w = w - torch.linalg.solve(gram, (jacobian.mT @ r[..., None]))[..., 0]
    split = layer.sampler(basis.shape[2:]).split
    return offset + split.assemble(columns, w.unflatten(0, (len(basis), -1)))


def pick(rows, i):
    features, offsets, aux, *rest = rows
    return *[[t[i] for t in part] for part in (features, offsets, aux)], *(t[i] for t in rest)


def test_exact_adjoint_equals_unrolling_and_gauss_newton_does_not():
    equation, inputs, basis = small_case(True)
    basis.requires_grad_()

    def gradient(value):
        weight = torch.linspace(-1, 1, value.numel()).reshape(value.shape)
        return torch.autograd.grad((value * weight).sum(), basis)[0]

    layer = HardConstraint(equation, experts=2, solver=TIGHT, ridge=0.0)
    exact = gradient(layer(basis, inputs).value)
    plain = gradient(unrolled(layer, basis, inputs))
    torch.testing.assert_close(exact, plain, rtol=1e-8, atol=1e-8 * float(plain.abs().max()))
    rough = HardConstraint(
        equation,
        experts=2,
        solver=TIGHT,
        ridge=0.0,
        adjoint=Implicit(hessian="gauss_newton"),
    )
    gap = (gradient(rough(basis, inputs).value) - exact).norm() / exact.norm()
    assert float(gap) > 0.01


def test_what_the_derivative_keeps_does_not_grow_with_the_iterations():
    equation, inputs, _, basis = burgers_case(functions=5)
    basis.requires_grad_()

    def kept(max_iter, damping):
        solver = LevenbergMarquardt(1e-12, max_iter=max_iter, damping=damping)
        out = HardConstraint(equation, experts=2, picard=0, solver=solver)(basis, inputs)
        nodes, todo, storages = set(), [out.value.grad_fn], {}
        while todo:
            node = todo.pop()
            if node is None or node in nodes:
                continue
            nodes.add(node)
            todo += [n for n, _ in node.next_functions]
            saved = [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
            saved += getattr(node, "saved_tensors", ())
            for t in saved:
                if isinstance(t, torch.Tensor):
                    storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return int(out.iterations.max()), len(nodes), sum(storages.values())

    few, *small = kept(2, 1e-3)
    many, *large = kept(100, 1e6)  # a damping that takes long to fall
    assert (few, small) == (2, large)
    assert small[1] > basis.numel() * 8
    assert many >= 15


# --- invariance ---------------------------------------------------------------------------------
@pytest.mark.parametrize("factor", [-3.0, 1e-6, 1e6])
def test_scaling_a_basis_function_changes_nothing(factor):
    equation, inputs, _, basis = burgers_case()
    layer = HardConstraint(equation, experts=2, solver=TIGHT, ridge=0.0)
    c = torch.tensor(factor, requires_grad=True)

    def scaled(c):
        return layer(torch.cat([basis[:, 1:2] * c, basis[:, 2:]], 1), inputs)

    out = scaled(c)
    plain = scaled(torch.tensor(1.0))
    torch.testing.assert_close(out.value, plain.value, rtol=1e-8, atol=1e-9)
    loss = layer.residual(out.value, inputs).square().mean()
    slope = torch.autograd.grad(loss, c)[0] * c.detach()
    assert float(slope.abs()) < 1e-8 * max(1.0, float(loss.detach()))


def test_duplicated_functions_are_flagged_and_give_finite_gradients():
    equation, inputs, _, basis = burgers_case(functions=4)
    layer = HardConstraint(equation, experts=2, rank=True)
    double = torch.cat([basis[:, 1:], basis[:, 1:2]], 1).requires_grad_()
    out = layer(double, inputs)
    assert out.rank.tolist() == [[3, 3], [3, 3]]
    assert out.converged.all()
    (slope,) = torch.autograd.grad(layer.residual(out.value, inputs).square().mean(), double)
    assert slope.isfinite().all()
    single = layer(basis[:, 1:], inputs)
    assert single.rank.tolist() == [[3, 3], [3, 3]]
    torch.testing.assert_close(out.value, single.value, rtol=1e-5, atol=1e-6)


def test_duplicates_of_a_linear_equation_take_the_least_norm():
    equation, inputs, u, basis = heat_case()
    layer = HardConstraint(equation, experts=2, rank=True, ridge=0.0)
    out = layer(torch.cat([basis, basis[:, :1]], 1), inputs)
    assert (out.rank == 5).all()
    torch.testing.assert_close(out.value, u, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(out.weights[..., 0], out.weights[..., -1], rtol=1e-8, atol=1e-9)


# --- batching -----------------------------------------------------------------------------------
def test_a_batch_of_experts_equals_separate_solves():
    equation, inputs, _, basis = burgers_case(samples=3)
    basis = basis[:, 1:]
    layer = HardConstraint(equation, experts=3, solver=TIGHT)
    out = layer(basis, inputs)
    sampler = layer.sampler(basis.shape[2:])
    rows = expert_rows(
        equation,
        unit_columns(equation.columns(basis, inputs)),
        equation.offset(basis, inputs),
        inputs,
        sampler.draw(None),
    )
    start = layer._first(basis.new_zeros(9, basis.shape[1]), rows)
    for p in range(9):
        lists = [[t[p : p + 1] for t in part] for part in rows[:3]]
        one = (*lists, *(t[p : p + 1] for t in rows[3:]))
        alone = solve_experts(
            layer.rows,
            start[p : p + 1],
            one,
            solver=TIGHT,
            adjoint=layer.adjoint,
            on_failure="best",
            rank=False,
        )[0]
        torch.testing.assert_close(
            out.weights.flatten(0, 1)[p : p + 1], alone, rtol=1e-12, atol=1e-12
        )


def test_one_expert_is_the_problem_without_a_router():
    equation, inputs, _, basis = burgers_case()
    basis = basis[:, 1:]
    out = HardConstraint(equation, experts=1, split="time", solver=TIGHT)(basis, inputs)
    columns = unit_columns(basis)
    features = equation.features(columns, inputs, data=False)
    matrices = [t.flatten(2).mT[:, 24:] for t in features]  # the first level has no equation

    def rows(w):
        values = [(t @ w[..., None])[..., 0] for t in matrices]
        initial = equation.conditions((columns * w[..., None, None]).sum(1), inputs, data=True)
        equations = equation.formula(values, []) / matrices[0].shape[1] ** 0.5
        return torch.cat([equations, initial, 1e-6 * w], 1)

    plain = least_squares(rows, torch.zeros(2, 5), on_failure="raise", solver=TIGHT)
    torch.testing.assert_close(out.weights[:, 0], plain.value, rtol=1e-9, atol=1e-10)
    same = HardConstraint(equation, experts=1, split=[1, 1], overlap=3, solver=TIGHT)(basis, inputs)
    assert torch.equal(out.value, same.value)


def test_nan_in_one_sample_is_flagged_and_leaves_the_others_alone():
    equation, inputs, _, basis = burgers_case(samples=3)
    layer = HardConstraint(equation, experts=2)
    clean = layer(basis, inputs)
    poisoned = basis.clone()
    poisoned[1, 2, 4, 5] = torch.nan
    out = layer(poisoned, inputs)
    assert (out.status[1] == Status.NONFINITE).all()
    assert torch.equal(out.value[[0, 2]], clean.value[[0, 2]])
    assert out.value[1].isnan().all()
    with pytest.raises(ConvergenceError, match="2 of 6 problems"):
        HardConstraint(equation, experts=2, on_failure="raise")(poisoned, inputs)


def test_an_expert_that_runs_out_of_iterations_says_so():
    equation, inputs, _, basis = burgers_case(functions=3)
    layer = HardConstraint(equation, experts=2, picard=0, solver=LevenbergMarquardt(max_iter=1))
    assert (layer(basis, inputs).status == Status.MAX_ITER).any()


# --- points, coupling ---------------------------------------------------------------------------
def test_points_are_drawn_within_the_blocks_and_the_seed_decides():
    equation, inputs, u, basis = burgers_case()
    layer = HardConstraint(equation, experts=2, points=20)

    def solved(seed):
        return layer(basis, inputs, generator=torch.Generator().manual_seed(seed))

    out = solved(0)
    assert out.points.counts == (20, 20)
    assert torch.equal(out.value, solved(0).value)
    assert not torch.equal(out.points.index, solved(1).points.index)
    members = layer.sampler(basis.shape[2:]).split.members()
    for k in range(2):
        assert set(out.points.index[k].tolist()) <= set(members[k].tolist())
    torch.testing.assert_close(out.value, u, rtol=1e-5, atol=1e-5)
    assert layer(basis, inputs).points.counts == (120, 120)  # all of them without a generator


def test_coupling_lowers_the_jump():
    equation, inputs, _, basis = burgers_case(functions=7)
    basis = basis[:, 1:]
    plain = HardConstraint(equation, experts=3)(basis, inputs)
    coupled = HardConstraint(equation, experts=3, sweeps=3)(basis, inputs)
    assert (coupled.jump < 0.8 * plain.jump).all()
    one = HardConstraint(equation, experts=1, split="time", sweeps=2)(basis, inputs)
    alone = HardConstraint(equation, experts=1, split="time")(basis, inputs)
    torch.testing.assert_close(one.value, alone.value, rtol=1e-6, atol=1e-7)


def test_gradients_pass_through_the_coupling():
    equation, inputs, basis = small_case(True)
    layer = HardConstraint(equation, experts=2, sweeps=1, **EXACT)
    some = basis[:, :1, 1:2, 2:4].clone().requires_grad_()

    def value(part):
        whole = basis.clone()
        whole[:, :1, 1:2, 2:4] = part
        return layer(whole, inputs).value[:, ::2, ::2]

    assert torch.autograd.gradcheck(value, some, eps=1e-6, atol=1e-6, rtol=1e-5)


def test_overlapping_experts_hand_over_smoothly():
    equation, inputs, _, basis = burgers_case(functions=7)
    basis = basis[:, 1:]
    hard = HardConstraint(equation, experts=3)(basis, inputs)
    soft = HardConstraint(equation, experts=3, overlap=3)(basis, inputs)
    edge = hard.split.edges[1][1]

    def step(out):
        return out.value[..., edge - 2 : edge + 2].diff(n=2, dim=-1).square().mean()

    assert float(step(soft)) < float(step(hard))


# --- refusals -----------------------------------------------------------------------------------
def test_fewer_rows_than_functions_are_refused():
    equation, inputs, _, _ = heat_case()
    many = torch.randn(2, 40, 9, 16)
    with pytest.raises(InvalidArgument, match="an expert with 32 rows for 40 basis functions"):
        HardConstraint(equation, experts=8)(many, inputs)


def test_wrong_shapes_and_numbers_are_refused():
    equation, inputs, _, basis = heat_case()
    layer = HardConstraint(equation)
    with pytest.raises(InvalidArgument, match="basis functions of shape"):
        layer(basis[:, 0], inputs)
    with pytest.raises(InvalidArgument, match="for 1 samples"):
        layer(basis[:1], inputs)
    with pytest.raises(InvalidArgument, match="none is empty"):
        HardConstraint(equation, experts=17)
    with pytest.raises(InvalidArgument, match=r"constraint\.points=0"):
        HardConstraint(equation, points=0)
    with pytest.raises(InvalidArgument, match=r"constraint\.sweeps=-1"):
        HardConstraint(equation, sweeps=-1)
    with pytest.raises(InvalidArgument, match=r"coupling=0"):
        HardConstraint(equation, coupling=0.0)
    with pytest.raises(InvalidArgument, match="on_failure"):
        HardConstraint(equation, on_failure="ignore")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"experts": 2.5}, "experts is 2.5. Expected a whole number"),  # searched primes for ever
        ({"experts": "two"}, "experts is 'two'"),
        ({"split": 3}, "split is 3. Expected a list of whole numbers"),
        ({"split": [1, 2.0]}, "split is"),
        ({"overlap": 1.5}, "overlap is 1.5"),
        ({"points": 2.5}, "points is 2.5"),
        ({"ridge": "small"}, "ridge is 'small'"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(words, match):
    with pytest.raises(TypeError, match=match):
        HardConstraint(heat_case()[0], **words)
    with pytest.raises(TypeError, match="an equation with axes and sizes"):
        HardConstraint(None)


@pytest.mark.parametrize("name", ["start", "coupling", "ridge"])
def test_numbers_that_are_not_finite_are_refused(name):
    with pytest.raises(InvalidArgument, match=name):
        HardConstraint(heat_case()[0], **{name: float("nan")})


@pytest.mark.parametrize("experts", [1, 2])
def test_no_samples_have_an_empty_answer(experts):
    equation, inputs, _, basis = burgers_case()
    layer = HardConstraint(equation, experts=experts, rank=True)
    out = layer(basis[:0].requires_grad_(), inputs[:0])
    assert out.value.shape == (0, 11, 24) and out.status.shape == out.rank.shape == (0, experts)
    assert layer.residual(out.value, inputs[:0]).shape == (0, 11, 24)
    assert layer.conditions(out.value, inputs[:0]).shape[0] == 0
    assert out.jump.shape == (0,)
    out.value.sum().backward()
    with pytest.raises(InvalidArgument, match="no basis functions"):
        layer(basis[:, :0], inputs)
