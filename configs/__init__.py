"""The configuration tree: its schema, and how files and command lines change it."""

from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

from configs.defaults import SCHEMA
from configs.schema import build_tree, checked_value
from configs.yaml_text import read_config, to_yaml

__all__ = ["SCHEMA", "get_cfg", "read_config", "to_yaml", "with_values"]


def get_cfg() -> CfgNode:
    """A fresh tree that holds the default of every key."""
    return build_tree(SCHEMA)


def with_values(cfg: CfgNode, values: Mapping[str, Any]) -> CfgNode:
    """A copy of ``cfg`` in which the keys of ``values`` are set.

    Raises:
        ReidError: for an unknown key, a wrong type or a value outside its rule.
    """
    changed = cfg.clone()
    changed.defrost()
    for name, value in values.items():
        *sections, leaf = name.split(".")
        checked = checked_value(SCHEMA, name, value)
        node = changed
        for section in sections:
            node = node[section]
        node[leaf] = checked
    return changed
