import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font

from evaluation.report import plots
from evaluation.report.plots import cmc_plot, roc_plot
from evaluation.retrieval.inputs import Retrieval
from evaluation.verification import VerificationCurve, verification_curve
from tests.support import message_with
from utils.errors import ReidError

CURVES = {"instance x1": {1: 0.5, 5: 0.75, 10: 0.9}, "instance x4": {10: 0.7, 1: 0.25, 5: 0.5}}


def verification(signal: float) -> VerificationCurve:
    rng = np.random.default_rng(0)
    centers, ids = rng.standard_normal((20, 8)), rng.integers(1, 20, 120)
    features = (signal * centers[ids] + rng.standard_normal((120, 8))).astype(np.float32)
    cameras = rng.integers(0, 3, 120)
    return verification_curve(Retrieval.of(features, features, ids, ids, cameras, cameras))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, in order."""
    figures = list[Figure]()

    class Remembered(Figure):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            figures.append(self)

    monkeypatch.setattr(plots, "Figure", Remembered)
    return figures


def size(png: bytes) -> tuple[int, ...]:
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture.min() < 50
    assert picture.max() == 255
    return picture.shape


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_cmc_shows_each_curve_by_ascending_rank(figures: list[Figure]) -> None:
    png = cmc_plot(CURVES)
    height, width, _ = size(png)
    assert 300 < height < 1000
    assert 500 < width < 1000
    axes = figures[0].axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[1, 50], [5, 75], [10, 90]],
        [[1, 25], [5, 50], [10, 70]],
    ]
    assert axes.get_xlabel() == "rank k"
    assert "%" in axes.get_ylabel()
    assert axes.get_ylim()[0] <= 25
    assert legend(figures[0]) == list(CURVES)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "5", "10"]
    styles = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.lines}
    assert len({color for color, _, _ in styles}) == len({dash for _, dash, _ in styles}) == 2


def test_a_whole_curve_has_marks_and_ticks_at_the_usual_ranks(figures: list[Figure]) -> None:
    cmc_plot({"whole": {rank: rank / 50 for rank in range(1, 51)}})
    axes = figures[0].axes[0]
    assert len(axes.lines[0].get_xdata()) == 50
    assert [axes.lines[0].get_xdata()[place] for place in axes.lines[0].get_markevery()] == [1, 5, 10, 20, 50]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "5", "10", "20", "50"]


def test_the_same_curves_give_the_same_file() -> None:
    assert cmc_plot(CURVES) == cmc_plot(CURVES)


def test_roc_shows_the_curve_its_equal_error_point_and_its_rates(figures: list[Figure]) -> None:
    result = verification(1.0)
    size(roc_plot({"x1": result}))
    axes = figures[0].axes[0]
    assert axes.get_xscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("false positive rate", "true positive rate [%]")
    curve, point = axes.lines
    assert (curve.get_xdata() > 0).all()
    assert curve.get_xdata()[-1] == 1.0
    for rate, share in zip(curve.get_xdata(), curve.get_ydata(), strict=True):
        assert np.isclose(share / 100, result.tpr[result.fpr == rate]).any()
    error = result.equal_error_rate
    np.testing.assert_allclose(point.get_xydata(), [[error, 100 * (1 - error)]])
    rates = " / ".join(f"{100 * result.tpr_at_fpr[rate]:.1f}" for rate in (1e-2, 1e-3, 1e-4))
    assert f"EER {100 * error:.2f} %\nTPR {rates} % at FPR 0.01 / 0.001 / 0.0001" in legend(figures[0])[0]


def test_a_perfect_model_can_be_drawn(figures: list[Figure]) -> None:
    result = verification(1000.0)
    assert result.equal_error_rate == 0.0
    size(roc_plot({"perfect": result, "random": verification(0.0)}))
    lowest_rate = figures[0].axes[0].get_xlim()[0]
    assert figures[0].axes[0].lines[1].get_xydata().tolist() == [[lowest_rate, 100.0]]


def test_names_are_shown_as_they_are(figures: list[Figure]) -> None:
    cmc_plot({r"$\nosuch$ _a": {1: 0.5}, "_b": {1: 0.4}})
    assert legend(figures[0]) == [r"\$\nosuch\$ _a", "_b"]


def test_letters_that_no_font_shows_are_told_once_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(plots, "FONTS", ("DejaVu Sans", "No Such Font"))
    cmc_plot({"한국어": {1: 0.5}})
    assert caplog.messages == [message_with(caplog, "no font", "install one")]
    caplog.clear()
    cmc_plot(CURVES)
    assert not caplog.records
    assert not recwarn.list


def test_letters_come_from_the_first_font_that_has_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    with_it, without = (
        get_font(fontManager.findfont(name)).get_char_index(ord("〒")) for name in ("STIXGeneral", "DejaVu Sans")
    )
    assert with_it
    assert not without
    monkeypatch.setattr(plots, "FONTS", ("DejaVu Sans", "STIXGeneral"))
    cmc_plot({"〒": {1: 0.5}})
    assert not caplog.records
    assert not recwarn.list


def test_many_curves_leave_the_axes_their_room(figures: list[Figure]) -> None:
    cmc_plot({f"curve {number}": {1: 0.1, 5: 0.2} for number in range(20)})
    cmc_plot(CURVES)
    heights = [figure.axes[0].get_window_extent().height for figure in figures]
    assert heights[0] == pytest.approx(heights[1], rel=0.2)


def test_nothing_to_draw_is_refused() -> None:
    for plot in (cmc_plot, roc_plot):
        with pytest.raises(ReidError, match="curves must hold one curve or more, each with a point, got none"):
            plot({})
    with pytest.raises(ReidError, match="got no point in empty; plot the results"):
        cmc_plot({"empty": {}})
