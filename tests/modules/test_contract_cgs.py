"""The contract of methods, for convergent graph solvers and the networks beside them."""

from typing import ClassVar

from sciml.testing.contract import ModuleContract

SMALL = [
    "data.train_sizes=[20,40]",
    "data.graphs=2",
    "data.val_graphs=2",
    "data.test_graphs=2",
    "data.test_sizes=[]",
    "trainer.gradient_clip_val=null",
]
NARROW = ["network.heads=2", "network.width=8", "network.hidden=8", "network.decoder=[8]"]


class TestCGS(ModuleContract):
    waits = {"porous": 7, "resistor": 9, "ignn": 10}
    slow_cases = ("resistor",)
    cases: ClassVar = {
        "porous": ["model=cgs_porous", *SMALL, *NARROW],
        # sources inside and a nonlinear map; gates that can shut within a short test
        "resistor": [
            "model=cgs_resistor",
            *SMALL,
            *NARROW,
            "network.phi=softsign",
            "network.gamma=0.9",
            "network.gate_bias=0",
        ],
        "ignn": ["model=cgs_heat", "network=ignn", "network.width=8", *SMALL],
    }
    overfit: ClassVar = (100, 0.3)
    optimizer_cases: ClassVar = ("porous",)
