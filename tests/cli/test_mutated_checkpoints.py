"""Checkpoints changed at random: continued to a finite end, or refused by one message.

A change is drawn from a seed, so a case that fails can be run again by its number.
"""

import copy
import random
import shutil
import time

import pytest
import torch

FEW, MANY = 8, 300
STOP = "+callbacks.finite={_target_: sciml.callbacks.StopOnNonFinite}"  # as in every real model
SLOWEST = 30.0  # seconds that a case may take
VALUES = (None, True, 0, -1, 10**9, 10**30, 1.5, float("nan"), float("inf"), "", "x", "os.system")
VALUES += ("../x", "a" * 300, "\0", [], [1], {}, {"_target_": "os.system"}, {"a": {"b": [None]}})


def places(tree, path=()):
    """Yield the way to every value of nested dictionaries and lists."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(entries):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def spoilt_tensor(value, draw):
    kinds = (torch.float16, torch.float64, torch.int64, torch.bool, torch.complex64)
    changes = [
        lambda: value.to(draw.choice(kinds)),
        lambda: value[None],
        lambda: value.flatten()[:0],
        lambda: torch.full(value.shape, float("nan")),
        lambda: torch.full(value.shape, 1e38),
        lambda: value.to_sparse() if value.dim() else value[None],
        lambda: torch.zeros(1).expand(value.shape),
    ]
    return draw.choice(changes)()


def mutate(file, number):
    """Change a checkpoint as a seed says."""
    draw = random.Random(number)
    if draw.random() < 0.3:
        content = bytearray(file.read_bytes())
        kind, at = draw.randrange(4), draw.randrange(len(content))
        if kind == 0:
            content = content[:at]
        elif kind == 1:
            content[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            content[at : at + 64] = bytes(len(content[at : at + 64]))
        else:
            content[at:at] = content[: draw.randrange(200)]
        file.write_bytes(bytes(content))
        return
    content = copy.deepcopy(torch.load(file, weights_only=True))
    for _ in range(draw.choice((1, 1, 1, 3))):
        way = draw.choice(list(places(content)))
        parent = content
        for key in way[:-1]:
            parent = parent[key]
        value, kind = parent[way[-1]], draw.randrange(4)
        if torch.is_tensor(value):
            parent[way[-1]] = spoilt_tensor(value, draw)
        elif kind == 0:
            del parent[way[-1]]
        elif kind == 1 and isinstance(parent, dict):
            parent[draw.choice(("extra", "_target_", 7, ("a",)))] = draw.choice(VALUES)
        else:
            parent[way[-1]] = draw.choice(VALUES)
    torch.save(content, file)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "numbers", [range(FEW), pytest.param(range(FEW, MANY), marks=pytest.mark.slow)], ids=str
)
def test_any_change_is_survived_or_refused(run, monkeypatch, numbers):
    def called(*arguments, **more):
        raise AssertionError("code ran")

    # stopped in the middle, so that there is something left to do
    assert run("model=toy", "hydra.run.dir=whole", "trainer.max_steps=6")[0] == 0
    for name in ("os.system", "os.popen", "subprocess.Popen"):
        monkeypatch.setattr(name, called)
    folder, wrong = run.work / "it", {}
    for number in numbers:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(run.work / "whole", folder)
        (folder / "checkpoints" / "previous.ckpt").unlink(missing_ok=True)
        mutate(folder / "checkpoints" / "last.ckpt", number)
        start = time.perf_counter()
        code, out, err = run(
            "model=toy", "hydra.run.dir=it", "ckpt_path=last", "trainer.max_steps=9", STOP
        )
        if code not in (0, 1, 2) or "Traceback" in err + out or "code ran" in err + out:
            wrong[number] = (code, err[-400:])
        elif code and not (err.startswith("error: ") and len(err) < 2000):
            wrong[number] = (code, err[:200], len(err))
        elif code == 0:
            state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
            if not all(v.isfinite().all() for v in state["state_dict"].values()):
                wrong[number] = "weights that are no numbers"
        if time.perf_counter() - start > SLOWEST:
            wrong[number] = "too slow"
    assert wrong == {}
