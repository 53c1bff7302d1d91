"""Whether the parts of a run fit each other, from their classes alone, before any is built."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

from sciml.cli.targets import resolving
from sciml.cli.typed.replaced_choices import PARTS, consumers

Config = Mapping[str, Any]

# What a batch of a data class is made of, by an input that no other class has.
INPUTS = {
    "CloudFiles": "clouds",
    "CollocationData": "t",
    "PointData": "t",
    "FieldData": "field",
    "FieldFiles": "fields",
    "GraphData": "edge_index",
    "GraphSet": "edge_index",
    "ImageData": "image",
    "SnapshotData": "strain",
    "WalkClouds": "points",
    "WalkData": "sdf",
}
# Options that use each of them, to type instead.
NETWORKS = {
    "t": "mlp",
    "field": "fno_deq",
    "fields": "field_fno",
    "clouds": "cloud_unet",
    "edge_index": "cgs",
    "image": "deq",
    "strain": "equino",
    "points": "wos_gino",
    "sdf": "wos_fno",
}


def unused(config: Config) -> list[str]:
    """Parts that were chosen and that nothing in the run takes."""
    found = []
    whole = config.get("module") and config.get("data")  # a part of a line says nothing
    for part in PARTS if whole else ():
        if config.get(part) and not consumers(config, part):
            found.append(
                f"{part} is chosen, and nothing in model={config.get('model')} uses it. "
                f"Leave {part}=... out, or choose a module, network or data that takes one."
            )
    return found


def missing(config: Config) -> list[str]:
    """Parts that something needs and that are not there."""
    found = []
    for group in ("data", "network", "module"):
        cls = resolving.class_of(config, group)
        if cls is None:
            continue
        known, _ = resolving.arguments(cls)
        for part in (*PARTS, "data", "optimizer"):
            needed = part in known and known[part].default is inspect.Parameter.empty
            if needed and not config.get(part) and part not in config[group]:
                found.append(f"{group} ({cls.__name__}) needs {part}. Type {part}=NAME.")
    return found


def input_of(data: Any) -> str | None:
    """Return the input by which a data class is known, None for classes of other packages."""
    names = [base.__name__ for base in data.__mro__]
    return next((INPUTS[name] for name in names if name in INPUTS), None)


def inputs_of(network: Any) -> set[str] | None:
    """Return the names of a network's inputs; None where its signature does not tell."""
    parameters = inspect.signature(network.forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()):
        return None
    return set(parameters) - {"self"}


def network_for_module(config: Config) -> str | None:
    """A network of a kind that the module does not train."""
    module, network = resolving.class_of(config, "module"), resolving.class_of(config, "network")
    if module is None or not inspect.isclass(network):
        return None
    wanted = resolving.annotations(module).get("network")
    if inspect.isclass(wanted) and wanted is not Any and not issubclass(network, wanted):
        return (
            f"network {network.__name__} does not fit module {module.__name__}, which trains a "
            f"{wanted.__name__}. Type a network=NAME of that kind, or the module of the network."
        )
    return None


def data_for_module(config: Config) -> str | None:
    """Pairs of inputs and answers for a method on equations, or the other way round."""
    module, data = resolving.class_of(config, "module"), resolving.class_of(config, "data")
    if module is None or data is None or input_of(data) is None:
        return None
    equations = "problem" in resolving.arguments(module)[0]
    if equations and input_of(data) != "t":
        return (
            f"module {module.__name__} trains on points of an equation, and data {data.__name__} "
            "gives inputs with answers. Type data=collocation, or another module."
        )
    if not equations and input_of(data) == "t":
        return (
            f"module {module.__name__} trains on inputs with answers, and data {data.__name__} "
            "gives points of an equation. Type module=sdgd_pinn, or another data."
        )
    return None


def problem_for_parts(config: Config) -> list[str]:
    """A system of equations with the method for one unknown, or the other way round."""
    problem, found = resolving.class_of(config, "problem"), []
    for group, instead in (("module", "pinn or sdgd_pinn"), ("data", "point_sets or collocation")):
        cls = resolving.class_of(config, group)
        wanted = resolving.annotations(cls).get("problem") if inspect.isclass(cls) else None
        if not inspect.isclass(problem) or not inspect.isclass(wanted):
            continue
        if Protocol in wanted.__bases__:  # says what it calls, and is not asked
            continue
        if not issubclass(problem, wanted):
            system, scalar = instead.split(" or ")
            other = scalar if wanted.__name__ == "System" else system
            found.append(
                f"problem {problem.__name__} does not fit {group} {cls.__name__}, which takes a "
                f"{wanted.__name__}. Type {group}={other}, or another problem."
            )
    return found


def network_for_data(config: Config) -> str | None:
    """A network whose inputs are not what the batches hold."""
    data, network = resolving.class_of(config, "data"), resolving.class_of(config, "network")
    if data is None or not inspect.isclass(network):
        return None
    wanted, found = input_of(data), inputs_of(network)
    if wanted is None or found is None or wanted in found:
        return None
    return (
        f"network {network.__name__} takes {', '.join(sorted(found))}, and data {data.__name__} "
        f"gives no such inputs (it has {wanted}). Type for instance network={NETWORKS[wanted]}, "
        "or other data."
    )


RULES = (unused, missing, network_for_module, data_for_module, problem_for_parts, network_for_data)
