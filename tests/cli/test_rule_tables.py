"""Every rule about choices that do not fit, both ways: what it finds, and what it lets pass."""

import pytest

from sciml.cli.checks import rules, trainer_rules, values

ADAM = {"_target_": "torch.optim.Adam"}
LBFGS = {"_target_": "torch.optim.LBFGS"}
KFAC = {"_target_": "sciml.optim.KFAC"}
ENGD = {"_target_": "sciml.optim.ENGD"}
SOPHIA = {"_target_": "sciml.optim.SophiaH"}
SEARCH = {"_target_": "sciml.optim.SSBroyden"}
PINN = {"_target_": "sciml.modules.SDGDPINN"}
TRAINER = {"_target_": "lightning.pytorch.Trainer", "max_steps": 10}
POISSON = {"_target_": "sciml.physics.Poisson", "dim": 5}
PLATES = {"_target_": "sciml.physics.Biharmonic", "dim": 5}
CURVATURE = {"curvature": {"_target_": "sciml.callbacks.CurvatureCallback"}}


def trainer(**more):
    return {"trainer": {**TRAINER, **more}}


def module(**more):
    return {"module": {**PINN, **more}}


def estimator(name, **more):
    return {"estimator": {"_target_": f"sciml.autodiff.estimators.{name}", **more}}


def implicit(solver, adjoint, **more):
    found = {
        "solver": {"_target_": f"sciml.solvers.{solver}", **more.pop("of_solver", {})},
        "adjoint": {"_target_": f"sciml.solvers.{adjoint}", **more},
    }
    return found


