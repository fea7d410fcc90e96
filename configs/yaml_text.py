"""Read the configuration from a YAML file or from the text in a checkpoint, and write it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from configs.defaults import OLD_NAMES, SCHEMA
from configs.schema import checked_value, flatten, with_new_names
from utils.errors import ReidError, one_line

logger = logging.getLogger(__name__)

# A whole configuration has 3,000 characters, 300 values and 3 levels.
_MAX_CHARACTERS, _MAX_VALUES, _MAX_LEVELS = 100_000, 10_000, 20


def read_config(source: Path | str, *, lenient: bool = False) -> dict[str, Any]:
    """The values that a YAML file (a Path) or YAML text (a str) sets, by dotted name, typed and checked.

    Args:
        source: the file or the text.
        lenient: leave out unknown keys with a warning: a checkpoint may be older than the schema, or come from a
            run with plugins.

    Raises:
        ReidError: if the file is missing or not a YAML mapping, a key is set twice, or a key or value is wrong.
    """
    origin = str(source) if isinstance(source, Path) else "the checkpoint's configuration"
    if isinstance(source, Path) and not source.is_file():
        source = _shipped(source)
    try:
        leaves = with_new_names(flatten(_load(source)).items(), OLD_NAMES)
        values = {name: value for name, value in leaves.items() if not _is_empty_section(name, value)}
        if lenient:
            for name in [name for name in values if name not in SCHEMA]:
                logger.warning("%s: key %s is unknown and left out", origin, name)
                del values[name]
        return {name: checked_value(SCHEMA, name, value) for name, value in values.items()}
    except ValueError as error:  # ours, or Python's for a whole number of too many digits to print
        raise ReidError(f"{origin}: {one_line(error)}") from error


def to_yaml(cfg: CfgNode) -> str:
    """The whole tree as YAML text that :func:`read_config` reads back."""

    def plain(node: Any) -> Any:  # noqa: ANN401 (a YAML tree)
        return {name: plain(value) for name, value in node.items()} if isinstance(node, dict) else node

    return str(yaml.safe_dump(plain(cfg), sort_keys=False, default_flow_style=None))


def _shipped(path: Path) -> Path:
    """The file of the code for the name ``configs/NAME.yml`` of one that is not here.

    Raises:
        ReidError: if the code has none of that name.
    """
    files = {Path("configs", file.name): file for file in sorted(Path(__file__).parent.glob("*.yml"))}
    if path not in files:
        examples = ", ".join(map(str, files))
        raise ReidError(f"--config_file must be an existing YAML file, got {path}; at hand: {examples}")
    logger.info("--config_file %s is not here: the one of the code counts, %s", path, files[path])
    return files[path]


def _is_empty_section(name: str, value: object) -> bool:
    """YAML has ``MODEL:`` with nothing below it."""
    return value is None and any(key.startswith(f"{name}.") for key in SCHEMA)


def _load(source: Path | str) -> Mapping[str, Any]:
    """The sections of a YAML text; time and memory are bounded, whatever the text holds.

    Raises:
        ReidError: if the text is not a mapping, sets a key twice or grows too large.
    """
    try:
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        if len(text) > _MAX_CHARACTERS:
            raise ReidError(f"the text must have at most {_MAX_CHARACTERS} characters, got {len(text)}")
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is not None:
            _check(root)
        tree = None if root is None else loader.construct_document(root)
    except ReidError:
        raise
    except RecursionError as error:
        raise ReidError(f"the text must hold at most {_MAX_LEVELS} levels, got hundreds") from error
    # PyYAML itself fails at odd values: !!bool maybe (KeyError), !!int "" (IndexError), 2024-13-01 (ValueError).
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise ReidError(f"the text must be YAML, but does not parse: {one_line(error)}") from error
    if tree is not None and not isinstance(tree, Mapping):
        raise ReidError(f"the text must hold sections of keys, got {type(tree).__name__}")
    return tree or {}


def _check(root: yaml.Node) -> None:
    """Refuse a key that is set twice, and too many values or levels after aliases and merges are expanded.

    Raises:
        ReidError: with the line.
    """
    nodes, count = [(root, 1)], 0
    while nodes:
        node, level = nodes.pop()
        count += 1
        if count > _MAX_VALUES or level > _MAX_LEVELS:
            limits = f"at most {_MAX_VALUES} values in {_MAX_LEVELS} levels, aliases written out"
            raise ReidError(f"the text must hold {limits}, got more in line {node.start_mark.line + 1}")
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
                line = key.start_mark.line + 1
                if key.value in lines:
                    raise ReidError(
                        f"{key.value} must be set once, got lines {lines[key.value]} and {line}; remove one"
                    )
                lines[key.value] = line
            nodes += [(child, level + 1) for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            nodes += [(child, level + 1) for child in node.value]
