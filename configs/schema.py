"""What a configuration key is, and how values reach the tree: typed, checked, with helpful messages."""

import ast
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from yacs.config import CfgNode

from utils.errors import ReidError


@dataclass(frozen=True)
class Rule:
    """A condition on a value, with the words an error message and the documentation use for it."""

    text: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Key:
    """One key of the tree: its default, what it means (with its unit), and which values are allowed."""

    default: Any
    meaning: str
    rule: Rule | None = None


def one_of(*choices: object) -> Rule:
    """The value is one of ``choices``."""
    return Rule("one of " + ", ".join(str(choice) for choice in choices), lambda value: value in choices)


def some_of(*choices: object) -> Rule:
    """A list of one or more of ``choices``, each once."""
    text = "a list of " + ", ".join(str(choice) for choice in choices)
    return Rule(
        text, lambda value: bool(value) and len(set(value)) == len(value) and all(v in choices for v in value)
    )


def at_least(low: float) -> Rule:
    """The value is finite, ``low`` or more."""
    return Rule(f"{low} or more", lambda value: low <= value < math.inf)


def above(low: float) -> Rule:
    """The value is finite and greater than ``low``."""
    return Rule(f"greater than {low}", lambda value: low < value < math.inf)


def between(low: float, high: float) -> Rule:
    """The value lies in the closed interval from ``low`` to ``high``."""
    return Rule(f"from {low} to {high}", lambda value: low <= value <= high)


def numbers(count: int | None, low: float) -> Rule:
    """A list of ``count`` numbers (any length for None), each ``low`` or more."""
    text = f"{'a list of' if count is None else count} numbers, each {low} or more"
    return Rule(
        text, lambda value: (count is None or len(value) == count) and all(low <= v < math.inf for v in value)
    )


def rising(low: int) -> Rule:
    """A list of rising numbers, the first ``low`` or more."""
    return Rule(
        f"rising numbers from {low} on, e.g. [40, 70]",
        lambda value: all(a < b for a, b in zip((low - 1, *value), value, strict=False)),
    )


def build_tree(keys: Mapping[str, Key]) -> CfgNode:
    """The yacs tree that holds the default of every key."""
    tree = CfgNode()
    for name, key in keys.items():
        node = tree
        *sections, leaf = name.split(".")
        for section in sections:
            node = node.setdefault(section, CfgNode())
        node[leaf] = key.default
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a nested mapping by their dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves.update(flatten(value, f"{prefix}{name}."))
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def checked_value(keys: Mapping[str, Key], name: str, value: object) -> object:
    """``value`` in the type of the key ``name``.

    Args:
        keys: the schema.
        name: dotted name of a key.
        value: a Python value, or text as it comes from a command line.

    Raises:
        ReidError: for an unknown name (names the nearest), a wrong type or a value outside the rule.
    """
    if name not in keys:
        raise ReidError(f"unknown configuration key {name}{nearest(name, keys)}")
    key = keys[name]
    typed = _in_type_of(key.default, value)
    if typed is None:
        kind = type(key.default).__name__
        raise ReidError(f"{name} must be of type {kind} (its default is {key.default!r}), got {value!r}")
    if key.rule is not None and not _holds(key.rule, typed):
        hint = nearest(str(typed), key.rule.text.removeprefix("one of ").split(", "))
        raise ReidError(f"{name} must be {key.rule.text}, got {value!r}{hint}")
    return typed


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Words that propose the candidate most like ``name``, or nothing where none is near."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


_TRUTH = {"true": "True", "yes": "True", "false": "False", "no": "False"}


def _holds(rule: Rule, value: object) -> bool:
    try:
        return rule.holds(value)
    except TypeError:  # e.g. a word in a list of numbers
        return False


def _in_type_of(default: object, value: object) -> object:
    """``value`` as the type of ``default``, or None where that would change its meaning."""
    if isinstance(default, str):
        return value if isinstance(value, str) else str(value)
    if isinstance(value, str):
        try:
            value = ast.literal_eval(_TRUTH.get(value.lower(), value))
        except (ValueError, SyntaxError):
            return None
    if isinstance(default, (list, tuple)):
        if not isinstance(value, (list, tuple)):
            return None
        typed = [_in_type_of(default[0] if default else 0, item) for item in value]
        return None if any(item is None for item in typed) else typed
    if isinstance(default, bool) or isinstance(value, bool):
        return value if isinstance(default, bool) and isinstance(value, bool) else None
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    return value if type(value) is type(default) else None
