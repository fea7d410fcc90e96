"""The configuration tree: its schema, and how files and command lines change it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from configs.defaults import KEYS
from configs.schema import build_tree, checked_value, flatten
from utils.errors import ReidError

logger = logging.getLogger(__name__)

__all__ = ["KEYS", "get_cfg", "read_config", "to_yaml", "with_values"]


def get_cfg() -> CfgNode:
    """A fresh tree that holds the default of every key."""
    return build_tree(KEYS)


def read_config(source: Path | str, *, lenient: bool = False) -> dict[str, Any]:
    """The values that a YAML file (a Path) or YAML text (a str) sets, by dotted name, typed and checked.

    Args:
        source: the file or the text.
        lenient: leave out unknown keys with a warning: a checkpoint may be older than the schema.

    Raises:
        ReidError: if the file is missing or not a YAML mapping, or a key or value is wrong.
    """
    origin = str(source) if isinstance(source, Path) else "the checkpoint's configuration"
    if isinstance(source, Path) and not source.is_file():
        found = ", ".join(str(path) for path in sorted(Path("configs").glob("*.yml"))) or "none"
        raise ReidError(f"--config_file must be an existing YAML file, got {source}; at hand: {found}")
    try:
        tree = yaml.safe_load(source.read_text(encoding="utf-8") if isinstance(source, Path) else source)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ReidError(f"{origin} must be YAML, but does not parse: {reason}") from error
    if not isinstance(tree or {}, Mapping):
        raise ReidError(f"{origin} must hold sections of keys, got {type(tree).__name__}")
    try:
        values = {name: value for name, value in flatten(tree or {}).items() if not _is_empty_section(name, value)}
        if lenient:
            for name in values.keys() - KEYS.keys():
                logger.warning("%s: key %s is not known any more and left out", origin, name)
            values = {name: value for name, value in values.items() if name in KEYS}
        return {name: checked_value(KEYS, name, value) for name, value in values.items()}
    except ReidError as error:
        raise ReidError(f"{origin}: {error}") from error


def _is_empty_section(name: str, value: object) -> bool:
    """``MODEL:`` and nothing below, in YAML."""
    return value is None and any(key.startswith(f"{name}.") for key in KEYS)


def with_values(cfg: CfgNode, values: Mapping[str, Any]) -> CfgNode:
    """A copy of ``cfg`` in which the keys of ``values`` are set.

    Raises:
        ReidError: for an unknown key, a wrong type or a value outside its rule.
    """
    changed = cfg.clone()
    changed.defrost()
    for name, value in values.items():
        *sections, leaf = name.split(".")
        checked = checked_value(KEYS, name, value)
        node = changed
        for section in sections:
            node = node[section]
        node[leaf] = checked
    return changed


def to_yaml(cfg: CfgNode) -> str:
    """The whole tree as YAML text that :func:`read_config` reads back."""

    def plain(node: Any) -> Any:  # noqa: ANN401 (a YAML tree)
        return {name: plain(value) for name, value in node.items()} if isinstance(node, dict) else node

    return str(yaml.safe_dump(plain(cfg), sort_keys=False, default_flow_style=None))
