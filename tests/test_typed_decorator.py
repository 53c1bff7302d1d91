"""What the decorator `typed` reads from annotations, and what it is told beside them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sciml.arguments import integers
from sciml.errors import InvalidType
from sciml.physics import geometry
from sciml.physics.systems import Disk, Shape
from sciml.solvers.linear import Jacobi, Multigrid, Stencil
from sciml.typed_arguments import typed


@typed(index=integers, own=None)
def picked(index: Tensor, own: int = 0, dtype: torch.dtype = torch.float32) -> tuple:
    return index, own, dtype


@typed
class Node:
    def __init__(self, domain: geometry.Domain):
        self.domain = domain


def test_kinds_that_are_said_come_before_annotations():
    assert picked(torch.tensor([1]), "left to the function")[1] == "left to the function"
    with pytest.raises(InvalidType, match="^index is a tensor of float32, .* integers"):
        picked(torch.ones(1))


@pytest.mark.parametrize("wrong", [torch.ones(2), torch.int64, torch.complex64, "float64", None])
def test_a_dtype_is_one_of_real_numbers(wrong):
    with pytest.raises(InvalidType, match="^dtype is .* a type of real floating-point numbers"):
        picked(torch.tensor([1]), dtype=wrong)
    faces = torch.ones(1, 3, 4), torch.ones(1, 4, 3)
    stencil = Stencil(faces, torch.ones(1, 4, 4), torch.ones(1, 4, 4) > 0)
    for made in (Jacobi, Multigrid) if wrong is not None else ():
        with pytest.raises(InvalidType, match="^dtype is"):
            made(stencil, dtype=wrong)


def test_classes_are_known_by_dotted_names_and_within_themselves():
    assert Node(geometry.Ball()).domain.count == 1
    with pytest.raises(InvalidType, match="^domain is a list. Expected a Domain"):
        Node([0.0, 1.0])
    disk = Disk((0.0, 0.0), 1.0)
    assert Shape(disk.domain, disk.pieces, (disk,)).leaves == (disk,)
    with pytest.raises(InvalidType, match="^leaves is a list. Expected a Shape in every place"):
        Shape(disk.domain, disk.pieces, ["a shape"])


def test_functions_have_no_group_on_the_command_line():
    from sciml.data import write_pdebench

    one = torch.zeros(1, 1, 4), torch.zeros(1, 1, 4), torch.zeros(1), [torch.zeros(4)]
    with pytest.raises(InvalidType, match="^path is 3"):
        write_pdebench(3, *one, layout="tensor")
