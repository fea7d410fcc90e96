"""The command, from reports on the disk."""

from pathlib import Path

import pytest

from evaluation.compare import main
from evaluation.results import EvaluationProtocol
from snu_reid.__main__ import main as snu_reid
from tests.evaluation.support import RANKS, images, write_test

QUERIES = images(3, 2)


@pytest.fixture
def tests(tmp_path: Path) -> list[str]:
    """Two seeds of one setting, and one of another."""
    folders = []
    for rate, seed, ranks in ((0.1, 0, RANKS), (0.1, 1, [1, 1, 2, 0, 3, 1]), (0.2, 0, [1, 9, 9, 0, 9, 9])):
        folders.append(tmp_path / f"lr{rate}_{seed}")
        write_test(folders[-1], ranks, QUERIES, {"SOLVER.BASE_LR": rate, "REPRODUCIBLE_SEED": seed})
    return list(map(str, folders))


def test_folders_and_reports_become_tables(
    tests: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "new" / f"table{ending}" for ending in (".tex", ".md", ".CSV")]
    words = [tests[0], f"{tests[1]}/report.json", tests[2], "--resamples", "100", "--out", *map(str, files)]
    (comparison,) = main([*words, "--names", "low", "high", "--seed", "3"])
    assert [(group.name, len(group.runs)) for group in comparison.groups] == [("low", 2), ("high", 1)]
    assert comparison.resamples == 100
    shown = capsys.readouterr().out
    for text in (
        "high - low",
        "SOLVER.BASE_LR: low 0.1, high 0.2",
        f"low: {tests[1]}/report.json, seed 1, of best.pth",
    ):
        assert text in shown
    tex, table, lines = (file.read_text() for file in files)
    assert r"\toprule" in tex
    assert "| low | 2 |" in table
    assert lines.count("\n") == 1 + 3 * 5
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"table.tex", "table.md", "table.CSV"}


def test_the_seed_decides_the_draws(tests: list[str]) -> None:
    words = [*tests[::2], "--resamples", "100"]
    again = [main([*words, "--seed", seed])[0].differences[0].figures for seed in ("0", "0", "1")]
    assert again[0] == again[1] != again[2]


def test_each_data_set_and_each_row_has_its_tables(tmp_path: Path) -> None:
    rows = [EvaluationProtocol(), EvaluationProtocol("centroid")]
    folders = [tmp_path / f"{model}_{name}" for model in "ab" for name in ("toy", "yard")]
    for folder in folders:
        write_test(folder, RANKS, QUERIES, protocols=rows, dataset=folder.name[2:])
    words = [*map(str, folders), "--resamples", "100"]
    assert [(each.dataset, len(each.groups)) for each in main(words)] == [("toy", 2), ("yard", 2)]
    tables = main([*words, "--row", "instance x1 x1", "--row", "centroid x1 -> x1"])
    names = ("instance x1 -> x1", "centroid x1 -> x1")
    assert [(each.dataset, each.row) for each in tables] == [(d, row) for row in names for d in ("toy", "yard")]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--out", "a.pdf"], "the ending of --out a.pdf must be one of .tex, .md, .csv, got '.pdf'"),
        (["--out", "x.md", "x.md"], "--out must be new files, got x.md"),
        (["--out", __file__.replace(".py", ".md"), "{old}"], "--out must be new files, got {old}"),
        (["--row", "instance x8 x8"], "--row must be a row of"),
        (["--resamples", "9"], "--resamples: must be a whole number from 100"),
        (["--seed", "-1"], "--seed: must be a whole number from 0"),
        (["--ignore", "SOLVER.LR"], "--ignore must be a setting that a report has, got SOLVER.LR"),
        (["--names", "a"], "--names must be a name of its own for each of 2 groups"),
        (["nowhere"], "unrecognized arguments: nowhere"),
    ],
)
def test_a_mistake_is_one_line(
    tests: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    old = tmp_path / "old.tex"
    old.write_text("precious")
    with pytest.raises(SystemExit, match="2"):
        main(
            [*tests, *(word.format(old=old) for word in more)]
            if more != ["nowhere"]
            else ["--seed", "1", *tests, *more]
        )
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message.format(old=old) in lines[0] or "does not exist" in lines[0]
    assert old.read_text() == "precious"


def test_unlike_reports_are_one_line(tests: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_test(tmp_path / "other", RANKS, QUERIES, num_gallery=7)
    assert snu_reid(["compare", *tests]) == 0
    assert "instance x1 -> x1" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        snu_reid(["compare", tests[0], str(tmp_path / "other")])
    assert "differ in the gallery" in capsys.readouterr().err
