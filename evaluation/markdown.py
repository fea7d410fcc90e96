"""A report as text: the rows that a Markdown table and an HTML page have in common, and the former."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from evaluation.report import protocol_label
from utils.errors import ReidError

COLUMNS: tuple[str, ...] = (
    "protocol", "query scale", "gallery scale", "mAP", "mINP", "rank-1", "rank-5", "rank-10", "valid queries",
)  # fmt: skip
NUM_TEXT_COLUMNS = 3  # the columns before the figures

CTL2021 = "centroid_ctl2021"
CTL2021_NOTE = (
    "centroid_ctl2021 is the published procedure of 2021 with its wrong camera index: its figures flatter a "
    "model, and are not comparable to instance figures."
)
VERIFICATION_COLUMNS: tuple[str, ...] = (
    "false positive rate [%]",
    "true positive rate [%]",
    "cosine distance threshold",
)

_MISSING = "–"
_MARKDOWN_SIGNS = re.compile(r"([\\`*\[\]<>|])")  # an underscore within a word has no meaning


def markdown_table(report: Mapping[str, Any]) -> str:
    """The results of ``report.json`` as a GitHub-flavoured Markdown table; rates in percent.

    A note follows where a row is ``centroid_ctl2021``, and a second table where the report has a
    ``verification`` part.

    Args:
        report: the content of ``report.json``, see :meth:`evaluation.report.Report.as_dict`.

    Returns:
        Lines that end with a line feed.

    Raises:
        ReidError: if ``report`` holds no results.
    """
    rows = [result_cells(result) for result in results_of(report)]
    lines = _table(COLUMNS, rows, NUM_TEXT_COLUMNS)
    if sizes := resolutions_text(report):
        lines += ["", f"Resolutions: {sizes}"]
    if has_ctl2021(report):
        lines += ["", _escaped(CTL2021_NOTE)]
    if verification := report.get("verification"):
        lines += ["", *_table(VERIFICATION_COLUMNS, verification_rows(verification), 0)]
        lines += ["", verification_summary(verification)]
    return "\n".join(lines) + "\n"


def results_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of ``report.json``.

    Raises:
        ReidError: if there are none.
    """
    results = report.get("results")
    if not isinstance(results, list) or not results:
        raise ReidError(
            f"report must hold a list of results, got the keys {sorted(report)}; pass the content of a "
            f"report.json that test.py wrote"
        )
    return results


def resolutions_text(report: Mapping[str, Any]) -> str:
    """What each scale leaves of an image, in pixels (height x width); empty where the report does not say."""
    words = {"online": "of the network's input", "disk": "files, median"}
    return ", ".join(
        f"x{size['scale']} = {size['height']}x{size['width']} ({words[size['source']]})"
        for size in report.get("resolutions", ())
    )


def has_ctl2021(report: Mapping[str, Any]) -> bool:
    """Whether a row is the procedure of 2021, which must not be shown without :data:`CTL2021_NOTE`."""
    return any(result["protocol"] == CTL2021 for result in results_of(report))


def protocol_name(result: Mapping[str, Any]) -> str:
    """The label of an entry, as :attr:`evaluation.report.Entry.label`."""
    return protocol_label(
        str(result["protocol"]),
        result.get("query_expansion", 0),
        result.get("rerank", False),
        result.get("camera_rule", True),
    )


def result_cells(result: Mapping[str, Any]) -> list[str]:
    """The cells of one entry under :data:`COLUMNS`; a figure that is absent is a dash."""
    cmc = result.get("cmc", {})
    figures = (result.get("mAP"), result.get("mINP"), *(cmc.get(rank) for rank in ("1", "5", "10")))
    return [
        protocol_name(result),
        f"x{result['query_scale']}",
        f"x{result['gallery_scale']}",
        *(percent(figure) for figure in figures),
        f"{result.get('num_valid_queries', _MISSING)}/{result.get('num_queries', _MISSING)}",
    ]


def verification_rows(verification: Mapping[str, Any]) -> Iterator[list[str]]:
    """The rows under :data:`VERIFICATION_COLUMNS`, the highest false positive rate first."""
    rates, thresholds = verification.get("tpr_at_fpr", {}), verification.get("threshold_at_fpr", {})
    for key in sorted({*rates, *thresholds}, key=float, reverse=True):
        threshold = thresholds.get(key)
        shown = _MISSING if threshold is None else f"{threshold:.4f}"
        yield [f"{100 * float(key):g}", percent(rates.get(key)), shown]


def verification_summary(verification: Mapping[str, Any]) -> str:
    """The equal error rate, and what it was measured on as far as the report knows."""
    scope = []
    if "query_scale" in verification:
        scope.append(f"queries x{verification['query_scale']}, gallery x{verification['gallery_scale']}")
    if "num_positive" in verification:
        positive, negative = verification["num_positive"], verification["num_negative"]
        scope.append(f"{positive:,} pairs of one person, {negative:,} of two")
    measured_on = f" ({'; '.join(scope)})" if scope else ""
    return f"Equal error rate: {percent(verification.get('equal_error_rate'))} %{measured_on}"


def percent(rate: float | None) -> str:
    """A rate in [0, 1] in percent with two decimals, or a dash."""
    return _MISSING if rate is None else f"{100 * rate:.2f}"


def _table(columns: Sequence[str], rows: Iterable[list[str]], num_text: int) -> list[str]:
    rule = ["---" if number < num_text else "---:" for number in range(len(columns))]
    body = [[_escaped(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in (list(columns), rule, *body)]


def _escaped(text: str) -> str:
    """Text in which no character has a meaning to Markdown, on one line."""
    return _MARKDOWN_SIGNS.sub(r"\\\1", " ".join(text.split()))
