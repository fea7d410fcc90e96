"""Which known format a file resembles that has none, for the error message."""

from collections.abc import Iterator, Mapping
from typing import Any

from modelling.weights.families import FORMATS
from modelling.weights.file import states
from modelling.weights.format import Format, State
from modelling.weights.names import without_common_prefix, without_wrappers


def resemblance(content: Mapping[str, Any]) -> str:
    """Name the format that a file resembles most, what it lacks of it and which tensors have no place in it.

    Args:
        content: of a file of no known format.

    Returns:
        The end of a sentence about the file, empty if it resembles none.
    """
    pairs = [(layout, names) for names in _views(content) for layout in FORMATS]
    if not pairs:
        return ""
    layout, names = max(pairs, key=lambda pair: _likeness(*pair))  # the first of equal ones
    if not _likeness(layout, names):
        return ""
    lacking = [prefix for prefix in layout.prefixes if not any(name.startswith(prefix) for name in names)]
    strange = [] if "" in layout.renames else [name for name in names if not name.startswith(_places(layout))]
    text = f"; it resembles a {layout.kind} most, but no tensor's name begins with {', '.join(lacking)}"
    if strange:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        text += f"; of its {len(names)} tensors these have no place there: {', '.join(strange[:3])}{more}"
    return text


def _views(content: Mapping[str, Any]) -> Iterator[State]:
    """The tensors of each mapping in a file, with and without the prefixes that all names have in common."""
    for _, tensors in states(content):
        names: State | None = without_wrappers(tensors)
        while names is not None:
            yield names
            names = without_common_prefix(names)


def _likeness(layout: Format, names: State) -> float:
    """The share of the format's signature that a file has, and of its names that have a place; 0 without the first.

    A signature under another first name, e.g. that of a module, counts half.
    """
    signature = sum(_presence(prefix, names) for prefix in layout.prefixes) / max(len(layout.prefixes), 1)
    return signature and signature + sum(name.startswith(_places(layout)) for name in names) / len(names)


def _presence(prefix: str, names: State) -> float:
    if any(name.startswith(prefix) for name in names):
        return 1.0
    rest = prefix.partition(".")[2]
    is_module = rest.endswith(".") and not rest[0].isdigit()
    return 0.5 if is_module and any(f".{rest}" in f".{name}" for name in names) else 0.0


def _places(layout: Format) -> tuple[str, ...]:
    return (*layout.prefixes, *layout.left_out, *(theirs for theirs in layout.renames if theirs))
