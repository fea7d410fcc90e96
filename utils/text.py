"""Text from files and their names, made harmless for where it goes: a terminal, a log, a spreadsheet."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

# Categories of Unicode that print nothing but change what stands around them: controls (line feed, escape), formats
# (direction of writing), surrogates (bytes of a name that are no UTF-8), separators of lines and paragraphs.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# A spreadsheet computes what begins so, in half or full width, behind spaces too; not where it is a number.
_FORMULA = re.compile(r"['\s]*(?:[=@＝＠＋－]|[+\-](?!\d*\.?\d+$))")


def printable(text: str) -> str:
    r"""Text on one line, in which escapes (``\x1b``) stand for what a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(
        sign.encode("unicode_escape").decode() if unicodedata.category(sign) in _INVISIBLE else sign for sign in text
    )


def as_cell(text: str) -> str:
    """Text as a cell of a CSV file: an apostrophe stands before what a spreadsheet would take for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """The text of which :func:`as_cell` has made a cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def as_rows(rows: Iterable[Iterable[str]]) -> Iterator[list[str]]:
    """Rows of text as rows of cells."""
    return ([as_cell(text) for text in row] for row in rows)
