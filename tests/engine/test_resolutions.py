"""Which resolutions are embedded, validated and tested, end to end."""

import csv
from pathlib import Path

import pytest
import torch

from engine import run
from engine.builders.evaluation import evaluation_pairs
from engine.cli import parse
from engine.methods import OCTUPLET
from modelling.network import ReidNetwork
from tests.support import fit
from utils.errors import ReidError


@pytest.fixture
def checkpoint(tiny_arguments: list[str]) -> Path:
    return fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "1").folder / "0_last.pth"


def settings_of(arguments: list[str], checkpoint: Path, *more: str) -> object:
    return parse([*arguments, "MODEL.PRETRAIN_PATH", str(checkpoint), *more])


def test_each_side_is_embedded_only_at_its_own_scales(
    tiny_arguments: list[str], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded, plain = [], ReidNetwork.forward

    def spy(self: ReidNetwork, images: torch.Tensor) -> object:
        embedded.append(len(images))
        return plain(self, images)

    monkeypatch.setattr(ReidNetwork, "forward", spy)
    settings = settings_of(tiny_arguments, checkpoint, "TEST.SCALES", "[1, 2, 4]", "TEST.SCALE_PAIRS", "all")
    (full,) = run.evaluate(settings)
    queries, gallery = full.entries[0].result.num_queries, full.entries[0].result.num_gallery
    assert sum(embedded) == 3 * (queries + gallery)
    for pairs, count in (("query", 3 * queries + gallery), ("gallery", queries + 3 * gallery)):
        embedded.clear()
        settings = settings_of(tiny_arguments, checkpoint, "TEST.SCALES", "[4, 2, 1]", "TEST.SCALE_PAIRS", pairs)
        (report,) = run.evaluate(settings)
        assert sum(embedded) == count
        everywhere = {entry.name: entry.result.mAP for entry in full.entries}
        assert all(entry.result.mAP == pytest.approx(everywhere[entry.name]) for entry in report.entries)


def test_validation_of_twins_asks_for_low_queries_first_and_for_nothing_twice(
    tiny_arguments: list[str], checkpoint: Path
) -> None:
    settings = settings_of(tiny_arguments, checkpoint, "INPUT.LR_SCALES", "[1, 2]", "SOLVER.MAX_EPOCHS", "1")
    trained = run.fit(OCTUPLET, settings)
    assert [entry.protocol.scales for entry in trained.last] == [(2, 1), (2, 2), (1, 1)]
    row = list(csv.DictReader((trained.folder / "metrics.csv").open()))[-1]
    full = next(entry for entry in trained.last if entry.protocol.query_scale == 1)
    assert float(row["val/mAP instance x1 -> x1"]) == pytest.approx(full.result.mAP, rel=1e-4)


def test_a_checkpoint_knows_the_scales_it_was_trained_at(
    tiny_arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    trained = fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "1", "INPUT.LR_SCALES", "[2, 4]")
    path = trained.folder / "0_last.pth"
    run.evaluate(settings_of(tiny_arguments, path, "INPUT.SCALE", "4"))
    assert "was trained at" not in caplog.text
    run.evaluate(settings_of(tiny_arguments, path))
    assert "the model was trained at x4 (--scale 4 uses it there)" in caplog.text


def test_two_keys_for_one_thing_are_refused() -> None:
    given = parse(["--scale", "2", "TEST.SCALES", "[1, 4]"])
    with pytest.raises(ReidError, match=r"a test takes --scale or TEST.SCALES, got 2 and \[1, 4\]; leave one out"):
        evaluation_pairs(given.cfg)
    repeated = parse(["TEST.SCALES", "[4, 4, 1]"])
    assert evaluation_pairs(repeated.cfg) == [(4, 4), (1, 1)]
