import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from evaluation.ranking import RankingResult
from evaluation.report.html import Picture, write_html
from evaluation.results import Entry, EvaluationProtocol, Report, Resolution, VerificationEntry
from evaluation.verification import VerificationCurve

VOID = {"meta", "img"}
NASTY = "<script>alert('1')</script> \"& .jpg"


def entry(protocol: str, query_scale: int, gallery_scale: int, value: float) -> Entry:
    cmc = {1: value + 0.1, 5: 0.9, 10: 0.95}
    result = RankingResult(value, 0.1, cmc, *[np.ones(12)] * 2, *[np.ones(12, int)] * 2, 12, 10, 100)
    return Entry(EvaluationProtocol(protocol, query_scale, gallery_scale), result)


def report(*entries: Entry, **more: object) -> Report:
    return Report(**{"dataset": "market1501", "checkpoint": "logs/exp1/120.pth", "entries": entries, **more})


class Page(HTMLParser):
    """Reads a page, checks that its tags are balanced, and keeps what a test asks for."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.cells: list[tuple[str, str]] = []
        self.feed(self.source)
        self.close()
        assert self.open == []
        self.text = " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data.strip())
        if self.open and self.open[-1] == "td":
            self.cells.append((data, dict(self.tags[-1][1]).get("style") or ""))


def red_green_blue(style: str) -> int:
    """Sum of the three channels of a cell's background."""
    return sum(map(int, re.findall(r"\d+", style.split(";")[0])))


def page(tmp_path: Path, content: Report, *pictures: Picture, plots: tuple[Picture, ...] = ()) -> Page:
    write_html(tmp_path / "report.html", content, pictures, plots=plots)
    return Page(tmp_path / "report.html")


def test_says_what_was_evaluated_and_what_came_out(tmp_path: Path) -> None:
    html = page(tmp_path, report(entry("instance", 1, 1, 0.5)))
    assert html.source.startswith("<!doctype html>")
    assert "market1501" in html.text
    assert "logs/exp1/120.pth" in html.text
    assert [cell for cell, _ in html.cells] == [
        "instance", "x1", "x1", "50.00", "10.00", "60.00", "90.00", "95.00", "10/12",
    ]  # fmt: skip
    for absent in ("Across resolutions", "Verification", "Curves", "Ranked lists", "camera index"):
        assert absent not in html.text


def test_pictures_lie_in_the_file_in_their_order(tmp_path: Path) -> None:
    pictures = [Picture(f"list {number}", f"AP {number}", bytes([137, number])) for number in range(3)]
    html = page(tmp_path, report(entry("instance", 1, 1, 0.5)), *pictures, plots=(Picture("CMC", "", b"c"),))
    sources = [attributes["src"] or "" for tag, attributes in html.tags if tag == "img"]
    prefix = "data:image/png;base64,"
    assert all(source.startswith(prefix) for source in sources)
    assert [base64.b64decode(source[len(prefix) :]) for source in sources] == [
        b"c",
        *(picture.png for picture in pictures),
    ]
    for text in ("list 2", "AP 2", "Curves", "Ranked lists"):
        assert text in html.text


def test_lists_say_which_ranking_they_show(tmp_path: Path) -> None:
    write_html(
        tmp_path / "a.html", report(entry("instance", 1, 1, 0.5)), [Picture("worst 1", "", b"x", "a.jpg")], row="R"
    )
    html = Page(tmp_path / "a.html")
    assert "in the ranking of the row R" in html.text
    assert "a.jpg" not in html.text  # it stands on the picture
    assert [attributes["alt"] for tag, attributes in html.tags if tag == "img"] == ["a.jpg"]


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    html = page(tmp_path, report(entry("instance", 1, 1, 0.5)), Picture("a", "b", b"c"))
    assert not re.search(r"https?:|//|url\(|@import", html.source.replace("</", "<"))
    assert not {tag for tag, _ in html.tags} & {"script", "link", "iframe", "object", "a"}
    policies = [attributes["content"] for _, attributes in html.tags if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "prefers-color-scheme: dark" in html.source


def test_every_text_is_escaped(tmp_path: Path) -> None:
    entries = entry(NASTY, 1, 1, 0.5), entry(NASTY, 4, 1, 0.5)
    content = report(*entries, dataset=NASTY, checkpoint=NASTY)
    html = page(tmp_path, content, Picture(NASTY, NASTY, b"x"), plots=(Picture(NASTY, NASTY, b"y"),))
    assert "<script" not in html.source
    assert html.text.count(NASTY) == 11  # two titles, two facts, two rows, a heat map, two pictures' two texts
    assert [attributes["alt"] for tag, attributes in html.tags if tag == "img"] == [NASTY, NASTY]


def test_a_name_that_is_no_unicode_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    html = page(tmp_path, report(entry("instance", 1, 1, 0.5)), Picture("a\udcffb", "", b"x"))
    assert "a?b" in html.text


def test_several_resolutions_make_heat_maps(tmp_path: Path) -> None:
    entries = (
        entry("instance", 1, 1, 0.8), entry("instance", 1, 4, 0.6), entry("instance", 4, 1, 0.2),
        entry("centroid", 1, 1, 0.7),
    )  # fmt: skip
    html = page(tmp_path, report(*entries))
    assert html.text.count("mAP in percent") == html.text.count("rank-1 in percent") == 1
    maps = html.cells[4 * 9 :]
    assert [cell for cell, _ in maps] == ["80.00", "60.00", "20.00", "–", "90.00", "70.00", "30.00", "–"]
    darkness = [-red_green_blue(style) for _, style in maps[:3]]
    assert darkness == sorted(darkness, reverse=True)
    assert len(set(darkness)) == 3
    assert maps[3][1] == ""
    assert maps[0][1].endswith("color:#fff")
    assert maps[2][1].endswith("color:#111")


def test_a_small_difference_does_not_look_large(tmp_path: Path) -> None:
    html = page(tmp_path, report(entry("instance", 1, 1, 0.8), entry("instance", 4, 1, 0.799)))
    colors = [red_green_blue(style) for _, style in html.cells[2 * 9 : 2 * 9 + 2]]
    assert abs(colors[0] - colors[1]) < 20


def test_the_published_procedure_never_stands_without_its_note(tmp_path: Path) -> None:
    html = page(tmp_path, report(entry("instance", 1, 1, 0.5), entry("centroid_ctl2021", 1, 1, 0.9)))
    assert "the published procedure of 2021 with its wrong camera index" in html.text
    assert "not comparable to instance figures" in html.text


def test_verification_is_a_table_of_its_own(tmp_path: Path) -> None:
    curve = VerificationCurve(
        {0.001: 0.75, 0.01: 0.9}, {0.001: 0.3, 0.01: 0.4}, 0.0345, 50, 5000, np.zeros(1), np.zeros(1)
    )
    verification = VerificationEntry(1, 1, True, 0.01, curve)
    html = page(tmp_path, report(entry("instance", 1, 1, 0.5), verification=verification))
    assert [cell for cell, _ in html.cells[9:]] == ["1", "90.00", "0.4000", "0.1", "75.00", "0.3000"]
    assert "Equal error rate: 3.45 %" in html.text


def test_pixels_of_each_resolution_are_told(tmp_path: Path) -> None:
    html = page(tmp_path, report(entry("instance", 4, 1, 0.5), resolutions=(Resolution(4, 32, 16, "disk"),)))
    assert "x4 = 32x16 (files, median)" in html.text
