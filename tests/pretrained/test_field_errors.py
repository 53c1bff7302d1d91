"""`verify_fields`: relative errors of every sample, against norms taken by numpy."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.pretrained.judging import field_operator
from sciml.pretrained.judging.field_operator import verify_fields


def stand_in(found, bundle=0, coarse="solver"):
    """Return an operator that says `found`, whose fields are channels already."""
    fields = SimpleNamespace(bundle=bundle, pack=lambda given: given["a"], target=lambda said: said)
    return SimpleNamespace(
        network=SimpleNamespace(fields=fields, coarse=coarse),
        spec={"name": "mine", "data": {}},
        predict=lambda **given: found,
    )


@pytest.mark.parametrize("known", [True, False])
def test_verify_fields_has_one_error_per_sample(known, monkeypatch):
    draw = np.random.default_rng(0)
    found, solved, data = (draw.normal(size=(5, 2, 3, 4)) for _ in range(3))
    solved[1] *= 100.0
    monkeypatch.setattr(field_operator, "coarse_solve", lambda *given: torch.from_numpy(solved))
    target = torch.from_numpy(data) if known else None
    model = stand_in(torch.from_numpy(found))
    errors = verify_fields(model, {"a": torch.zeros(5, 2, 3, 4)}, target)

    def relative(a, b):
        return [np.sqrt(((p - q) ** 2).sum() / (q**2).sum()) for p, q in zip(a, b, strict=True)]

    np.testing.assert_allclose(errors.to_solver, relative(found, solved), rtol=1e-12)
    assert errors.coarse and errors.problem == "str" and errors.residual is None
    if known:
        np.testing.assert_allclose(errors.to_data, relative(found, data), rtol=1e-12)
        np.testing.assert_allclose(errors.solver_to_data, relative(solved, data), rtol=1e-12)
        assert errors.error() == pytest.approx(np.mean(relative(found, data)), rel=1e-12)
    else:
        assert errors.to_data is None and errors.solver_to_data is None
        assert errors.error() == pytest.approx(np.mean(relative(found, solved)), rel=1e-12)


def test_verify_fields_refuses_what_it_cannot_compare():
    given = {"a": torch.zeros(5, 2, 3, 4)}
    for words, said in (({"bundle": 2}, "rolls out"), ({"coarse": None}, "named no equation")):
        with pytest.raises(InvalidArgument, match=said):
            verify_fields(stand_in(None, **words), given)
