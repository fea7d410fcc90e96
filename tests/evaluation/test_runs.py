import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.query_expansion import QueryExpansion
from evaluation.report.queries import QUERIES
from evaluation.report.write import write_summary
from evaluation.rerank import Reciprocal
from evaluation.results import Entry, EvaluationProtocol, Report, Resolution
from evaluation.runs import PER_QUERY, Run, check_alike, differing_settings, group_runs, read_runs
from tests.evaluation.support import RANKS, images, result_of, run_at, write_test
from utils.errors import ReidError

PLAIN = EvaluationProtocol()
QUERY_IMAGES = images(3, 2)


def seeds(folder: Path, **settings: object) -> list[Run]:
    """Three runs of one setting."""
    name = "_".join(map(str, settings.values()))
    return [run_at(folder / f"{name}{seed}", {**settings, "REPRODUCIBLE_SEED": seed}) for seed in (0, 1, 2)]


def test_a_run_has_the_values_of_the_queries_with_a_match(tmp_path: Path) -> None:
    path = write_test(tmp_path / "a", RANKS, QUERY_IMAGES, {"REPRODUCIBLE_SEED": 3})
    (run,) = read_runs(tmp_path / "a")
    assert run.path == path
    assert (run.dataset, run.protocol, run.checkpoint, run.seed) == ("toy", PLAIN, "best.pth", 3)
    assert (run.num_gallery, run.pixels) == (100, "x1 256x128")
    assert list(PER_QUERY) == ["mAP", "mINP", "rank-1", "rank-5", "rank-10"]
    expected = [[1 / rank, 1 / rank, rank <= 1, rank <= 5, rank <= 10] for rank in RANKS if rank]
    np.testing.assert_array_equal(run.values(), expected)
    assert run.identities().tolist() == [1, 1, 2, 3, 3]
    report = json.loads(path.read_text())["results"][0]
    np.testing.assert_allclose(run.values().mean(0), [report[name] for name in PER_QUERY], atol=1e-15)


def test_the_row_is_plain_instance_retrieval_or_the_one_of_the_user(tmp_path: Path) -> None:
    rows = [
        EvaluationProtocol("centroid"),
        EvaluationProtocol(rerank=Reciprocal(5, 2, 0.3)),
        EvaluationProtocol(expansion=QueryExpansion(2, 1.0)),
        EvaluationProtocol("instance", 4, 1),
        PLAIN,
    ]
    path = write_test(tmp_path, RANKS, QUERY_IMAGES, protocols=rows)
    assert read_runs(path)[0].protocol == rows[3]
    assert read_runs(path, "instance x1 -> x1")[0].protocol == PLAIN
    assert read_runs(path, "instance  x1 x1")[0].protocol == PLAIN
    assert read_runs(path, "instance +rerank x1 x1")[0].protocol == rows[1]
    with pytest.raises(
        ReidError, match=r"--row must be a row of .*\(centroid x1 -> x1; .*\), got 'instanz x1 -> x1'"
    ):
        read_runs(path, "instanz x1 -> x1")
    path = write_test(tmp_path / "b", RANKS, QUERY_IMAGES, protocols=rows[:2])
    with pytest.raises(ReidError, match="got none of plain instance retrieval"):
        read_runs(path)


def test_a_summary_of_several_sets_is_a_run_for_each(tmp_path: Path) -> None:
    reports = [Report(name, "a.pth", (Entry(PLAIN, result_of(RANKS)),)) for name in ("toy", "yard")]
    write_summary(tmp_path, reports)
    for report in reports:
        write_test(tmp_path / report.dataset, RANKS, QUERY_IMAGES, dataset=report.dataset)
    assert [run.dataset for run in read_runs(tmp_path)] == ["toy", "yard"]
    (tmp_path / "yard/report.json").unlink()
    with pytest.raises(ReidError, match=r"yard/report\.json must be a report\.json .* does not exist"):
        read_runs(tmp_path)


def test_a_summary_that_names_itself(tmp_path: Path) -> None:
    write_summary(tmp_path, [Report(name, "a.pth", (Entry(PLAIN, result_of(RANKS)),)) for name in (".", "toy")])
    with pytest.raises(ReidError, match="test the weights again"):
        read_runs(tmp_path)


def test_reports_that_cannot_be_compared(tmp_path: Path) -> None:
    path = write_test(tmp_path, RANKS, QUERY_IMAGES)
    content = json.loads(path.read_text())
    (tmp_path / QUERIES).rename(tmp_path / "aside")
    with pytest.raises(ReidError, match=r"queries\.csv must lie beside its report"):
        read_runs(path)
    (tmp_path / "aside").rename(tmp_path / QUERIES)
    content["results"][0]["mAP"] += 1e-6
    path.write_text(json.dumps(content))
    with pytest.raises(ReidError, match=r"queries\.csv beside it must be of one test, but differ"):
        read_runs(path)
    for damage in ({"results": [{"protocol": "instance"}]}, {"dataset": None, "results": [1]}, {"resolutions": 3}):
        path.write_text(json.dumps({**json.loads(write_test(tmp_path, RANKS, QUERY_IMAGES).read_text()), **damage}))
        with pytest.raises(ReidError, match="damaged or of an earlier version"):
            read_runs(path)


