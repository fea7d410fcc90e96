"""Curves of an evaluation as PNG files: CMC and ROC."""

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from evaluation.ranking import CMC_RANKS
from evaluation.verification import FALSE_POSITIVE_RATES, VerificationCurve
from utils.errors import ReidError

logger = logging.getLogger(__name__)

FONTS = (
    "DejaVu Sans", "Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans KR", "NanumGothic", "Malgun Gothic",
    "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "PingFang SC",
)  # fmt: skip
"""Matplotlib's own font, then those in which Linux, Windows and macOS show Chinese, Japanese and Korean names."""
# Okabe and Ito, Color Universal Design (2008), without its yellow, which is too pale for a line on white.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_SIZE, _DOTS_PER_INCH = (6.4, 4.0), 110
_LINE_HEIGHT = 0.18  # inches, of the legend
_LOWEST_RATE = 1e-6


def cmc_plot(curves: Mapping[str, Mapping[int, float]]) -> bytes:
    """Cumulative matching characteristic: the share of queries with a match among the first k.

    Args:
        curves: name -> {k: share in [0, 1]}, as :meth:`evaluation.ranking.RankingResult.curve` gives them.

    Returns:
        The content of a PNG file.

    Raises:
        ReidError: if there is no curve, or one without a point.
    """
    _check_curves(curves)
    figure, axes = _axes("Cumulative matching characteristic", "rank k", "queries with a match up to rank k [%]")
    handles: list[Line2D] = []
    last = max(rank for curve in curves.values() for rank in curve)
    ticks = sorted({*(rank for rank in CMC_RANKS if rank < last), last})
    for number, curve in enumerate(curves.values()):
        ranks = sorted(curve)
        shares = [100 * curve[rank] for rank in ranks]
        marked = [place for place, rank in enumerate(ranks) if rank in ticks]
        marker = _MARKERS[number % len(_MARKERS)]
        handles += axes.plot(ranks, shares, marker=marker, markevery=marked, **_style(number))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    lowest = min(share for curve in curves.values() for share in curve.values())
    axes.set_ylim(max(0.0, 10 * np.floor(10 * lowest - 0.5)), 101.0)
    _legend(figure, handles, list(curves))
    return _png(figure)


def roc_plot(results: Mapping[str, VerificationCurve]) -> bytes:
    """Receiver operating characteristic over a logarithmic false positive rate.

    A dot marks the equal error rate. The legend shows it, and the true positive rates at false positive rates of
    0.01, 0.001 and 0.0001 that the result holds.

    Args:
        results: name -> verification result.

    Returns:
        The content of a PNG file.

    Raises:
        ReidError: if there is no result.
    """
    _check_curves(results)
    figure, axes = _axes("Receiver operating characteristic", "false positive rate", "true positive rate [%]")
    handles: list[Line2D] = []
    least = min(1 / result.num_negative for result in results.values())
    lowest = max(_LOWEST_RATE, float(10 ** np.floor(np.log10(least))))
    for number, result in enumerate(results.values()):
        # A logarithmic axis has no zero, and a rate below one negative pair cannot be measured.
        is_resolved = result.fpr >= 1 / result.num_negative
        fpr, tpr = result.fpr[is_resolved], 100 * result.tpr[is_resolved]
        handles += axes.step(fpr, tpr, where="post", **_style(number))
        error, color = result.equal_error_rate, _style(number)["color"]
        axes.plot([max(error, lowest)], [100 * (1 - error)], "o", color=color, markeredgecolor="white")
    axes.set_xscale("log")
    axes.set_xlim(lowest, 1.0)
    axes.set_ylim(0.0, 101.0)
    labels = [_roc_label(name, result) for name, result in results.items()]
    _legend(figure, handles, labels, title="dot: equal error rate (EER)")
    return _png(figure)


def _roc_label(name: str, result: VerificationCurve) -> str:
    rates = [rate for rate in FALSE_POSITIVE_RATES if rate in result.tpr_at_fpr]
    label = f"{name}: EER {100 * result.equal_error_rate:.2f} %"
    if not rates:
        return label
    values = " / ".join(f"{100 * result.tpr_at_fpr[rate]:.1f}" for rate in rates)
    return f"{label}\nTPR {values} % at FPR {' / '.join(f'{rate:g}' for rate in rates)}"


def _axes(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """A separate figure: pyplot would share its state with other code of the process that draws."""
    figure = Figure(figsize=_SIZE, dpi=_DOTS_PER_INCH, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(visible=True, color="#d0d0d0", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _style(number: int) -> dict[str, Any]:
    color, dash = _COLORS[number % len(_COLORS)], _DASHES[number % len(_DASHES)]
    return {"color": color, "linestyle": dash, "linewidth": 1.8}


def _legend(figure: Figure, handles: list[Line2D], labels: list[str], title: str | None = None) -> None:
    """A legend below the axes, where it hides no curve; the figure grows by its height."""
    # A name may hold any byte, and a dollar sign starts a formula.
    plain = [label.encode("utf-8", "replace").decode().replace("$", r"\$") for label in labels]
    num_lines = sum(label.count("\n") + 1 for label in labels)
    width, height = _SIZE
    figure.set_size_inches(width, height + _LINE_HEIGHT * (num_lines + 1))
    font = {"family": _available_fonts(FONTS), "size": "small"}
    figure.legend(handles, plain, title=title, loc="outside lower center", prop=font, title_fontsize="small")


def _available_fonts(fonts: Sequence[str]) -> list[str]:
    """The fonts that this machine has: matplotlib warns of each of the others."""
    names = {font.name for font in fontManager.ttflist}
    return [name for name in fonts if name in names]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(record=True) as missing:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", message="Glyph .* missing")
        figure.savefig(buffer, format="png", metadata={"Software": None})
    if missing:
        logger.warning("no font here shows all letters of a plot's names; install one, e.g. Noto Sans CJK")
    return buffer.getvalue()


def _check_curves(curves: Mapping[str, object]) -> None:
    empty = [name for name, curve in curves.items() if isinstance(curve, Mapping) and not curve]
    if not curves or empty:
        problem = f"no point in {', '.join(empty)}" if empty else "none"
        raise ReidError(
            f"curves must hold one curve or more, each with a point, got {problem}; plot the results of an evaluation"
        )
