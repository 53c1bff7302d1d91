"""Checks that a loss depends on what is trained, and that what it depends on is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.solutions.trial import TrialSolution
from sciml.physics.pde import PDE


def check_trained(loss: Tensor, problem: PDE, trial: TrialSolution) -> None:
    """Refuse unknowns that a loss does not depend on, and ones that nothing trains.

    Args:
        loss: The first loss of a training, with its graph, which stays.
        problem: The problem, whose unknowns may stand anywhere in it.
        trial: What is trained.

    Raises:
        InvalidArgument: Naming the parameter.
    """
    _check_strangers(loss, problem, trial)
    parts = (trial.unknowns, trial.parts)
    named = [x for part in parts for x in part.named_parameters() if x[1].requires_grad]
    if not named or not loss.requires_grad:
        return
    found = torch.autograd.grad(loss, [p for _, p in named], retain_graph=True, allow_unused=True)
    for (name, _), gradient in zip(named, found, strict=True):
        if gradient is None:
            raise InvalidArgument(
                f"{type(problem).__name__}.{name}, which no term of the loss depends on",
                "parameters that the residual, the hard constraint or a condition uses",
                f"Use self.{name} as a tensor, without float(), item() or detach(), or make it "
                "a number",
            )


def _check_strangers(loss: Tensor, problem: PDE, trial: TrialSolution) -> None:
    """Refuse parameters in the graph of the loss that nothing trains, wherever they are."""
    known = {id(p) for p in trial.parameters()}
    for leaf in leaves(loss):
        if isinstance(leaf, nn.Parameter) and id(leaf) not in known:
            raise InvalidArgument(
                f"a parameter of shape {tuple(leaf.shape)} that the loss of "
                f"{type(problem).__name__} depends on and nothing would train",
                "parameters and modules that are attributes of the problem",
                "Write self.k = nn.Parameter(...) in __init__ of the problem, or detach it",
            )


def leaves(loss: Tensor) -> list[Tensor]:
    """Return the tensors that the graph of a loss would accumulate gradients in."""
    seen, todo, found = set(), [loss.grad_fn], []
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        todo.extend(below for below, _ in node.next_functions)
    return found
