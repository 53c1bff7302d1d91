"""Schema of the root of a run's configuration: wrong types and unknown keys are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import MISSING

from sciml import plugins


@dataclass
class TrainConfig:
    """Keys at the root of `configs/train.yaml`, where each has its help text.

    The groups are dictionaries with a `_target_`; preflight checks their keys and types against
    the signature of the target, which knows more than a second declaration here would.
    """

    model: str = MISSING
    scale: str = "default"
    seed: int = 0
    ckpt_path: str | None = None
    overwrite: bool = False
    init_from: str | None = None
    freeze: list[str] | None = None
    matmul_precision: str = "highest"
    problem: Any = None
    network: Any = None
    estimator: Any = None
    solver: Any = None
    adjoint: Any = None
    module: Any = None
    data: Any = None
    optimizer: Any = None
    schedule: Any = None
    trainer: Any = None
    callbacks: Any = None
    logger: Any = None
    reference: Any = None
    short: Any = None
    plugins: Any = None


class PluginFolders(SearchPathPlugin):
    """Configurations of packages from outside, found after our own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add their folders."""
        for place in plugins.config_folders():
            search_path.append(provider="sciml.plugins", path=f"file://{place}")


def register() -> None:
    """Make the schema known to Hydra under the name `schema`, and where plug-ins keep files."""
    ConfigStore.instance().store(name="schema", node=TrainConfig)
    Plugins.instance().register(PluginFolders)