def test_seeds_of_a_setting_are_a_group(tmp_path: Path) -> None:
    a, b = seeds(tmp_path, LR=0.1, epoch="best"), seeds(tmp_path, LR=0.2, epoch="best")
    groups, notes = group_runs([a[0], b[0], b[1], a[1], b[2], a[2]])
    assert groups == [a, b]
    assert notes == []
    assert differing_settings([group[0] for group in groups]) == {"LR": (0.1, 0.2)}
    assert [len(group) for group in group_runs([*a, *b[:1]], ignore=["LR"])[0]] == [1] * 4  # seed 0 is there twice
    (mixed,), (note,) = group_runs([*a[:2], b[2]], ignore=["LR"])
    assert mixed == [*a[:2], b[2]]
    assert note == "not compared, and perhaps different within a group: LR."
    assert differing_settings([a[0], b[0]], ignore=["LR"]) == {}
    assert len(group_runs([*a[:2], b[2]], ignore=["LR", "epoch"])[0]) == 1


def test_one_seed_twice_is_no_group(tmp_path: Path) -> None:
    twice = [run_at(tmp_path / name, {"LR": 0.1, "REPRODUCIBLE_SEED": 0}) for name in ("a", "b")]
    groups, (note,) = group_runs(twice)
    assert groups == [[twice[0]], [twice[1]]]
    assert f"{tmp_path}/a/report.json, {tmp_path}/b/report.json have the same settings" in note


def test_other_pixels_are_another_setting(tmp_path: Path) -> None:
    small, large = (
        run_at(
            tmp_path / str(height), {"REPRODUCIBLE_SEED": height}, resolutions=(Resolution(1, height, 128, "online"),)
        )
        for height in (256, 384)
    )
    assert group_runs([small, large])[0] == [[small], [large]]
    assert differing_settings([small, large]) == {"pixels": ("x1 256x128", "x1 384x128")}


def test_reports_without_settings_stand_alone(tmp_path: Path) -> None:
    unknown = [run_at(tmp_path / name) for name in ("a", "b")]
    known = run_at(tmp_path / "c", {"LR": 0.1, "EXTRA": 1})
    groups, (note,) = group_runs([*unknown, known])
    assert groups == [[unknown[0]], [unknown[1]], [known]]
    assert "reports without settings" in note
    assert differing_settings([*unknown, known]) == {}
    other = run_at(tmp_path / "d", {"LR": 0.2})
    assert differing_settings([unknown[0], known, other]) == {"LR": (None, 0.1, 0.2), "EXTRA": (None, 1, None)}


def test_an_unknown_setting_to_ignore(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"--ignore must be a setting that a report has, got LRR; did you mean LR\?"):
        group_runs([run_at(tmp_path, {"LR": 0.1})], ignore=["LRR"])


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"dataset": "yard"}, r"the data set \(toy, yard\)"),
        ({"protocols": [EvaluationProtocol(query_scale=4)]}, r"\(instance x1 -> x1, instance x4 -> x1\).*--row"),
        ({"protocols": [EvaluationProtocol(camera_rule=False)]}, r"instance \(all cameras\) x1 -> x1"),
        ({"protocols": [EvaluationProtocol(flip=True)]}, r"instance \+flip x1 -> x1"),
        ({"queries": images(6, 1)}, "their queries"),
        ({"queries": images(3, 2)[:5], "ranks": RANKS[:5]}, r"their queries \(6 and 5"),
        ({"num_gallery": 101}, "the gallery"),
        ({"ranks": [1, 2, 6, 1, 30, 1]}, "the gallery"),  # a query has a match that it had not
    ],
)
def test_unlike_tests_are_refused(tmp_path: Path, other: dict[str, Any], difference: str) -> None:
    first = run_at(tmp_path / "a")
    check_alike([first, run_at(tmp_path / "same", ranks=[9, 9, 9, 0, 9, 9], queries=images(3, 2, "elsewhere/toy"))])
    with pytest.raises(ReidError, match=rf"a/report\.json and .*b/report\.json differ in .*{difference}"):
        check_alike([first, run_at(tmp_path / "b", **other)])


def test_other_parameters_of_one_label_are_refused(tmp_path: Path) -> None:
    rows = [EvaluationProtocol(rerank=Reciprocal(k1, 2, 0.3)) for k1 in (5, 6)]
    paths = [write_test(tmp_path / str(row.rerank), RANKS, QUERY_IMAGES, protocols=[row]) for row in rows]
    runs = [run for path in paths for run in read_runs(path, "instance +rerank x1 x1")]
    with pytest.raises(ReidError, match=r"the protocol \(\{'k1': 5.*\}, \{'k1': 6"):
        check_alike(runs)
