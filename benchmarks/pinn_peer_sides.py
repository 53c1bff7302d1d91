"""Sides of `pinn_peers.py` in other packages: DeepXDE, PINA and jinns, each in its own words.

Their defaults hold for what the problems leave open: start of the weights, weights of the terms,
points drawn once. Each function trains and returns processor time, steps and a way to evaluate.
"""

from __future__ import annotations

import os
import time

import numpy as np
from pinn_peer_problems import DEPTH, POINTS, RE, WIDTH, kovasznay


# --- DeepXDE ----------------------------------------------------------------------------------
def their_data(dde, torch, name: str):
    """Return data, number of outputs, and what is built in."""
    inside, given = POINTS[name]
    pi, hess, jac = np.pi, dde.grad.hessian, dde.grad.jacobian
    if name == "burgers":
        domain = dde.geometry.GeometryXTime(
            dde.geometry.Interval(-1, 1), dde.geometry.TimeDomain(0, 1)
        )

        def pde(x, y):
            return jac(y, x, i=0, j=1) + y * jac(y, x, i=0, j=0) - 0.01 / pi * hess(y, x, i=0, j=0)

        conditions = [
            dde.icbc.DirichletBC(domain, lambda x: 0, lambda _, on: on),
            dde.icbc.IC(domain, lambda x: -np.sin(pi * x[:, 0:1]), lambda _, on: on),
        ]
        sizes = {"num_boundary": given["ends"], "num_initial": given["start"]}
        return dde.data.TimePDE(domain, pde, conditions, num_domain=inside, **sizes), 1, None
    if name == "l_shape":
        domain = dde.geometry.Polygon([[-1, -1], [1, -1], [1, 0], [0, 0], [0, 1], [-1, 1]])
        # its points are in double precision whatever the network is in, which ends in an error
        for sample in ("random_points", "random_boundary_points"):
            drawn = getattr(domain, sample)
            setattr(
                domain,
                sample,
                lambda *given, drawn=drawn, **rest: drawn(*given, **rest).astype(
                    dde.config.real(np)
                ),
            )

        def pde(x, y):
            return -hess(y, x, i=0, j=0) - hess(y, x, i=1, j=1) - 1

        conditions = dde.icbc.DirichletBC(domain, lambda x: 0, lambda _, on: on)
        return dde.data.PDE(
            domain, pde, conditions, num_domain=inside, num_boundary=given["outside"]
        ), 1, None  # fmt: skip
    if name == "helmholtz":
        domain = dde.geometry.Rectangle([-1, -1], [1, 1])

        def pde(x, y):
            wave = torch.sin(pi * x[:, 0:1]) * torch.sin(4 * pi * x[:, 1:2])
            lap = hess(y, x, i=0, j=0) + hess(y, x, i=1, j=1)
            return lap + y - (1 - 17 * pi**2) * wave

        def built_in(x, y):
            return (1 - x[:, 0:1] ** 2) * (1 - x[:, 1:2] ** 2) * y

        return dde.data.PDE(domain, pde, [], num_domain=inside), 1, built_in
    if name == "allen_cahn":
        domain = dde.geometry.GeometryXTime(
            dde.geometry.Interval(-1, 1), dde.geometry.TimeDomain(0, 1)
        )

        def pde(x, y):
            return jac(y, x, i=0, j=1) - 1e-3 * hess(y, x, i=0, j=0) - 5 * (y - y**3)

        def built_in(x, y):
            place, t = x[:, 0:1], x[:, 1:2]
            return place**2 * torch.cos(pi * place) + t * (1 - place**2) * y

        return dde.data.TimePDE(domain, pde, [], num_domain=inside), 1, built_in
    domain = dde.geometry.Rectangle([-0.5, -0.5], [1, 1.5])

    def pde(x, y):
        u, v = y[:, 0:1], y[:, 1:2]

        def momentum(i, j):
            lap = hess(y, x, component=i, i=0, j=0) + hess(y, x, component=i, i=1, j=1)
            convection = u * jac(y, x, i=i, j=0) + v * jac(y, x, i=i, j=1)
            return convection + jac(y, x, i=2, j=j) - lap / RE

        return [momentum(0, 0), momentum(1, 1), jac(y, x, i=0, j=0) + jac(y, x, i=1, j=1)]

    def value(k):
        return lambda x: kovasznay(np, x[:, 0:1], x[:, 1:2])[k]

    conditions = [
        dde.icbc.DirichletBC(domain, value(k), lambda _, on: on, component=k) for k in (0, 1)
    ]
    outflow = dde.icbc.DirichletBC(
        domain, value(2), lambda x, on: on and np.isclose(x[0], 1), component=2
    )
    return dde.data.PDE(
        domain, pde, [*conditions, outflow], num_domain=inside,
        num_boundary=given["sides"] + given["outflow"],
    ), 3, None  # fmt: skip


