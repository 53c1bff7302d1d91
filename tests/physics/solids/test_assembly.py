"""Sparse assembly against a dense loop."""

import numpy as np

from sciml.physics.solids.assembly import Assembly, factorised, refined


def test_matrices_and_vectors_are_sums_over_elements():
    """Unsymmetric ones too: the tangent of an operator is."""
    draw = np.random.default_rng(0)
    dofs = np.stack([draw.permutation(7)[:4] for _ in range(9)])
    dofs[0] = [0, 1, 2, 6]
    size = 6  # number 6 is held
    local, parts = draw.normal(size=(9, 4, 4)), draw.normal(size=(9, 4))
    matrix, vector = np.zeros((7, 7)), np.zeros(7)
    for e, row in enumerate(dofs):
        for i in range(4):
            vector[row[i]] += parts[e, i]
            for j in range(4):
                matrix[row[i], row[j]] += local[e, i, j]
    assembly = Assembly(dofs, size)
    np.testing.assert_allclose(assembly.matrix(local).toarray(), matrix[:6, :6], rtol=0, atol=1e-14)
    np.testing.assert_allclose(assembly.vector(parts), vector[:6], rtol=0, atol=1e-14)


def test_solutions_of_an_unsymmetric_matrix():
    draw = np.random.default_rng(1)
    dofs = np.arange(5)[None]
    dense = draw.normal(size=(5, 5)) + 6 * np.eye(5)
    factor = factorised(Assembly(dofs, 5).matrix(dense[None]))
    b = draw.normal(size=5)
    np.testing.assert_allclose(factor.solve(b), np.linalg.solve(dense, b), rtol=1e-12, atol=1e-12)


def test_a_singular_matrix_has_no_factors():
    dofs = np.arange(3)[None]
    assert factorised(Assembly(dofs, 3).matrix(np.ones((1, 3, 3)) * 0)) is None


def test_factors_of_a_matrix_close_by_are_refined():
    draw = np.random.default_rng(2)
    dofs = np.arange(6)[None]
    dense = draw.normal(size=(6, 6)) + 8 * np.eye(6)
    near = dense * (1 + 0.02 * draw.normal(size=(6, 6)))
    factor = factorised(Assembly(dofs, 6).matrix(near[None]))
    matrix, b = Assembly(dofs, 6).matrix(dense[None]), draw.normal(size=6)
    x = refined(factor, matrix, b, rtol=1e-6)
    left = np.linalg.norm(dense @ x - b) / np.linalg.norm(b)
    assert 1e-14 < left <= 1e-6  # no further than asked for
    np.testing.assert_allclose(x, np.linalg.solve(dense, b), rtol=0, atol=1e-5)


def test_factors_of_another_matrix_are_given_up():
    draw = np.random.default_rng(3)
    dofs = np.arange(6)[None]
    dense = draw.normal(size=(6, 6)) + 8 * np.eye(6)
    factor = factorised(Assembly(dofs, 6).matrix(3 * dense[None]))
    assert refined(factor, Assembly(dofs, 6).matrix(dense[None]), np.ones(6), rtol=1e-6) is None
