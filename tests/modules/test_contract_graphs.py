"""The contract of every method, on graph tasks beside pore networks."""

from sciml.testing.contract import ModuleContract

SMALL = ("network.width=6", "network.hidden=8", "network.heads=2", "optimizer.lr=1e-2")
DRAWN = ("data.train_sizes=[8,12]", "data.graphs=3", "data.val_graphs=2")


class TestDrawn(ModuleContract):
    waits = {"value_iteration": 20, "hitting": 12}
    slow_cases = ("hitting",)
    cases = {
        # clipping is no part of the comparison of ranks
        "value_iteration": ["model=cgs_value_iteration", *SMALL, *DRAWN]
        + ["network.rounds=2", "trainer.gradient_clip_val=null"],
        "hitting": ["model=cgs_walks", *SMALL, *DRAWN, "data.task.ends=0.2"],
    }
    overfit = (120, 0.4)
    optimizer_cases = ("value_iteration",)


class TestGiven(ModuleContract):
    """Sets that are given: folds, chains with few labels."""

    waits = {"chains": 8, "motifs": 18}
    slow_cases = ("motifs",)
    cases = {
        "motifs": ["model=cgs_tu", *SMALL, "data.source.count=40", "data.batch_size=5"],
        "chains": ["model=cgs_chains", *SMALL, "network.gamma=0.9", "data.batch_size=4"]
        + ["data.source.length=8", "data.source.chains=6", "data.source.labelled=0.4"]
        + ["data.source.directed=false"],
    }
    overfit = (120, 0.3)
    optimizer_cases = ()
    # edges are all alike, and a softmax does not see what they share; chains have no encoded bias
    unused = (
        "network.map.skip.weight",
        "network.encoder.0.message.bias",
        "network.encoder.0.score.weight",
        *(f"network.encoder.0.node.{i}.{name}" for i in (0, 2) for name in ("weight", "bias")),
    )
