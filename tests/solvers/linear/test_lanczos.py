"""Ritz pairs against eigenvalues."""

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.solvers.linear import Stencil, ritz_pairs


def box(nx: int, ny: int) -> Stencil:
    shift = torch.zeros(1, nx, ny)
    shift[:, [0, -1]] += 1
    shift[:, :, [0, -1]] += 1
    faces = torch.ones(1, nx - 1, ny), torch.ones(1, nx, ny - 1)
    return Stencil(faces, shift, torch.ones(1, nx, ny, dtype=torch.bool))


def test_all_steps_give_all_eigenvalues_of_a_simple_spectrum():
    s = box(6, 5)
    values, vectors = ritz_pairs(s.times, torch.randn(1, 6, 5), 100)
    want = np.linalg.eigvalsh(s.to_csr().toarray())
    assert len(values) == 30
    assert np.abs(values.numpy() - want).max() < 1e-12
    flat = vectors.flatten(1)
    assert torch.allclose(flat @ flat.mT, torch.eye(30), rtol=0, atol=1e-12)
    for value, vector in zip(values, vectors, strict=True):
        assert (s.times(vector) - value * vector).norm() < 1e-11


def test_multiple_eigenvalues_are_found_once():
    s = box(6, 6)
    values, _ = ritz_pairs(s.times, torch.randn(1, 6, 6), 100)
    want = np.unique(np.linalg.eigvalsh(s.to_csr().toarray()).round(9))
    assert len(values) == len(want) == 19  # a square: pairs (i, j) and (j, i), and i + j = 7
    assert np.abs(values.numpy() - want).max() < 1e-8


def test_few_steps_find_the_ends_of_the_spectrum_first():
    s = box(24, 17)
    values, vectors = ritz_pairs(s.times, torch.randn(1, 24, 17), 60)
    want = np.linalg.eigvalsh(s.to_csr().toarray())
    assert abs(float(values[-1]) - want[-1]) < 1e-3
    assert abs(float(values[0]) - want[0]) < 1e-3
    flat = vectors.flatten(1)
    assert torch.allclose(flat @ flat.mT, torch.eye(60), rtol=0, atol=1e-12)


def test_bad_starts_are_refused():
    with pytest.raises(InvalidArgument, match="norm"):
        ritz_pairs(lambda v: v, torch.zeros(3), 2)
    with pytest.raises(InvalidArgument, match="0 steps"):
        ritz_pairs(lambda v: v, torch.ones(3), 0)
