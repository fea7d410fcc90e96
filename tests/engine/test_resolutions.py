"""Which resolutions are embedded, validated and tested, end to end."""

from pathlib import Path

import pytest
import torch

from engine.builders.evaluation import evaluation_pairs
from engine.callbacks.epoch_log import read_metrics
from engine.cli import parse
from engine.methods import OCTUPLET
from modelling.deployment import Embedder
from tests.engine.support import ONE_EPOCH, evaluate
from tests.support import fit
from utils.errors import ReidError


def test_each_side_is_embedded_only_at_its_own_scales(
    tiny_arguments: list[str], tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_sizes, plain = [], Embedder.__call__

    def spy(self: Embedder, images: torch.Tensor, cameras: torch.Tensor | None = None) -> object:
        batch_sizes.append(len(images))
        return plain(self, images, cameras)

    monkeypatch.setattr(Embedder, "__call__", spy)
    use = [*tiny_arguments, "MODEL.PRETRAIN_PATH", str(tiny_checkpoint)]
    full = evaluate(use, "TEST.SCALES", "[1, 2, 4]", "TEST.SCALE_PAIRS", "all")
    queries, gallery = full.entries[0].result.num_queries, full.entries[0].result.num_gallery
    assert sum(batch_sizes) == 3 * (queries + gallery)
    for pairs, count in (("query", 3 * queries + gallery), ("gallery", queries + 3 * gallery)):
        batch_sizes.clear()
        report = evaluate(use, "TEST.SCALES", "[4, 2, 1]", "TEST.SCALE_PAIRS", pairs)
        assert sum(batch_sizes) == count
        everywhere = {entry.name: entry.result.mAP for entry in full.entries}
        assert all(entry.result.mAP == pytest.approx(everywhere[entry.name]) for entry in report.entries)


def test_validation_of_twins_asks_for_low_queries_first_nothing_twice(
    tiny_arguments: list[str], tiny_checkpoint: Path
) -> None:
    options = ("MODEL.PRETRAIN_PATH", str(tiny_checkpoint), "INPUT.LR_SCALES", "[1, 2]", *ONE_EPOCH)
    result = fit(tiny_arguments, *options, method=OCTUPLET)
    assert [entry.protocol.scales for entry in result.last] == [(2, 1), (2, 2), (1, 1)]
    (row,) = read_metrics(result.folder / "metrics.csv")
    full = result.last[2]
    assert float(row["val/mAP instance x1 -> x1"]) == pytest.approx(full.result.mAP, rel=1e-4)


def test_a_checkpoint_knows_the_scales_it_was_trained_at(
    tiny_arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = fit(tiny_arguments, *ONE_EPOCH, "INPUT.LR_SCALES", "[2, 4]").folder / "0_last.pth"
    use = [*tiny_arguments, "MODEL.PRETRAIN_PATH", str(path)]
    evaluate(use, "INPUT.SCALE", "4")
    assert "was trained at" not in caplog.text
    evaluate(use)
    assert "the model was trained at x4 (--scale 4 uses it there)" in caplog.text


def test_two_keys_for_one_thing_are_refused() -> None:
    both = parse(["--scale", "2", "TEST.SCALES", "[1, 4]"])
    with pytest.raises(ReidError, match=r"a test takes --scale or TEST.SCALES, got 2 and \[1, 4\]; leave one out"):
        evaluation_pairs(both.cfg)


@pytest.mark.parametrize(
    ("sides", "pairs"),
    [
        ("both", [(1, 1), (4, 4), (2, 2)]),
        ("query", [(1, 1), (4, 1), (2, 1)]),
        ("gallery", [(1, 1), (1, 4), (1, 2)]),
        ("all", [(1, 1), (1, 4), (1, 2), (4, 1), (4, 4), (4, 2), (2, 1), (2, 4), (2, 2)]),
    ],
)
def test_pairs_of_scales(sides: str, pairs: list[tuple[int, int]]) -> None:
    assert evaluation_pairs(parse(["TEST.SCALES", "[1, 4, 4, 2]", "TEST.SCALE_PAIRS", sides]).cfg) == pairs