def deepxde(name: str, side: str, seconds: float, steps: int | None, seed: int) -> dict:
    """Train with DeepXDE."""
    os.environ["DDE_BACKEND"] = "pytorch"
    import deepxde as dde
    import torch

    if "float64" in side:
        dde.config.set_default_float("float64")
    dde.config.set_random_seed(seed)
    data, outputs, built_in = their_data(dde, torch, name)
    net = dde.nn.FNN([2, *[WIDTH] * (DEPTH - 1), outputs], "tanh", "Glorot normal")
    if built_in is not None:
        net.apply_output_transform(built_in)
    model = dde.Model(data, net)

    class Limit(dde.callbacks.Callback):
        def __init__(self, until: float, warm: int = 0) -> None:
            super().__init__()
            self.until, self.warm, self.began, self.count = until, warm, None, 0

        def on_epoch_begin(self) -> None:
            if self.began is None and self.count >= self.warm:
                self.began, self.start = time.process_time(), self.count
                self.at = time.perf_counter()

        spent = 0.0

        def on_epoch_end(self) -> None:
            self.count += 1
            if self.began is not None:
                self.spent = time.process_time() - self.began
                self.wall = time.perf_counter() - self.at
                if not steps and self.spent > self.until:
                    self.model.stop_training = True

    two = "l-bfgs" in side
    model.compile("adam", lr=1e-3)
    limit = Limit(seconds / 2 if two else seconds, 20 if steps else 0)
    model.train(
        iterations=steps + 20 if steps else 10**8, display_every=10**8, callbacks=[limit], verbose=0
    )
    spent, taken, wall = limit.spent, limit.count - limit.start, limit.wall
    if two:
        from deepxde.optimizers.config import LBFGS_options

        # Adam's share is over: what it left unused goes to L-BFGS
        dde.optimizers.set_LBFGS_options(maxiter=10**8)
        LBFGS_options |= {"iter_per_step": 20, "fun_per_step": 25}
        model.compile("L-BFGS")
        model.stop_training = False
        limit = Limit(seconds - spent)
        before = model.train_state.iteration
        model.train(display_every=10**8, callbacks=[limit], verbose=0)
        wall += limit.wall
        spent, taken = spent + limit.spent, taken + model.train_state.iteration - before
    return {
        "seconds": spent,
        "wall_s": wall,
        "steps": taken,
        "predict": model.predict,
        "version": dde.__version__,
    }


