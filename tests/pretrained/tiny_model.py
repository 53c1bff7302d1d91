"""Stand-ins small enough to see through, with every kind of tensor a model may hold."""

import torch


class TinyProblem:
    """u = (1 - t) n + sum x, with |x|^2 as a feature."""

    time_dependent = True
    feature_names = ("radius",)

    def __init__(self, *, dim: int) -> None:
        if dim < 1:
            raise ValueError(f"dim={dim}")
        self.dim = dim

    def feature(self, name, x, t):
        return (x * x).sum(-1, keepdim=True)

    def lift(self, x, t):
        return 1.0 - t, x.sum(-1, keepdim=True)


class StaticProblem:
    """No time, no lift."""

    time_dependent = False
    feature_names = ()

    def __init__(self, *, dim: int) -> None:
        self.dim = dim

    def lift(self, x, t):
        return None, None


class TinyNetwork(torch.nn.Module):
    def __init__(self, *, dim: int, time: bool, features: int, width: int, kind: str = "float32"):
        super().__init__()
        dtype = getattr(torch, kind)
        self.x = torch.nn.Linear(dim, width, dtype=dtype)
        self.t = torch.nn.Linear(int(time), width, bias=False, dtype=dtype) if time else None
        self.f = torch.nn.Linear(features, width, bias=False, dtype=dtype) if features else None
        self.out = torch.nn.Linear(width, 1, dtype=dtype)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x, t=None, f=None):
        # no precision is put right here: whoever hands over another one is to be seen
        z = self.x(x.to(self.out.weight.dtype) if self.out.weight.is_complex() else x)
        if self.t is not None:
            z = z + self.t(t.to(z.dtype) if z.is_complex() else t)
        if self.f is not None:
            z = z + self.f(f.to(z.dtype) if z.is_complex() else f)
        n = self.out(torch.tanh(z))
        return n.real if n.is_complex() else n
