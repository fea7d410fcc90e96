"""The page that goes with weights to hand on: what they are, how they were measured, how to use them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from configs import read_config
from datasets.readers import READERS
from engine.checkpoint import RunCard
from engine.model import TrainedModel
from engine.weights import images_in_words
from evaluation.report import tables
from evaluation.results import FIGURES, EvaluationProtocol
from evaluation.thresholds import Thresholds
from utils.errors import ReidError, one_line

_TEMPLATE = "model_card.md.j2"


def model_card(model: TrainedModel, card: RunCard) -> str:
    """The page as Markdown, with the metadata that the Hugging Face Hub reads at its top.

    Args:
        model: with the report of its test, if there is one.
        card: of its run.

    Raises:
        ReidError: if the report is damaged.
    """
    loader = FileSystemLoader(Path(__file__).parent)
    page = Environment(  # no HTML: the filter escapes what is of others
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    page.filters["text"] = lambda value: tables.escape(str(value))
    text = page.get_template(_TEMPLATE).render(
        card=card,
        config=read_config(card.config, lenient=True),
        images=images_in_words(model.preprocessing),
        dim=model.network.dim,
        millions=sum(tensor.numel() for tensor in model.network.parameters()) / 1e6,
        sha256=model.sha256,
        test_data=_test_data(str(model.report.get("dataset", card.dataset))),
        **_results(model.report),
    )
    return text.encode("utf-8", "replace").decode()  # names may hold any byte


def _test_data(dataset: str) -> str:
    """The name of a data set as a word of a command; that of a folder leads nowhere on another machine."""
    return dataset if dataset in READERS else "DATA"


def _results(report: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a report as Markdown; empty where it has none.

    Raises:
        ReidError: if the report is damaged.
    """
    try:
        rows = report.get("results", [])
        names = {str(row["protocol"]) for row in rows}
        return {
            "dataset": str(report.get("dataset", "")),
            "figures": _figures(rows) if rows else "",
            "notes": [note for name, note in tables.NOTES.items() if name in names],
            "verification": _verification(report),
            "thresholds": Thresholds.of_report(report),
        }
    except (ReidError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReidError(
            f"the report must be one of test.py, but is damaged ({type(error).__name__}: {one_line(error)[:100]}); "
            "test again"
        ) from error


def _figures(rows: list[Mapping[str, Any]]) -> str:
    """A table with a row for each evaluation, in percent."""
    columns = ["data set", *tables.result_columns()]
    cells = []
    for row in rows:
        protocol = EvaluationProtocol.from_dict(row)
        numbers = [tables.percent(float(row[name])) if name in row else "" for name in FIGURES]
        queries = f"{int(row['num_valid_queries'])}/{int(row['num_queries'])}"
        scales = [f"x{protocol.query_scale}", f"x{protocol.gallery_scale}"]
        cells.append([str(row["dataset"]), protocol.label, *scales, *numbers, queries])
    return "\n".join(tables.markdown_rows(columns, cells, tables.NUM_TEXT_COLUMNS + 1))


def _verification(report: Mapping[str, Any]) -> str:
    """A table of the thresholds, a row for each false positive rate that could be measured."""
    entry = report.get("verification", {"threshold_at_fpr": {}})
    cells = [
        [f"{100 * float(fpr):g}", tables.percent(float(entry["tpr_at_fpr"][fpr])), f"{float(threshold):.4f}"]
        for fpr, threshold in entry["threshold_at_fpr"].items()
        if threshold is not None
    ]
    return "\n".join(tables.markdown_rows(tables.VERIFICATION_COLUMNS, cells, 0)) if cells else ""
