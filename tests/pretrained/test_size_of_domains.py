"""`place` scales domains to a size that training covered, by what binds: formulas of one rectangle.

The rectangle is 10 x 4 around (5, 2): half its longest side is 5, the radius of the largest ball
inside 2.
"""

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Box
from sciml.pretrained.checks.given_inputs import check_shapes
from sciml.pretrained.elliptic.placed import place

BOX, SPACING = 1.5, 0.07
RECTANGLE = Box((0.0, 0.0), (10.0, 4.0))


def placed(shape, sigma=None, **levels):
    """Return the half side and the screening of the rectangle in an operator's coordinates."""
    inputs = {"sdf": {"ranges": shape}, "boundary": {}, "source": {}}
    inputs |= {name: {"ranges": {"value": value}} for name, value in levels.items()}
    points = torch.tensor([[[5.0, 2.0], [10.0, 4.0]]], dtype=torch.float64)
    problem = Dirichlet(lambda x, i: 0 * x[0], None, sigma)
    found = place(inputs, BOX, SPACING, RECTANGLE, problem, points)
    low, high = found.domain.bounds()
    assert torch.allclose(low, -high, rtol=1e-12, atol=0)  # around the origin
    half = float(high[0, 0])
    wanted = torch.tensor([[[0.0, 0.0], [half, 0.4 * half]]], dtype=torch.float64)
    assert torch.allclose(found.points, wanted, rtol=1e-12, atol=1e-12)
    there = found.problem.screening
    return half, None if there is None else float(there)


def test_place_takes_three_quarters_of_the_largest_size():
    assert placed({"size": (0.4, 1.2)})[0] == pytest.approx(0.9, rel=1e-12)
    # without ranges sizes go up to 0.93 of the box
    assert placed({})[0] == pytest.approx(0.75 * 0.93 * BOX, rel=1e-12)


def test_place_makes_the_largest_ball_as_large_as_in_training():
    """Five per cent and half a spacing above the smallest radius, as far as the sizes go."""
    for least in (0.39, 0.42):
        half, _ = placed({"size": (0.4, 1.2), "inradius": (least, 1.0)})
        assert 0.4 * half == pytest.approx(1.05 * least + SPACING / 2, rel=1e-9)
    assert placed({"size": (0.4, 1.2), "inradius": (0.6, 1.0)})[0] == pytest.approx(1.2, rel=1e-12)
    assert placed({"size": (0.4, 1.2), "inradius": (0.2, 1.0)})[0] == pytest.approx(0.9, rel=1e-12)


@pytest.mark.parametrize(
    ("sigma", "half", "there"),
    [
        (0.3, 0.9, 0.3 * 25 / 0.81),  # fits at the usual size
        (0.53, 1.15, 0.53 * 25 / 1.3225),  # at 0.9 above 10.02
        (0.06, 0.6, 0.06 * 25 / 0.36),  # at 0.9 below 25/6
    ],
)
def test_place_brings_screening_to_the_end_of_its_range(sigma, half, there):
    """Screening s^2 sigma / half^2 is the same number as before: 25 sigma = there half^2."""
    small, large = 25 / 6, 0.53 * 25 / 1.3225
    found = placed({"size": (0.4, 1.2)}, sigma, screening=(small, large))
    assert found[0] == pytest.approx(half, rel=1e-12)
    assert found[1] == pytest.approx(there, rel=1e-12)


def test_check_shapes_compares_axes_and_letters():
    known = {
        "x": {"shape": ["N", "P", 2]},
        "y": {"shape": ["N"]},
        "pairs": {"shape": [2, "edges"]},
    }

    def given(*shapes):
        return {n: torch.zeros(s) for n, s in zip(known, shapes, strict=False)}

    assert check_shapes(known, given((3, 5, 2), (3,), (2, 0))) == {"N": 3, "P": 5, "edges": 0}
    for shapes, said in (
        (((3, 5, 3),), r"x has shape \(3, 5, 3\).*\(N, P, 2\)"),
        (((3, 5),), r"x has shape \(3, 5\)"),
        (((3, 5, 2, 1),), r"x has shape \(3, 5, 2, 1\)"),
        (((3, 0, 2),), "at least one entry"),
        (((3, 5, 2), (4,)), r"y has shape \(4,\).*with N = 3"),
        (((3, 5, 2), (3, 1)), r"y has shape \(3, 1\)"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            check_shapes(known, given(*shapes))
