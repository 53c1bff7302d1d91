"""The same training step written with this package, with plain torch, and with other packages.

Problem: sine-Gordon in the unit ball, network 4 x 128 tanh, float32,

    r = (1/d) (Laplacian u + sin u - f),   u = (1 - |x|^2) n(x),   loss = mean r^2,   Adam.

The Laplacian is either estimated from K coordinates j in J or computed in full. Of an estimate
there are two forms, and all sides that are compared compute the same one:

* exact lift (the package's default): `(1 - |x|^2) (d/K) sum_J n_jj - 4 x . grad n - 2 d n`,
* sampled lift (as published): `(d/K) sum_J u_jj`.

In the full Laplacian the two coincide. Weights, points and the source f (a fixed vector) are the
same numbers on all sides. Every side is a class with `residual() -> (N,)` and `step()`; heavy
imports happen in its constructor, so a side that is not installed costs nothing but its own row.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np

WIDTH, DEPTH, RATE = 128, 4, 1e-3


@dataclass(frozen=True)
class Case:
    """Size of one measurement.

    Attributes:
        dim: Space dimensions d.
        points: Collocation points N.
        sampled: Coordinates K in the estimate; d means the full Laplacian.
        threads: CPU threads, 1 or more.
    """

    dim: int
    points: int
    sampled: int
    threads: int


@dataclass
class Numbers:
    """Everything random, equal on all sides: points, coordinates, source, weights."""

    case: Case
    x: np.ndarray = field(init=False)
    index: np.ndarray = field(init=False)
    source: np.ndarray = field(init=False)
    layers: list[tuple[np.ndarray, np.ndarray]] = field(init=False)

    def __post_init__(self) -> None:
        """Draw them from the sizes alone."""
        d, n, k = self.case.dim, self.case.points, self.case.sampled
        rng = np.random.default_rng(d)
        x = rng.standard_normal((n, d), dtype=np.float32)
        x *= rng.random((n, 1), dtype=np.float32) / np.linalg.norm(x, axis=1, keepdims=True)
        self.x, self.index = x, np.sort(rng.choice(d, k, replace=False))
        self.layers = []
        sizes = [d] + [WIDTH] * (DEPTH - 1) + [1]
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            weight = rng.random((fan_out, fan_in), dtype=np.float32)
            weight -= 0.5
            weight *= 2 / np.sqrt(fan_in, dtype=np.float32)
            bias = (rng.random(fan_out, dtype=np.float32) - 0.5) / np.sqrt(fan_in)
            self.layers.append((weight, bias.astype(np.float32)))
        # Its size is that of 2 d u; making it is no part of the step on any side.
        self.source = (d * rng.standard_normal(n)).astype(np.float32)


class TorchSide:
    """Common part of the sides written with torch: weights, residual from u, Adam step."""

    def __init__(self, numbers: Numbers) -> None:
        import torch

        self.torch, self.case = torch, numbers.case
        torch.set_num_threads(numbers.case.threads)
        self.scale = numbers.case.dim / numbers.case.sampled
        self.x = torch.from_numpy(numbers.x)
        self.index = torch.from_numpy(numbers.index)
        self.source = torch.from_numpy(numbers.source)
        self.build(numbers)
        # The fused kernel for every side: the update is not what is compared.
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=RATE, fused=True)

    def build(self, numbers: Numbers) -> None:
        """Make `self.net`, here a plain multilayer perceptron."""
        sizes = [numbers.case.dim] + [WIDTH] * (DEPTH - 1) + [1]
        nn, modules = self.torch.nn, []
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            modules += [nn.Linear(fan_in, fan_out), nn.Tanh()]
        self.net = nn.Sequential(*modules[:-1])
        self.load(numbers, modules[::2])

    def load(self, numbers: Numbers, linears) -> None:
        """Copy the weights into a list of linear layers."""
        with self.torch.no_grad():
            for linear, (weight, bias) in zip(linears, numbers.layers, strict=True):
                linear.weight.copy_(self.torch.from_numpy(weight))
                linear.bias.copy_(self.torch.from_numpy(bias))

    def exact_lift(self, n, radial, second):
        """Return r from n, x . grad n and the estimate of the Laplacian of n, each `(N,)`."""
        w = 1 - (self.x * self.x).sum(1)
        laplacian = w * second - 4 * radial - 2 * self.case.dim * n
        return (laplacian + self.torch.sin(w * n) - self.source) / self.case.dim

    def graph(self):
        """Return r `(N,)` with its graph."""
        raise TypeError(f"{type(self).__name__} has no residual")

    def residual(self) -> np.ndarray:
        """Return r `(N,)`."""
        return self.graph().detach().numpy().copy()

    def step(self) -> None:
        """Do one step: loss, backward, update."""
        self.optimizer.zero_grad()
        self.graph().square().mean().backward()
        self.optimizer.step()


class Ours(TorchSide):
    """This package, as its own training step calls it."""

    closed_form = True
    compiled = False

    def build(self, numbers: Numbers) -> None:
        """Make the trial solution and the directions."""
        from sciml.networks.pointwise.mlp import MLP
        from sciml.networks.solutions.trial import TrialSolution
        from sciml.physics.pde import Points
        from sciml.physics.problems.unit_ball import SineGordon
        from sciml.physics.residual.residual_fields import evaluate, operator_of

        self.problem = SineGordon(dim=numbers.case.dim)
        self.net = MLP(dim=numbers.case.dim, width=WIDTH, depth=DEPTH)
        self.load(numbers, [self.net.input.x, *self.net.hidden, self.net.output])
        self.trial = TrialSolution(self.problem, self.net, ("x",))
        self.points = Points(self.x, None, self.source)
        self.operator = operator_of(self.problem, self.points)
        self.evaluate = self.torch.compile(evaluate, dynamic=False) if self.compiled else evaluate

    def graph(self):
        """Return r `(N,)`."""
        draw = self.operator.along(self.index, self.scale, self.x)
        u = self.evaluate(self.trial, self.points, draw, closed_form=self.closed_form)
        return self.problem.residual_scale * self.problem.residual(u, self.points)


class OursCompiled(Ours):
    """This package with `model.compile=true`."""

    compiled = True


class OursSampledLift(Ours):
    """This package with `model.closed_form=false`."""

    closed_form = False


class DoubleBackwardLoop(TorchSide):
    """One reverse pass per coordinate through the graph of the gradient (the original SDGD)."""

    def graph(self):
        """Return r `(N,)`."""
        grad = self.torch.autograd.grad
        x = self.x.requires_grad_()
        n = self.net(x)[:, 0]
        (slope,) = grad(n.sum(), x, create_graph=True)
        second = 0
        for j in self.index.tolist():
            second = second + grad(slope[:, j].sum(), x, create_graph=True)[0][:, j]
        return self.exact_lift(n, (x * slope).sum(1), self.scale * second)


class NestedForward(TorchSide):
    """Forward-over-forward differentiation vectorised over one-hot tangents of the raw input."""

    def graph(self):
        """Return r `(N,)`."""
        func = self.torch.func
        one_hot = self.torch.nn.functional.one_hot(self.index, self.case.dim).to(self.x)

        def second(v):
            v = v.expand_as(self.x)
            along = lambda y: func.jvp(self.net, (y,), (v,))[1]  # noqa: E731
            return func.jvp(along, (self.x,), (v,))[1]

        total = func.vmap(second)(one_hot).sum(0)[:, 0]
        n, radial = func.jvp(self.net, (self.x,), (self.x,))
        return self.exact_lift(n[:, 0], radial[:, 0], self.scale * total)


class DeepXDE(TorchSide):
    """DeepXDE with its torch backend: its network, one Hessian entry per coordinate."""

    def build(self, numbers: Numbers) -> None:
        """Make its network with the hard constraint as output transform."""
        os.environ["DDE_BACKEND"] = "pytorch"
        import deepxde

        self.grad = deepxde.grad
        sizes = [numbers.case.dim] + [WIDTH] * (DEPTH - 1) + [1]
        self.net = deepxde.nn.FNN(sizes, "tanh", "Glorot normal")
        self.net.apply_output_transform(lambda x, y: (1 - (x * x).sum(1, keepdim=True)) * y)
        self.load(numbers, self.net.linears)

    def graph(self):
        """Return r `(N,)`."""
        x = self.x.requires_grad_()
        u = self.net(x)
        self.grad.clear()  # its cache of Jacobians, cleared between batches as its trainer does
        second = sum(self.grad.hessian(u, x, i=j, j=j) for j in range(self.case.dim))
        r = second + self.torch.sin(u) - self.source[:, None]
        self.grad.clear()
        return r[:, 0] / self.case.dim


class PINA(TorchSide):
    """PINA: its labelled tensors and its Laplacian operator."""

    def build(self, numbers: Numbers) -> None:
        """Make the plain network and the labelled points."""
        from pina import LabelTensor
        from pina.operator import laplacian

        super().build(numbers)
        self.laplacian = laplacian
        labels = [f"x{j}" for j in range(numbers.case.dim)]
        self.points = LabelTensor(self.x, labels=labels)

    def graph(self):
        """Return r `(N,)`."""
        x = self.points.requires_grad_()
        plain = x.as_subclass(self.torch.Tensor)
        u = (1 - (plain * plain).sum(1, keepdim=True)) * self.net(x)
        u = u.as_subclass(type(x))
        u.labels = ["u"]
        second = self.laplacian(u, x, components=["u"], d=list(x.labels))
        r = second.as_subclass(self.torch.Tensor) + self.torch.sin(u.as_subclass(self.torch.Tensor))
        return (r[:, 0] - self.source) / self.case.dim


class Jax:
    """JAX: `jax.experimental.jet` per point and coordinate, vectorised and compiled (STDE)."""

    closed_form = True

    def __init__(self, numbers: Numbers) -> None:
        import jax
        import optax
        from jax import numpy as jnp
        from jax.experimental.jet import jet

        case, self.jax = numbers.case, jax
        d, scale, closed_form = case.dim, case.dim / case.sampled, self.closed_form

        def network(layers, x):
            for weight, bias in layers[:-1]:
                x = jnp.tanh(weight @ x + bias)
            weight, bias = layers[-1]
            return (weight @ x + bias)[0]

        def solution(layers, x):
            return (1 - x @ x) * network(layers, x)

        def estimate(function, layers, x, index):
            def second(j):
                v = jax.nn.one_hot(j, d, dtype=x.dtype)
                return jet(lambda y: function(layers, y), (x,), ((v, jnp.zeros_like(v)),))[1][1]

            return scale * jax.vmap(second)(index).sum()

        def residual(layers, x, f, index):
            if closed_form:
                w = 1 - x @ x
                n, radial = jax.jvp(lambda y: network(layers, y), (x,), (x,))
                second = w * estimate(network, layers, x, index) - 4 * radial - 2 * d * n
                u = w * n
            else:
                u, second = solution(layers, x), estimate(solution, layers, x, index)
            return (second + jnp.sin(u) - f) / d

        every = jax.vmap(residual, in_axes=(None, 0, 0, None))
        adam = optax.adam(RATE)

        def step(layers, state, x, f, index):
            slopes = jax.grad(lambda p: jnp.mean(every(p, x, f, index) ** 2))(layers)
            updates, state = adam.update(slopes, state)
            return optax.apply_updates(layers, updates), state

        self.every, self.stepper = jax.jit(every), jax.jit(step, donate_argnums=(0, 1))
        self.layers = jax.tree.map(jnp.asarray, numbers.layers)
        self.state = None
        self.adam = adam
        self.data = tuple(map(jnp.asarray, (numbers.x, numbers.source, numbers.index)))

    def residual(self) -> np.ndarray:
        """Return r `(N,)`."""
        return np.asarray(self.every(self.layers, *self.data))

    def step(self) -> None:
        """Do one step and wait for it."""
        if self.state is None:
            self.state = self.adam.init(self.layers)
        self.layers, self.state = self.stepper(self.layers, self.state, *self.data)
        self.jax.block_until_ready(self.layers)


class JaxSampledLift(Jax):
    """JAX with the hard constraint inside the jet, as the published STDE code has it."""

    closed_form = False


@dataclass(frozen=True)
class Side:
    """A row of the tables.

    Attributes:
        label: Name in tables and plots.
        make: Constructor from `Numbers`.
        reference: Side whose residual this one must reproduce.
        largest: Largest d at which it is run.
    """

    label: str
    make: type
    reference: str = "sciml"
    largest: int = 10**9


SIDES = {
    "sciml": Side("sciml", Ours),
    "sciml_compiled": Side("sciml, torch.compile", OursCompiled),
    "sciml_sampled_lift": Side("sciml, sampled lift", OursSampledLift, "sciml_sampled_lift"),
    "jax": Side("JAX jet + jit", Jax),
    "jax_sampled_lift": Side("JAX jet + jit, sampled lift", JaxSampledLift, "sciml_sampled_lift"),
    "loop": Side("double-backward loop", DoubleBackwardLoop, largest=100_000),
    "nested": Side("nested jvp, vmapped", NestedForward, largest=10_000),
    "deepxde": Side("DeepXDE", DeepXDE, largest=1_000),
    "pina": Side("PINA", PINA, largest=1_000),
}
ESTIMATE = (
    "sciml", "sciml_compiled", "sciml_sampled_lift", "jax", "jax_sampled_lift", "loop", "nested",
)  # fmt: skip
FULL = ("sciml", "sciml_compiled", "deepxde", "pina")