GMRES = {"_target_": "sciml.solvers.GMRES"}
SHARED = {"_target_": "sciml.solvers.SharedInverse"}
CGS = {"network": {"_target_": "sciml.networks.CGS"}}
# rule: configurations that it lets pass, configurations that it refuses and what it says
TABLE = {
    "sampled_dimensions": (
        [
            {"problem": POISSON, **estimator("SDGD", num_dims=5)},
            {"problem": PLATES, **estimator("SDGD", num_dims=9)},  # of pairs there are more
            {"problem": POISSON, **estimator("Hutchinson")},
            {"problem": {**POISSON, "dim": "5"}, **estimator("SDGD", num_dims=9)},
        ],
        [({"problem": POISSON, **estimator("SDGD", num_dims=6)}, "num_dims=6 samples more")],
    ),
    "fourth_order_probes": (
        [
            {"problem": PLATES, **estimator("Hutchinson", law="gaussian")},
            {"problem": POISSON, **estimator("Hutchinson", law="rademacher")},
            {"problem": PLATES, **estimator("SDGD", law="rademacher")},
        ],
        [({"problem": PLATES, **estimator("Hutchinson", law="rademacher")}, "it is 1")],
    ),
    "inference_mode": (
        [trainer(inference_mode=False)],
        [(trainer(inference_mode=True), "inference_mode=false"), (trainer(), "would stop")],
    ),
    "unused_arguments": (
        [trainer(max_epochs=-1, overfit_batches=0.0, limit_train_batches=1.0), {}],
        [
            (trainer(max_epochs=3), "trainer.max_epochs=3 does nothing"),
            (trainer(limit_train_batches=4), "trainer.max_steps=N"),
            (trainer(callbacks=None), "callbacks=NAME"),
            (trainer(fast_dev_run=True), "debug=fast"),
        ],
    ),
    "parts_of_sets": (
        [trainer(limit_val_batches=3, limit_test_batches=1.0), trainer(limit_val_batches=0.0)],
        [
            (trainer(limit_val_batches=0.5), "limit_val_batches=0.5 is a share"),
            (trainer(limit_test_batches=0.1), "limit_test_batches=0.1 is a share"),
        ],
    ),
    "endless_run": (
        [trainer(), trainer(max_steps=-1, max_time="00:01:00:00"), {}],
        [(trainer(max_steps=-1), "never ends")],
    ),
    "line_search_accumulation": (
        [
            {"optimizer": LBFGS, **trainer(accumulate_grad_batches=1)},
            {"optimizer": ADAM, **trainer(accumulate_grad_batches=2)},
            {
                "optimizer": {**KFAC, "step": "kl_clip", "adapt_every": 0},
                **trainer(accumulate_grad_batches=2),
            },
        ],
        [
            ({"optimizer": LBFGS, **trainer(accumulate_grad_batches=2)}, "optimizer=lbfgs"),
            (
                {
                    "optimizer": {**KFAC, "step": "kl_clip", "adapt_every": 5},
                    **trainer(accumulate_grad_batches=2),
                },
                "optimizer.step=kl_clip",
            ),
            (
                {
                    "optimizer": {**KFAC, "step": "line_search", "adapt_every": 0},
                    **trainer(accumulate_grad_batches=2),
                },
                "optimizer=kfac",
            ),
            ({"optimizer": ENGD, **trainer(accumulate_grad_batches=2)}, "optimizer=engd"),
        ],
    ),
    "scaled_gradients": (
        [
            {"optimizer": ADAM, **trainer(precision="16-mixed")},
            {"optimizer": LBFGS, **trainer(precision="bf16-mixed")},
            {"optimizer": KFAC, **trainer()},
        ],
        [
            ({"optimizer": LBFGS, **trainer(precision="16-mixed")}, "a line search"),
            ({"optimizer": KFAC, **trainer(precision=16)}, "a curvature optimizer"),
        ],
    ),
    "sharded_weights": (
        [
            {"optimizer": ADAM, **trainer(strategy="fsdp")},
            {"optimizer": KFAC, **trainer(strategy="ddp")},
            {"optimizer": KFAC, **trainer()},
        ],
        [
            ({"optimizer": KFAC, **trainer(strategy="fsdp")}, "whole weight matrices"),
            ({"optimizer": ENGD, **trainer(strategy="deepspeed_stage_2")}, "strategy=ddp"),
        ],
    ),
    "clipped_directions": (
        [
            {"optimizer": ADAM, **trainer(gradient_clip_val=1.0)},
            {"optimizer": SOPHIA, **trainer(gradient_clip_val=1.0)},
            {"optimizer": LBFGS, **trainer()},
            {"optimizer": ENGD, **trainer(gradient_clip_val=None)},
        ],
        [
            ({"optimizer": LBFGS, **trainer(gradient_clip_val=1.0)}, "its search would compare"),
            ({"optimizer": ENGD, **trainer(gradient_clip_val=1.0)}, "a scale of its own"),
            ({"optimizer": KFAC, **trainer(gradient_clip_val=1.0)}, "a scale of its own"),
        ],
    ),
    "compiled_terms": (
        [{"optimizer": ADAM, **module(compile=True)}, {"optimizer": KFAC, **module()}],
        [({"optimizer": KFAC, **module(compile=True)}, "hides the layers")],
    ),
    "split_dimensions": (
        [
            {"optimizer": ADAM, **module(dimension_parallel=True)},
            {"optimizer": KFAC, **module(dimension_parallel=False)},
        ],
        [({"optimizer": KFAC, **module(dimension_parallel=True)}, "whole residual on one rank")],
    ),
    "line_search_on_ranks": (
        [
            {"optimizer": LBFGS, **trainer(devices=1)},
            {"optimizer": LBFGS, **trainer(devices=[3])},
            {"optimizer": LBFGS, **trainer(devices="1")},
            {"optimizer": SEARCH, **trainer(devices=2)},
        ],
        [
            ({"optimizer": LBFGS, **trainer(devices=2)}, "drift apart"),
            ({"optimizer": LBFGS, **trainer(devices=[0, 1])}, "drift apart"),
            ({"optimizer": LBFGS, **trainer(num_nodes=2)}, "drift apart"),
        ],
    ),
    "adjoint_of_another_solver": (
        [
            implicit("ReversibleIteration", "Reversible"),
            implicit("FixedPointIteration", "Backprop"),
            implicit("ReversibleIteration", "Backprop"),
            implicit("Anderson", "Implicit", linear=GMRES),
            implicit("Broyden", "Implicit", linear=SHARED, of_solver={"share": True}),
            {"adjoint": {"_target_": "sciml.solvers.Reversible"}},  # no solver was chosen
        ],
        [
            (implicit("Anderson", "Reversible"), "solver=reversible"),
            (implicit("FixedPointIteration", "Reversible"), "solver=reversible"),
            (implicit("Anderson", "Backprop"), "solver=fixed_point"),
            (implicit("Broyden", "Implicit", linear=SHARED), "solver.share=true"),
            (implicit("Anderson", "Implicit", linear=SHARED), "solver.share=true"),
            (
                implicit("Anderson", "Implicit", linear={**GMRES, "preconditioner": SHARED}),
                "solver.share=true",
            ),
        ],
    ),
    "differentiated_once": (
        [
            {"optimizer": ADAM, **implicit("Anderson", "Implicit")},
            {"optimizer": SOPHIA, **implicit("Anderson", "Implicit", order=2)},
            {"optimizer": SOPHIA, **implicit("FixedPointIteration", "Backprop")},
            {"optimizer": SOPHIA},
            {"optimizer": ADAM, **CGS},
        ],
        [
            ({"optimizer": SOPHIA, **implicit("Anderson", "Implicit")}, "optimizer=sophiah"),
            ({"optimizer": SOPHIA, **CGS}, "differentiated once only"),
        ],
    ),
    "rows_of_edges": (
        [
            {"optimizer": ADAM, "module": {"_target_": "sciml.modules.ConvergentGraphSolver"}},
            {"optimizer": KFAC, **module()},
        ],
        [
            (
                {"optimizer": KFAC, "module": {"_target_": "sciml.modules.ConvergentGraphSolver"}},
                "nodes or edges",
            ),
            (
                {"optimizer": ENGD, "network": {"_target_": "sciml.networks.NeuralopCloud"}},
                "optimizer=engd",
            ),
        ],
    ),
    "compiled_slope": (
        [module(compile=True), module(gradient_enhanced=0.1), module(compile=True,
                                                                     gradient_enhanced=0.0)],
        [(module(compile=True, gradient_enhanced=0.1), "double backward")],
    ),
    "shared_points": (
        [
            {**module(dimension_parallel=True), "data": {"share_points": True}},
            {**module(dimension_parallel=False), "data": {"share_points": False}},
        ],
        [
            (
                {**module(dimension_parallel=True), "data": {"share_points": False}},
                "data.share_points=true",
            )
        ],
    ),
    "curvature_without_callback": (
        [{"optimizer": KFAC, "callbacks": CURVATURE}, {"optimizer": ADAM, "callbacks": {}}],
        [({"optimizer": KFAC, "callbacks": {}}, "switched off"), ({"optimizer": KFAC}, "kfac")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_a_rule_finds_what_does_not_fit_and_nothing_else(name):
    rule = getattr(rules, name, None) or getattr(trainer_rules, name)
    assert rule in rules.RULES
    fine, wrong = TABLE[name]
    for config in fine:
        assert not rule(config), config
    for config, said in wrong:
        found = rule(config)
        found = [found] if isinstance(found, str) else found
        assert found and len(found) == 1 and said in found[0], (config, found)


def test_every_rule_has_its_table():
    own = (rules.__name__, trainer_rules.__name__)
    named = {rule.__name__ for rule in rules.RULES if rule.__module__ in own}
    assert named - set(TABLE) == {"installed_loggers"}


def test_one_checkpoint_is_not_continued_by_a_sweep():
    assert "with -m" in rules.resume_in_sweep({"ckpt_path": "last"}, multirun=True)
    assert rules.resume_in_sweep({"ckpt_path": "last"}, multirun=False) is None
    assert rules.resume_in_sweep({"ckpt_path": "a.ckpt"}, multirun=True) is None


def test_defaults_of_a_class_count_where_nothing_is_said():
    config = {"estimator": {"_target_": "sciml.autodiff.estimators.SDGD"}, "problem": POISSON}
    assert rules.get(config, "estimator.num_dims") == 16
    assert rules.get({"estimator": {"num_dims": 3}}, "estimator.num_dims") == 3
    assert rules.get(config, "estimator.nothing", 7) == 7
    assert rules.get({}, "estimator.num_dims", 7) == 7
    assert "num_dims=16 samples more" in rules.sampled_dimensions(config)


# --- values -------------------------------------------------------------------------------------
VALUES = [
    # key, largest that passes, least that does not, and what is said of it
    ("seed", 2**32 - 1, 2**32, "out of range"),
    ("data.seed", 2**63 - 1, 2**63, "out of range"),
    ("network.width", 10**9, 10**9 + 1, "beyond every machine"),
]


def nested(key, value):
    group, _, last = key.rpartition(".")
    return {group: {last: value}} if group else {last: value}


@pytest.mark.parametrize(("key", "fine", "wrong", "said"), VALUES)
def test_the_largest_values(key, fine, wrong, said):
    def found(value):
        config = nested(key, value)
        return values.root(config) + values.numbers(config)

    assert found(fine) == [] and found(0) == []
    assert len(found(wrong)) == 1 and said in found(wrong)[0]
    assert len(found(-wrong)) == 1


@pytest.mark.parametrize(
    ("key", "fine", "wrong"),
    [
        ("problem.boundary_weight", 0.0, -1e-9),
        ("module.gradient_enhanced", 0, -1),
        ("module.weights.boundary", 0.0, -0.5),
        ("callbacks.checkpoint.every_steps", 1, 0),
        ("trainer.accumulate_grad_batches", 1, 0),
        ("module.resample_every", 1, 0),
        ("callbacks.checkpoint.every_seconds", 0.0, -1.0),
        ("optimizer.lr", 1e300, float("nan")),
        ("optimizer.eps", -1e300, float("-inf")),
    ],
)
def test_the_least_values(key, fine, wrong):
    parts = key.split(".")

    def found(value):
        config = value
        for part in reversed(parts):
            config = {part: config}
        return values.numbers(config)

    assert found(fine) == []
    (said,) = found(wrong)
    assert said.startswith(f"{key}={wrong} is ")
    assert found(True) == [] and found("word") == []


def test_numbers_that_are_switched_off_or_no_weights_pass():
    fine = {
        "optimizer": {"adapt_every": 0, "start_every": 0, "weight": -1},
        "data": {"points": [3, 4], "seed": None},
        "callbacks": {"record": {"weight": -1}},
    }
    assert values.numbers(fine) == []
    assert len(values.numbers({"data": {"points": [3, 10**10]}})) == 1  # entries of lists as well
    said = values.numbers({"a": {"b": float("inf")}, "c": {"d": float("nan")}})
    assert [text.split(" is ")[1].split(".")[0] for text in said] == [
        "beyond all numbers", "not a number"
    ]  # fmt: skip


def test_arguments_of_the_trainer():
    fine = [
        {"max_steps": 1}, {"max_steps": -1}, {"val_check_interval": 1},
        {"val_check_interval": None}, {"gradient_clip_val": 0}, {"limit_val_batches": 0},
    ]  # fmt: skip
    for node in fine:
        assert values.training({"trainer": node}) == []
    wrong = [
        {"max_steps": 0}, {"max_steps": -2}, {"val_check_interval": 0},
        {"val_check_interval": 0.5}, {"gradient_clip_val": -0.1}, {"limit_val_batches": -1},
        {"limit_train_batches": -1}, {"limit_test_batches": -1},
    ]  # fmt: skip
    for node in wrong:
        (said,) = values.training({"trainer": node})
        assert said.startswith(f"trainer.{next(iter(node))}=")


def test_points_beyond_memory(monkeypatch):
    monkeypatch.setattr(values, "memory", lambda: 8 * 3 * 1000)
    fine = {"data": {"points": 1000, "val_points": 1000}, "problem": {"dim": 3}}
    assert values.batches(fine) is None
    for name in ("points", "condition_points", "val_points", "test_points"):
        said = values.batches({"data": {name: 1001}, "problem": {"dim": 3}})
        assert said.startswith(f"data.{name}=1001 in 3 dimensions takes 0 GiB")
    assert values.batches({"data": {"points": 3000}}) is None  # of one dimension
    assert values.batches({"data": {"points": 10**9}, "problem": {"dim": "x"}}) is None
    assert values.batches({"data": {"points": True}, "problem": {"dim": 10**9}}) is None


def test_metrics_that_no_validation_computes():
    def config(name, **more):
        return {"module": {"_target_": name}, "callbacks": {"checkpoint": more, "other": None}}

    assert values.monitors(config("sciml.modules.SDGDPINN", monitor="val/residual")) == []
    assert values.monitors(config("sciml.modules.SDGDPINN", monitor=None)) == []
    assert values.monitors(config("sciml.modules.SDGDPINN")) == []
    assert values.monitors(config("their.Module", monitor="val/nothing")) == []
    (said,) = values.monitors(config("sciml.modules.SDGDPINN", monitor="val/rel_l2"))
    assert said.startswith("callbacks.checkpoint.monitor=val/rel_l2 is not computed")
    assert "by SDGDPINN" in said and "val/residual" in said
    assert values.monitors(config("sciml.modules.DEQClassifier", monitor="val/accuracy")) == []


def test_keys_outside_the_groups():
    assert values.root({"seed": 0, "matmul_precision": "high", "reference": None}) == []
    assert values.root({"reference": {"test/rel_l2": 0.1}, "ckpt_path": None}) == []
    for config, said in (
        ({"matmul_precision": "hihg"}, "Did you mean 'high"), ({"ckpt_path": ""}, "is empty"),
        ({"reference": [1]}, "is no table"), ({"seed": -1}, "0 to 4294967295"),
    ):  # fmt: skip
        (found,) = values.root(config)
        assert said in found
