"""Keys of the configuration, and values that are checked against their type and rule."""

import ast
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from yacs.config import CfgNode

from utils.errors import ReidError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class Rule:
    """A condition on a value, with the words that error messages and the documentation use for it.

    Attributes:
        text: those words.
        holds: the condition.
        choices: the words that the value, or an entry of it, is one of; empty if there are no such words.
    """

    text: str
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Key:
    """One key of the tree.

    Attributes:
        default: the value of a key that nobody sets; its type is the type of the key.
        meaning: one sentence, with the unit.
        rule: which values are allowed; None = all of the type.
        example: entries of a list that is empty by default; they give its type and stand in messages.
    """

    default: Any
    meaning: str
    rule: Rule | None = None
    example: tuple[Any, ...] = (2, 4)

    @property
    def sample(self) -> Any:  # noqa: ANN401 (a key may hold any plain type)
        """A value of the key's type; a list is never empty."""
        return list(self.example) if self.default == [] else self.default


def one_of(*choices: object) -> Rule:
    """The value is one of ``choices``."""
    words = tuple(map(str, choices))
    return Rule("one of " + ", ".join(words), lambda value: value in choices, words)


def some_of(*choices: str) -> Rule:
    """A list of one or more of ``choices``, each once."""
    return Rule(
        "a list of " + ", ".join(choices),
        lambda value: bool(value) and len(set(value)) == len(value) and set(value) <= set(choices),
        choices,
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


def names(count: int = 0) -> Rule:
    """A list of ``count`` names or more, each once; the table that they are looked up in knows the valid ones."""
    return Rule(
        f"a list of {f'{count} or more ' if count else ''}names, each once",
        lambda value: (
            len(value) >= count
            and len(set(value)) == len(value)
            and all(re.fullmatch(r"[\w.-]+", name) for name in value)
        ),
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
    """The leaves of a nested mapping by their dotted names.

    Raises:
        ReidError: if a leaf occurs twice, by its dotted name and within its section.
    """
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        section = flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        if twice := sorted(leaves.keys() & section.keys()):
            one, other = _excerpt(leaves[twice[0]]), _excerpt(section[twice[0]])
            raise ReidError(f"{twice[0]} must be set once, got {one} and {other}; remove one")
        leaves.update(section)
    return leaves


def with_new_names(pairs: Iterable[tuple[str, T]], new_names: Mapping[str, str]) -> dict[str, T]:
    """The values by the present names of their keys.

    Raises:
        ReidError: if a key is set under both of its names.
    """
    values: dict[str, T] = {}
    for name, value in pairs:
        current = new_names.get(name, name)
        if current in values and name in (*new_names, *new_names.values()):
            raise ReidError(f"{current} must be set once, got {values[current]!r} and {value!r}; remove one")
        values[current] = value
    return values


def checked_value(keys: Mapping[str, Key], name: str, value: object) -> object:
    """``value`` in the type of the key ``name``.

    Args:
        keys: the schema.
        name: dotted name of a key.
        value: a Python value, or text as it comes from a command line.

    Raises:
        ReidError: for an unknown name (proposes the nearest), a wrong type or a value outside the rule.
    """
    if name not in keys:
        raise ReidError(f"unknown configuration key {name}{did_you_mean(name, keys)}")
    key = keys[name]
    typed = _in_type_of(key.sample, value)
    if typed is None and isinstance(key.default, list):
        rule = key.rule.text if key.rule else "a list"
        example = f'on a command line write "{_example(key, value)}"'
        raise ReidError(f"{name} must be {rule}, got {_excerpt(value)}; {example}")
    if typed is None:
        kind = type(key.default).__name__
        raise ReidError(f"{name} must be of type {kind} (its default is {key.default!r}), got {_excerpt(value)}")
    if key.rule is not None and not _holds(key.rule, typed):
        words = [str(item) for item in (typed if isinstance(typed, list) else [typed])]
        hints = (did_you_mean(word, key.rule.choices) for word in words if word not in key.rule.choices)
        raise ReidError(f"{name} must be {key.rule.text}, got {_excerpt(value)}{next(filter(None, hints), '')}")
    return typed


def _excerpt(value: object) -> str:
    """A value as a message shows it: the first 200 characters."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


_TRUTH = {"true": "True", "yes": "True", "false": "False", "no": "False"}


def _holds(rule: Rule, value: object) -> bool:
    try:
        return rule.holds(value)
    except TypeError:  # e.g. a word in a list of numbers
        return False


def _example(key: Key, value: object) -> list[Any]:
    """A list that ``key`` accepts: ``[value]`` if that is one, else its sample."""
    alone = _in_type_of(key.sample, [value])
    if isinstance(alone, list) and (key.rule is None or _holds(key.rule, alone)):
        return alone
    sample: list[Any] = key.sample
    return sample


def _literal(text: str) -> object:
    """The Python value of a literal, or None."""
    try:
        return ast.literal_eval(_TRUTH.get(text.lower(), text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all that literal_eval raises
        return None


def _in_type_of(default: object, value: object) -> object:
    """``value`` in the type of ``default``, or None where that would change its meaning."""
    if isinstance(default, str):
        return None if value is None else str(value)  # YAML has ``NAME:`` with nothing after it
    if isinstance(value, str):
        value = _literal(value)
    if isinstance(default, (list, tuple)):
        if not isinstance(value, (list, tuple)):
            return None
        typed = [_in_type_of(default[0], item) for item in value]
        return None if any(item is None for item in typed) else typed
    if isinstance(value, int) and abs(value) >= 2**63:
        value = math.inf  # no rule accepts it, and no tensor
    if isinstance(default, bool) or isinstance(value, bool):
        return value if isinstance(default, bool) and isinstance(value, bool) else None
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    return value if type(value) is type(default) else None
