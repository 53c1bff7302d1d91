"""The module of graph networks: statistics, what it logs, what is refused."""

import pytest
import torch

from sciml.data.graph.graphs import GraphData
from sciml.errors import ConfigError
from sciml.modules.cgs import ConvergentGraphSolver
from sciml.networks.graph.convergent import CGS
from sciml.physics.graphs.resistors import ResistorNetwork
from sciml.testing import runs

SMALL = ["data.train_sizes=[10,14]", "data.graphs=2", "data.val_graphs=2", "data.test_graphs=2"]
NARROW = ["network.heads=2", "network.hidden=4", "network.decoder=[4]"]


class Measured(ResistorNetwork):
    """A task with a score of its own."""

    def measures(self, inputs, prediction, target):
        return {"sign": (prediction * target > 0).double()[:, 0], "baseline/one": target[:, 0] > -1}


def test_statistics_are_those_of_the_first_batch_and_of_free_nodes():
    data = GraphData(task=ResistorNetwork(), train_sizes=[20, 30], graphs=4, seed=3)
    network = CGS(node_features=2, edge_features=1, edge_log=[0])
    ConvergentGraphSolver(network=network, data=data, optimizer=torch.optim.Adam)
    batch = data.batch(0)
    free = batch.target[batch.extra["weight"] > 0]
    assert float(network.shift) == pytest.approx(float(free.mean()))
    assert float(network.scale) == pytest.approx(float(free.std()))
    logs = batch.inputs["edge_attr"].log()
    assert float(network.edge_input.mean) == pytest.approx(float(logs.mean()), abs=1e-6)


def test_solves_and_measures_of_every_test_set_are_logged(tmp_path):
    words = ["model=cgs_resistor", *SMALL, *NARROW, "data.test_sizes=[20]"]
    run = runs.fit(runs.prepare(words, tmp_path, trainer={"max_steps": 1, "limit_val_batches": 0}))
    task = Measured()
    run.data.task, run.module.measures = task, task.measures
    run.trainer.test(run.module, run.data, verbose=False)
    found = run.trainer.callback_metrics
    for part in ("test", "test_20"):
        assert found[f"{part}/failed_share"] == 0
        assert 1 <= found[f"{part}/iterations"] < 100
        assert found[f"{part}/residual"] < 1e-6
        assert 0 <= found[f"{part}/sign"] <= 1
        assert found[f"{part}/rel_l2_worst"] >= found[f"{part}/rel_l2"]
    report = run.module.test_report
    assert report["baselines"]["one"] == 1 and "test/sign" in report["metrics"]
    assert "test/baseline/one" not in report["metrics"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optimizer=kfac"], "nodes or edges"),
        (["optimizer=engd"], "nodes or edges"),
        (["optimizer=adahessian"], "differentiated once"),
        (["optimizer=adahessian", "adjoint=ift", "adjoint.order=2"], None),
        (["optimizer=adahessian", "network=message_passing"], None),
        (["optimizer=soap"], None),
    ],
)
def test_optimizers_that_do_not_fit_are_refused(words, said):
    words = ["model=cgs_porous", *words]
    if said is None:
        assert runs.compose(words)["model"] == "cgs_porous"
        return
    with pytest.raises(ConfigError, match=said):
        runs.compose(words)
