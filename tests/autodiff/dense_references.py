"""Derivatives the slow way, by nested torch.func transforms: what jets are compared with."""

import torch
from torch.func import grad, hessian, jacfwd, jvp, vmap


def along_line(f, x, v, order, t=None, dt=0.0):
    """Return d^m/ds^m f(x + s v, t + s dt) at s = 0 for m = 1..order."""

    def curve(s):
        return f(x + s * v) if t is None else f(x + s * v, t + s * dt)

    out = []
    for _ in range(order):
        curve = _derivative(curve)
        out.append(curve(torch.zeros(())))
    return out


def _derivative(g):
    return lambda s: jvp(g, (s,), (torch.ones_like(s),))[1]


def _one(f):
    """Return f for a single point."""
    return lambda x, *t: f(x[None], *(a[None] for a in t))[0, 0]


def hessians(f, x, *t):
    """Return (N, d, d) for f with values (N, 1)."""
    return vmap(hessian(_one(f)))(x, *t)


def gradients(f, x, *t):
    """Return (N, d)."""
    return vmap(grad(_one(f)))(x, *t)


def time_derivatives(f, x, t):
    """Return (N,)."""
    return vmap(grad(_one(f), argnums=1))(x, t)[:, 0]


def laplacians(f, x, *t):
    """Return (N,)."""
    return hessians(f, x, *t).diagonal(dim1=1, dim2=2).sum(1)


def bilaplacians(f, x):
    """Return (N,): the trace of the Hessian of the trace of the Hessian."""

    def laplacian(z):
        return hessian(_one(f))(z).trace()

    return vmap(lambda z: hessian(laplacian)(z).trace())(x)


def fourth_derivatives(f, x):
    """Return (N, d, d, d, d)."""
    return vmap(jacfwd(jacfwd(hessian(_one(f)))))(x)


def parameter_gradient(loss, module):
    """Return the gradient of a scalar in all parameters as one vector; zeros where unused."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    pieces = torch.autograd.grad(loss, parameters, allow_unused=True)
    pieces = [
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, pieces, strict=True)
    ]
    return torch.cat([g.flatten() for g in pieces])


def error(found, wanted):
    """Return the largest deviation relative to the largest wanted number."""
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    scale = wanted.detach().abs().max().clamp_min(1e-30)
    return float((found.detach() - wanted.detach()).abs().max() / scale)
