"""The configuration of a data module alone, for verbs that train nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sciml.cli import paths
from sciml.cli.checks import values
from sciml.cli.targets import preflight
from sciml.errors import ConfigError


def data_node(
    name: str, changes: Sequence[str], given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the checked configuration of a data set.

    Args:
        name: Of `configs/data`.
        changes: Settings as KEY=VALUE.
        given: Settings that stand before the changes.

    Raises:
        ConfigError: With everything that is wrong with it.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    base = OmegaConf.load(paths.file_of("data", name))
    base.update(given or {})
    try:
        merged = OmegaConf.merge(base, OmegaConf.from_dotlist(list(changes)))
        node = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, ValueError, TypeError, LookupError, YAMLError) as error:
        raise ConfigError(f"data: {str(error).splitlines()[0][:200]}") from error
    findings = preflight.check({"data": node}) + values.numbers({"data": node})
    if findings:
        raise ConfigError(" ".join(findings))
    return node