# --- PINA -------------------------------------------------------------------------------------
def pina_problem(torch, name: str) -> tuple:
    """Return the problem with its points, and what is built in."""
    from pina import Condition
    from pina.domain import CartesianDomain, Union
    from pina.equation import (
        AllenCahnEquation,
        BurgersEquation,
        Equation,
        FixedValue,
        HelmholtzEquation,
        PoissonEquation,
        SystemEquation,
    )
    from pina.operator import div, grad, laplacian
    from pina.problem import SpatialProblem, TimeDependentProblem

    pi, (inside, given), built_in = torch.pi, POINTS[name], None
    line, span = CartesianDomain({"x": [-1, 1]}), CartesianDomain({"t": [0, 1]})
    space, outputs = CartesianDomain({"x": [-1, 1], "y": [-1, 1]}), ["u"]
    sizes = {"D": inside, **given}
    if name in ("burgers", "allen_cahn"):
        space, domains = line, {"D": line.update(span)}
    if name == "burgers":
        domains["start"] = line.update(CartesianDomain({"t": 0}))
        domains["ends"] = line.partial().update(span)
        equations = {
            "D": BurgersEquation(0.01 / pi),
            "start": Equation(lambda x, u: u + torch.sin(pi * x["x"])),
            "ends": FixedValue(0.0),
        }
    elif name == "l_shape":
        # a union of squares and of edges, all of one length: points come in equal numbers
        corners = [(-1, -1), (0, -1), (-1, 0)]
        edges = [("y", -1, -1), ("y", -1, 0), ("x", 1, -1), ("y", 0, 0)]
        domains = {
            "D": Union([CartesianDomain({"x": [a, a + 1], "y": [b, b + 1]}) for a, b in corners]),
            "outside": Union(
                [
                    CartesianDomain({one: at, other: [begin, begin + 1]})
                    for axis, at, begin in edges
                    for one, other in (
                        (axis, "xy".replace(axis, "")),
                        ("xy".replace(axis, ""), axis),
                    )
                ]
            ),
        }
        minus_one = lambda x: -torch.ones_like(x["x"])  # noqa: E731
        equations = {"D": PoissonEquation(minus_one), "outside": FixedValue(0.0)}
    elif name == "helmholtz":
        domains = {"D": space}

        def force(x):
            return (1 - 17 * pi**2) * torch.sin(pi * x["x"]) * torch.sin(4 * pi * x["y"])

        equations = {"D": HelmholtzEquation(1.0, force)}
        built_in = lambda x, u: (1 - x["x"] ** 2) * (1 - x["y"] ** 2) * u  # noqa: E731
    elif name == "allen_cahn":
        equations = {"D": AllenCahnEquation(1e-3, 5.0)}

        def built_in(x, u):
            place, t = x["x"], x["t"]
            return place**2 * torch.cos(pi * place) + t * (1 - place**2) * u

    else:
        space, outputs = CartesianDomain({"x": [-0.5, 1], "y": [-0.5, 1.5]}), ["u", "v", "p"]
        outflow = CartesianDomain({"x": 1, "y": [-0.5, 1.5]})
        domains = {"D": space, "sides": space.partial(), "outflow": outflow}

        def momentum(k, axis):
            def equation(x, out):
                slope = grad(out, x, components=[k], d=["x", "y"])
                convection = out["u"] * slope[f"d{k}dx"] + out["v"] * slope[f"d{k}dy"]
                pressure = grad(out, x, components=["p"], d=[axis])
                return convection + pressure - laplacian(out, x, components=[k]) / RE

            return equation

        def values(*names):
            def equation(x, out):
                wanted = dict(zip("uvp", kovasznay(torch, x["x"], x["y"]), strict=True))
                return torch.cat([out[k] - wanted[k] for k in names], -1)

            return Equation(equation)

        equations = {
            "D": SystemEquation(
                [
                    momentum("u", "x"),
                    momentum("v", "y"),
                    lambda x, out: div(out, x, components=["u", "v"], d=["x", "y"]),
                ]
            ),
            "sides": values("u", "v"),
            "outflow": values("p"),
        }
    bases = (TimeDependentProblem, SpatialProblem) if space is line else (SpatialProblem,)
    words = {
        "output_variables": outputs,
        "spatial_domain": space,
        "temporal_domain": span,
        "domains": domains,
        "conditions": {k: Condition(domain=k, equation=e) for k, e in equations.items()},
    }
    problem = type(name, bases, words)()
    for k, n in sizes.items():
        problem.discretise_domain(n, domains=[k])
    return problem, built_in


def pina(name: str, side: str, seconds: float, steps: int | None, seed: int) -> dict:
    """Train with PINA."""
    from importlib.metadata import version

    import lightning
    import torch
    from pina import LabelTensor, Trainer
    from pina.model import FeedForward
    from pina.optim import TorchOptimizer
    from pina.solver import PhysicsInformedSingleModelSolver

    lightning.seed_everything(seed, verbose=False)
    problem, built_in = pina_problem(torch, name)

    class Net(FeedForward):
        def forward(self, x):
            out = super().forward(x)
            return out if built_in is None else built_in(x, out)

    class Limit(lightning.Callback):
        began, start, spent, count = None, 0, 0.0, 0

        def on_train_batch_start(self, trainer, *given) -> None:
            if self.began is None and self.count >= (20 if steps else 0):
                self.began, self.start = time.process_time(), self.count
                self.at = time.perf_counter()

        def on_train_batch_end(self, trainer, *given) -> None:
            self.count += 1
            if self.began is not None:
                self.spent = time.process_time() - self.began
                self.wall = time.perf_counter() - self.at
                trainer.should_stop = not steps and self.spent > seconds

    net = Net(2, len(problem.output_variables), inner_size=WIDTH, n_layers=DEPTH - 1)
    solver = PhysicsInformedSingleModelSolver(
        problem, net, optimizer=TorchOptimizer(torch.optim.Adam, lr=1e-3)
    )
    limit = Limit()
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    Trainer(
        solver,
        max_epochs=steps + 20 if steps else 10**8,
        accelerator="cpu",
        callbacks=[limit],
        **quiet,
    ).train()

    def predict(x: np.ndarray) -> np.ndarray:
        labels = ["x", "t"] if name in ("burgers", "allen_cahn") else ["x", "y"]
        given = LabelTensor(torch.as_tensor(x, dtype=torch.float32), labels)
        return solver(given).detach().as_subclass(torch.Tensor).numpy()

    return {
        "seconds": limit.spent,
        "wall_s": limit.wall,
        "steps": limit.count - limit.start,
        "predict": predict,
        "version": version("pina-mathlab"),
    }


