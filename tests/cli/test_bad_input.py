"""Every wrong input gets one message and exit code 2, and leaves no run folder behind."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ["No model given", "pinn_hjb"]),
        (["pinn_hjb"], ["'pinn_hjb' is not of the form key=value", "model=pinn_hjb"]),
        (["model=pinn_hbj"], ["model=pinn_hbj is unknown", "Did you mean 'pinn_hjb'?"]),
        (["model=toy", "optimizer=admw"], ["Did you mean 'adamw'?", "lbfgs"]),
        (["model=toy", "problem.dimm=4"], ["problem.dimm is unknown", "problem.dim?"]),
        (["model=toy", "+problem.dimm=4"], ["problem.dimm is unknown", "problem.dim?"]),
        (["model=toy", "lr=1e-2"], ["lr is unknown", "Did you mean optimizer.lr?"]),
        (["model=toy", "optimiser.lr=1"], ["Did you mean optimizer.lr?"]),
        (["model=toy", "trainer.max_stepz=1"], ["Did you mean trainer.max_steps?"]),
        (["model=toy", "optimizer.lr=fast"], ["optimizer.lr is 'fast'", "a number"]),
        (["model=toy", "problem.dim=3.5"], ["problem.dim=3.5 is a number with a f", "an integer"]),
        (
            ["model=pinn_hjb", "problem.dim=null", "optimizer.betas=[1]", "optimizer.lr=1e400"]
            + ["trainer.precision=8", "module.adversarial_size=-1e400", "seed=1,2"],
            [
                "problem.dim is null. Expected an integer",
                "optimizer.betas=[1] is another list. Expected a list of 2 entries, a number each",
                "optimizer.lr=inf is beyond all numbers",
                "module.adversarial_size=-inf is beyond all numbers",
                "trainer.precision=8 is unknown. Expected 64 or 32 or 16",
                "seed=1,2 asks for several runs. Type -m",
            ],
        ),
        (["model=toy", "ckpt_path=/"], ["ckpt_path: the folder / has no checkpoints/last.ckpt"]),
        (["model=toy", "problem.law=c"], ["problem.law=c is unknown", "Available: a, b"]),
        (["model=wos_poisson2d", "module.loss=nrom"], ["Did you mean 'norm'?"]),
        (
            ["model=wos_screened2d", "scale=paper"],
            ["no such size", "scale=default", "wos_poisson2d"],
        ),
        (["-m", "model=pinn_hjb,wos_screened2d", "scale=paper"], ["model=wos_screened2d"]),
        (["model=toy", "seed=x"], ["seed=x", "Integer"]),
        (["model=toy", "problem.dim=-3"], ["problem.dim=-3", "positive integer"]),
        (["model=toy", "trainer.accelerator=abacus"], ["trainer: Trainer refuses", "abacus"]),
        (["model=toy", "trainer.inference_mode=true"], ["trainer.inference_mode=false"]),
        (["model=toy", "trainer.overfit_batches=2"], ["does nothing", "debug=overfit"]),
        (["model=toy", "trainer.max_epochs=2"], ["no epoch ever ends", "trainer.max_steps=N"]),
        (["model=toy", "trainer.check_val_every_n_epoch=1"], ["trainer.val_check_interval=N"]),
        (["model=toy", "trainer.limit_train_batches=3"], ["trainer.max_steps=N"]),
        (["model=toy", "trainer.limit_val_batches=0.5"], ["a share of a number"]),
        (["model=toy", "trainer.fast_dev_run=true"], ["debug=fast"]),
        (["model=toy", "trainer.logger=true"], ["logger=NAME"]),
        (["model=toy", "trainer.max_steps=-1"], ["never ends", "trainer.max_time"]),
        (["model=toy", "optimizer=lbfgs", "trainer.accumulate_grad_batches=2"], ["lbfgs"]),
        (["model=toy", "estimator=sdgd", "estimator.num_dims=4"], ["problem.dim=3", "exact"]),
        (["model=toy", "problem=fourth", "estimator=hutchinson"], ["estimator.law=gaussian"]),
        (["model=toy", "optimizer=lbfgs", "trainer=ddp"], ["drift apart"]),
        (["model=pinn_hjb", "module.dimension_parallel=true"], ["data.share_points=true"]),
        (
            ["model=pinn_hjb", "module.compile=true", "module.gradient_enhanced=0.1"],
            ["double backward", "module.compile=false"],
        ),
        (["model=toy", "scale=papr"], ["Did you mean 'paper'?"]),
        (["model=toy", "seed={"], ["'seed={' cannot be read"]),
        (["model=toy", "hydra.runn.dir=x"], ["runn"]),
        (["-m", "model=toy", "optimizer=adam,admw"], ["optimizer=admw is unknown"]),
        (["-m", "model=toy", "ckpt_path=last"], ["ckpt_path=last with -m"]),
        (["model=toy", "ckpt_path=last"], ["no run below", "Leave ckpt_path out"]),
        (["model=toy", "ckpt_path=none.ckpt"], ["none.ckpt: it does not exist"]),
        (["model=toy", "ckpt_path="], ["ckpt_path is empty"]),
        (["model=toy", "problem._target_=os.system"], ["problem._target_", "allowed packages"]),
        (["model=toy", "problem._target_=sciml.cli.train.subprocess"], ["not defined in"]),
        (["model=toy", "problem._target_=sciml.errors.Nothing"], ["has no Nothing"]),
        (["model=toy", "module.inputs=x"], ["module.inputs='x'", "a list"]),
        (["model=pinn_hjb", "network.width=100000000"], ["this machine's memory"]),
        (["model=toy", "optimizer.lr=-1"], ["optimizer: Adam refuses", "-1"]),
        (["model=toy", "trainer.profiler=nope"], ["trainer: Trainer refuses"]),
        (["model=toy", f"hydra.run.dir={'a' * 300}"], ["cannot write the run folder"]),
        (["model=toy", "hydra.run.dir=${nope}"], ["hydra.run.dir", "'nope' not found"]),
        (["--cfg", "job", "model=toy", "hydra.launcher._target_=x"], ["cannot be set here"]),
    ],
)
def test_message(run, words, said):
    code, out, err = run(*words)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and "Traceback" not in err
    assert all(text in err for text in said), err
    assert not list(run.work.rglob("*.*"))


def test_all_findings_together(run):
    words = ["model=toy", "problem.dimm=4", "optimizer=admw", "seed=x", "optimizer.lr=y", "lrr=1"]
    code, _, err = run(*words)
    assert code == 2 and "5 problems in the command line" in err
    for text in ("problem.dimm", "optimizer=admw", "seed=x", "optimizer.lr is 'y'", "lrr"):
        assert text in err


# lines with several mistakes of a kind, and what is said of each
TOGETHER = {
    "parts that nothing uses": (
        ["model=wos_poisson2d", "problem=poisson2d", "estimator=sdgd", "solver=broyden"],
        ["problem is chosen, and nothing", "estimator is chosen", "solver is chosen"],
    ),
    "parts that do not fit": (
        ["model=pinn_hjb", "module=deq"],
        ["which trains a CellClassifier", "gives points of an equation", "val/residual is not"],
    ),
    "a network for other data": (["model=pinn_hjb", "network=fno"], ["FNO takes field", "mlp"]),
    "a part too few": (["model=pinn_hjb", "network=null"], ["needs network", "network=NAME"]),
    "groups": (
        ["model=toy", "optimizer=null", "~data", "++problem=poisson2d", "recipe=pinn_hjb_kfac"],
        ["optimizer=null: every run needs one", "'~data'", "Type problem=NAME", "recipe follows"],
    ),
    "interpolations": (
        ["model=toy", "optimizer.lr=${nope}", "seed=${seed}", "problem.nope=1"],
        ["'nope' not found", "Recursive interpolation", "problem.nope is unknown"],
    ),
    "sweeps": (
        ["-m", "model=toy", "seed=interval(0,1)", "problem.dim=range(0,1000000000)"],
        ["seed=A,B", "more than 10000 runs"],
    ),
    "values": (
        [
            "model=pinn_poisson2d",
            "seed=-1",
            "matmul_precision=nope",
            "callbacks.checkpoint.monitor=val/nope",
            "callbacks.checkpoint.every_steps=0",
            "problem.boundary_weight=-1",
            "optimizer.lr=nan",
            "trainer.val_check_interval=0.5",
            "trainer.max_steps=0",
            "network.width=99999999999",
            "trainer.logger=true",
        ],
        [
            "seed=-1 is out of range",
            "matmul_precision=nope is unknown",
            "'val/residual'",
            "callbacks.checkpoint.every_steps=0 is a number of steps",
            "problem.boundary_weight=-1 is a weight in the loss",
            "optimizer.lr=nan is not a number",
            "trainer.val_check_interval=0.5 is no number of steps",
            "trainer.max_steps=0 trains nothing",
            "network.width=99999999999 is beyond every machine",
            "trainer.logger=True does nothing",
        ],
    ),
    "targets of another kind": (
        [
            "model=deq_digits",
            "optimizer._target_=sciml.networks.pointwise.mlp.MLP",
            "network._target_=sciml.solvers.linear_solve",
            "data._target_=sciml.cli.records.read_checkpoint.read",
            "trainer._target_=lightning.fabric.utilities.cloud_io._load",
            "solver._target_=sciml.solvers.Implicit",
            "schedule={_target_: os.system}",
            "callbacks.record=5",
        ],
        [
            "is no optimizer",
            "linear_solve is a function",
            "part of the command line",
            "_load is private",
            "is no solver",
            "schedule=",
        ],
    ),
    "Hydra's own": (
        [
            "model=toy",
            "hydra.launcher._target_=os.system",
            "+hydra.callbacks.x._target_=os.system",
            "hydra.run.dir={_target_: x}",
            "network._args_=[1]",
            "+network._partial_=true",
        ],
        [
            "hydra.launcher._target_ cannot be set here",
            "hydra.callbacks.x._target_ cannot be set here",
            "hydra.run.dir takes a word or a number",
            "network._args_ is unknown",
            "network._partial_ is unknown",
        ],
    ),
}


@pytest.mark.parametrize("kind", TOGETHER)
def test_kinds_of_mistakes(run, kind):
    words, said = TOGETHER[kind]
    code, out, err = run(*words)
    assert code == 2 and out == "" and "Traceback" not in err
    assert all(text in err for text in said), err
    assert not list(run.work.rglob("*.*"))


def test_read_only_run_folder(run):
    folder = run.work / "locked"
    folder.mkdir(mode=0o555)
    code, _, err = run("model=toy", f"hydra.run.dir={folder}/x")
    assert code == 2 and "cannot write the run folder" in err and "hydra.run.dir=" in err
    (run.work / "file").touch()
    code, _, err = run("model=toy", f"hydra.run.dir={run.work}/file/x")
    assert code == 2 and "is a file" in err


def test_logger_that_is_not_installed(run, monkeypatch):
    monkeypatch.setattr("sciml.cli.checks.trainer_rules.find_spec", lambda name: None)
    code, _, err = run("model=toy", "logger=tensorboard")
    assert code == 2 and "pip install 'sciml-torch[loggers]'" in err


def test_optimizer_that_is_not_installed(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    code, _, err = run("model=toy", "optimizer._target_=pytorch_optimizer.Lion")
    assert code == 2 and "pip install pytorch_optimizer" in err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train.py", "model=pinn_hbj"], "Did you mean 'pinn_hjb'?"),
        (["-m", "sciml", "train", "model=pinn_hbj"], "Did you mean 'pinn_hjb'?"),
        (["-m", "sciml", "trian"], "Did you mean 'train'?"),
        (["-m", "sciml", "list", "model"], "Did you mean 'models'?"),
    ],
)
def test_as_a_program(command, said):
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and "Traceback" not in done.stderr
