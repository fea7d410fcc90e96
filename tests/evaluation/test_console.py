import io

import numpy as np
from rich.console import Console

from evaluation.console import tables
from evaluation.ranking import RankingResult
from evaluation.report import Entry, Report, Resolution


def entry(query_scale: int, gallery_scale: int, mean: float, protocol: str = "instance", **how: object) -> Entry:
    cmc = dict.fromkeys((1, 5, 10, 20, 50), 1.0) | {1: mean / 2}
    result = RankingResult(mean, 0.05, cmc, np.ones(3), np.ones(3, int), 11659, 11659, 82161)
    return Entry(protocol, query_scale, gallery_scale, False, result, **how)


def shown(report: Report, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    for table in tables(report):
        console.print(table)
    return console.file.getvalue()


def test_figures_are_never_cut_however_long_a_name() -> None:
    longest = entry(16, 16, 1.0, "centroid_ctl2021", camera_rule=False, expansion=5)
    text = shown(Report("shop", "a.pth", (longest,)))
    assert "…" not in text
    assert {"x16/x16", "100.00", "5.00", "50.00", "11659/11659"} <= set(text.split())
    assert "instance (all cameras)" in shown(
        Report("shop", "a.pth", (entry(1, 1, 0.5, camera_rule=False),)), width=100
    )


def test_pixels_of_each_resolution_are_told() -> None:
    sizes = (Resolution(1, 256, 128, "online"), Resolution(4, 32, 16, "disk"))
    assert "x1 256x128, x4 32x16 (files)" in shown(Report("shop", "a.pth", (entry(4, 1, 0.5),), resolutions=sizes))


def test_crossed_resolutions_make_a_matrix() -> None:
    crossed = tuple(entry(q, g, q / 10 + g / 100) for q in (1, 4) for g in (1, 2, 4))
    lines = [line.split() for line in shown(Report("shop", "a.pth", crossed)).splitlines()]
    assert ["x4", "41.00", "/", "20.50", "42.00", "/", "21.00", "44.00", "/", "22.00"] in lines
    both = tuple(entry(scale, scale, 0.5) for scale in (1, 2, 4))
    assert "gallery x" not in shown(Report("shop", "a.pth", both))