# --- jinns ------------------------------------------------------------------------------------
def jinns_problem(jinns, jax, name: str, key) -> tuple:
    """Return points, equation, the rest of the loss, and number of outputs and what is built in.

    Derivatives are taken forward over forward, in a few lines of JAX: steps are shorter than with
    the operators that jinns has for them, on Kovasznay ten times.
    """
    jnp, (inside, given) = jax.numpy, POINTS[name]
    pi, data = jnp.pi, jinns.data
    if name == "l_shape":
        raise NotImplementedError("its generators of points know boxes only")

    def twice(u, params, x, axis):
        """Return first and second derivatives along an axis."""
        direction = jnp.eye(2)[axis]

        def once(z):
            return jax.jvp(lambda y: u(y, params), (z,), (direction,))[1]

        return jax.jvp(once, (x,), (direction,))

    def stated(kind, residual):
        words = {"equation": lambda self, x, u, params: residual(x, u, params)}
        return type(name, (getattr(jinns.loss, kind),), words)()

    if name in ("burgers", "allen_cahn"):  # inputs are t, x
        points = data.CubicMeshPDENonStatio(
            key=key, n=inside, nb=given.get("ends"), ni=given.get("start", 1), dim=1,
            min_pts=(-1.0,), max_pts=(1.0,), tmin=0.0, tmax=1.0,
        )  # fmt: skip

        def residual(t_x, u, params):
            now, (u_x, u_xx) = u(t_x, params), twice(u, params, t_x, 1)
            u_t = jax.jvp(lambda z: u(z, params), (t_x,), (jnp.eye(2)[0],))[1]
            if name == "burgers":
                return u_t + now * u_x - 0.01 / pi * u_xx
            return u_t - 1e-3 * u_xx - 5 * (now - now**3)

        def built_in(t_x, u, params):
            t, x = t_x
            return x**2 * jnp.cos(pi * x) + t * (1 - x**2) * u

        equation = stated("PDENonStatio", residual)
        if name == "allen_cahn":
            return points, equation, {}, 1, built_in
        rest = {
            "boundary_condition": jinns.loss.Dirichlet(),
            "initial_condition_fun": lambda x: -jnp.sin(pi * x),
        }
        return points, equation, rest, 1, None
    if name == "helmholtz":
        points = data.CubicMeshPDEStatio(
            key=key, n=inside, dim=2, min_pts=(-1.0, -1.0), max_pts=(1.0, 1.0)
        )

        def helmholtz(x, u, params):
            lap = twice(u, params, x, 0)[1] + twice(u, params, x, 1)[1]
            force = (1 - 17 * pi**2) * jnp.sin(pi * x[0]) * jnp.sin(4 * pi * x[1])
            return lap + u(x, params) - force

        def bounded(x, u, params):
            return (1 - x[0] ** 2) * (1 - x[1] ** 2) * u

        return points, stated("PDEStatio", helmholtz), {}, 1, bounded
    points = data.CubicMeshPDEStatio(
        key=key, n=inside, nb=given["sides"], dim=2, min_pts=(-0.5, -0.5), max_pts=(1.0, 1.5)
    )

    class Sides(jinns.loss.BoundaryConditionAbstract):
        """Left, right, bottom, top; the pressure on the right, at as many points as elsewhere."""

        def equation_u(self, inputs, u, params):
            return tuple(u(inputs[:, k], params)[: 3 if k == 1 else 2] for k in range(4))

        def equation_f(self, inputs, params, gridify=False):
            values = [jnp.stack(kovasznay(jnp, *inputs[:, k])) for k in range(4)]
            return tuple(v[: 3 if k == 1 else 2] for k, v in enumerate(values))

    def flow(x, u, params):
        now, (by_x, by_xx) = u(x, params), twice(u, params, x, 0)
        by_y, by_yy = twice(u, params, x, 1)
        momentum = now[0] * by_x + now[1] * by_y - (by_xx + by_yy) / RE
        pressure = jnp.stack([by_x[2], by_y[2]])
        return jnp.append(momentum[:2] + pressure, by_x[0] + by_y[1])

    return points, stated("PDEStatio", flow), {"boundary_condition": Sides()}, 3, None


