"""The contract of every method, on operators trained with walks on spheres."""

import pytest

from sciml.testing.contract import ModuleContract, resumes_bit_identical

SMALL = (
    "network.width=6",
    "network.modes=4",
    "network.layers=2",
    "network.hidden=12",
    "data.nodes=14",
    "data.table=24",
    "data.pool=4",
    "data.batch_size=2",
    "data.val_count=2",
    "data.val_walks=4",
    "data.test_count=1",
    "optimizer.lr=5e-3",
)


CLOUDS = tuple(word for word in SMALL if not word.startswith("data.nodes"))


def model(name, *words):
    return [f"model={name}", *SMALL, *words]


# at the start the network of the domain hardly moves the prediction: its K-FAC step may be lost in
# the rounding of the loss, and K-FAC says so
@pytest.mark.filterwarnings("ignore:K-FAC found no step")
class TestModels(ModuleContract):
    waits = {"clouds": 2}
    accelerator_tolerance = 0.3  # a device looks at walks less often, so it draws other numbers
    cases = {
        # many walks: noise does not go away on a batch that stays the same
        "poisson2d": model("wos_poisson2d", "data.walks=48", "data.family.wide=1"),
        "clouds": ["model=wos_poisson2d_gino", *CLOUDS, "network.nodes=12", "data.walks=48"]
        + ["data.interior=24", "data.boundary=12"],
    }
    optimizer_cases = ("poisson2d",)
    rank_cases = ("poisson2d",)
    overfit = (100, 0.3)
    rank_tolerance = 1e-3  # walks of two ranks are not those of one in single precision


def test_a_run_that_averages_its_walks_continues_with_the_averages(tmp_path):
    resumes_bit_identical(model("wos_poisson2d", "data.cache=true"), tmp_path)