def jinns(name: str, side: str, seconds: float, steps: int | None, seed: int) -> dict:
    """Train with jinns: one compiled loop, which a validation of the clock ends.

    Tracing and compiling are done before the clock starts; they are stated as `compile_s`.
    """
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    os.environ["JAX_PLATFORMS"] = "cpu"
    from importlib.metadata import version

    import equinox as eqx
    import jax
    import jinns
    import optax
    from jinns.validation import AbstractValidationModule

    jnp, every = jax.numpy, 20
    key, one, two = jax.random.split(jax.random.PRNGKey(seed), 3)
    points, equation, rest, outputs, transform = jinns_problem(jinns, jax, name, one)
    layers = [(eqx.nn.Linear, 2, WIDTH), (jax.nn.tanh,)]
    layers += [(eqx.nn.Linear, WIDTH, WIDTH), (jax.nn.tanh,)] * (DEPTH - 2)
    layers += [(eqx.nn.Linear, WIDTH, outputs)]
    timed = name in ("burgers", "allen_cahn")
    kind = "PDENonStatio" if timed else "PDEStatio"
    u, weights = jinns.nn.PINN_MLP.create(
        key=two, eqx_list=tuple(layers), eq_type=kind, output_transform=transform
    )
    params = jinns.parameters.Params(nn_params=weights, eq_params={"nu": jnp.array(0.0)})
    terms = ["dyn_loss"] + ["boundary_loss"] * ("boundary_condition" in rest)
    terms += ["initial_condition"] * ("initial_condition_fun" in rest)
    ones = getattr(jinns.loss, f"LossWeights{kind}")(**dict.fromkeys(terms, 1.0))
    loss = getattr(jinns.loss, f"Loss{kind}")(
        u=u, dynamic_loss=equation, loss_weights=ones, params=params, **rest
    )
    clock = {"calls": -1, "spent": 0.0, "done": 0}

    def look(_) -> np.ndarray:
        """Return whether time is up: called after steps 1, 1 + every, ... ."""
        clock["calls"] += 1
        first = 1 if steps else 0
        if clock["calls"] == first:
            clock["began"], clock["at"] = time.process_time(), time.perf_counter()
        elif clock["calls"] > first:
            clock["spent"] = time.process_time() - clock["began"]
            clock["wall"] = time.perf_counter() - clock["at"]
            clock["done"] = (clock["calls"] - first) * every
        return np.asarray(clock["done"] >= steps if steps else clock["spent"] > seconds)

    class Clock(AbstractValidationModule):
        call_every: int = eqx.field(kw_only=True, default=every)

        def __call__(self, params):
            after = sum(leaf.sum() for leaf in jax.tree.leaves(params))  # no sooner than the step
            kind = jax.ShapeDtypeStruct((), bool)
            return self, jax.experimental.io_callback(look, kind, after), after, False

    before = time.process_time()
    found = jinns.solve(
        n_iter=10**5, init_params=params, data=points, loss=loss,
        optimizer=optax.adam(1e-3), validation=Clock(), verbose=False,
    )  # fmt: skip

    def predict(x: np.ndarray) -> np.ndarray:
        x = jnp.asarray(x[:, ::-1] if timed else x, dtype=jnp.float32)
        return np.asarray(jax.vmap(lambda z: u(z, found[0]))(x))

    return {
        "seconds": clock["spent"],
        "wall_s": clock["wall"],
        "steps": clock["done"],
        "predict": predict,
        "compile_s": clock["began"] - before,
        "version": f"{version('jinns')}, jax {jax.__version__}",
    }


SIDES = {
    "deepxde adam": deepxde,
    "deepxde adam float64": deepxde,
    "deepxde adam + l-bfgs": deepxde,
    "deepxde adam + l-bfgs float64": deepxde,
    "pina adam": pina,
    "jinns adam": jinns,
}
