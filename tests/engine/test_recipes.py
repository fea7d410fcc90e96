"""What the keys of recipes do in a training."""

from pathlib import Path

import pytest
import torch

from engine.builders.model import build_network
from engine.builders.objective import build_objective
from engine.builders.trainer import build_optimizer_config
from engine.methods import BASELINE
from engine.settings import Settings
from evaluation.report.tables import markdown_table
from tests.engine.support import ONE_EPOCH, assert_same_weights, evaluate, resume
from tests.support import fit


def network_of(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)["state_dict"]
    return {name: tensor for name, tensor in state.items() if name.startswith("network.")}


@pytest.mark.parametrize(
    ("frozen", "learns"),
    [
        (("SOLVER.FREEZE_EPOCHS", "1"), False),
        (("SOLVER.FREEZE_ITERATIONS", "99"), False),
        (("SOLVER.FREEZE_EPOCHS", "9", "SOLVER.FREEZE_ITERATIONS", "1"), True),
    ],
)
def test_a_frozen_backbone_stays_as_it_is(
    tiny_arguments: list[str], tiny_checkpoint: Path, frozen: tuple[str, ...], learns: bool
) -> None:
    arguments = [*tiny_arguments, "MODEL.PRETRAIN_PATH", str(tiny_checkpoint), *ONE_EPOCH, *frozen]
    before, after = network_of(tiny_checkpoint), network_of(fit(arguments).folder / "0_last.pth")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("network.head.") for name in changed)
    assert any(name.startswith("network.backbone.") for name in changed) == learns


def test_a_recipe_of_many_keys_trains_and_resumes_exactly(tiny_arguments: list[str]) -> None:
    keys = (
        *("SOLVER.CLASSIFIER", "circle", "SOLVER.SOFT_MARGIN", "True", "SOLVER.METRIC_FEATURE", "bn"),
        *("SOLVER.BIAS_LR_FACTOR", "2", "SOLVER.DECAY_VECTORS", "False", "SOLVER.FREEZE_ITERATIONS", "1"),
        *(
            "SOLVER.WARMUP_ITERATIONS",
            "3",
            "SOLVER.LR_SCHEDULER_NAME",
            "cosine_annealing",
            "SOLVER.DELAY_EPOCHS",
            "1",
        ),
        *("INPUT.RE_VALUE", "noise", "INPUT.COLOR_JITTER_PROB", "0.5", "INPUT.AUTO_AUGMENT_PROB", "0.5"),
        *("INPUT.GRAYSCALE_PROB", "0.2", "INPUT.BLUR_PROB", "0.5", "SOLVER.AVERAGE_DECAY", "0.9"),
        *(
            "SOLVER.TERMS",
            "['identity','weighted_triplet','multi_similarity','circle']",
            "SOLVER.CHECKPOINT_PERIOD",
            "1",
        ),
    )
    whole = fit(tiny_arguments, *keys).folder
    resumed = fit(tiny_arguments, *resume(whole / "0.pth")).folder
    assert_same_weights(whole / "1_last.pth", resumed / "1_last.pth")


@pytest.mark.parametrize(
    ("head", "options", "identity", "metric"),
    [
        ("mgn", ("MODEL.NAME", "resnet18"), [256] * 8, [256] * 3 + [512, 768]),
        ("jpm", ("MODEL.NAME", "vit_tiny"), [192] * 5, [192] * 5),
        ("lmbn", ("MODEL.NAME", "osnet_x0_25"), [512] * 7, [512] * 7),
        ("bnneck", ("MODEL.NAME", "osnet_x0_25"), [128], [128]),
    ],
)
def test_the_parts_of_a_head_have_losses_of_their_own(
    head: str, options: tuple[str, ...], identity: list[int], metric: list[int]
) -> None:
    keys = dict(zip(options[::2], options[1::2], strict=True)) | {"MODEL.HEAD": head, "MODEL.PRETRAINED": False}
    cfg = Settings({}, keys).for_training(BASELINE, None, resume=False)
    network = build_network(cfg)
    objective = build_objective(cfg, 3, network.head)
    classifiers = [tuple(value.shape) for name, value in objective.state_dict().items() if "classifier" in name]
    assert classifiers == [(3, dim) for dim in identity]
    assert [part.stop - part.start for part in network.head.metric_parts] == metric
    assert sum(part.weight for part in network.head.metric_parts) == pytest.approx(1)
    features = torch.randn(6, network.head.dim, requires_grad=True)
    report = objective({"main": {"raw": features, "bn": features}}, torch.tensor([0, 0, 1, 1, 2, 2]))
    report.total.backward()
    assert bool((features.grad != 0).any(0).all())


def test_flipped_vectors_are_labeled_in_each_row(tiny_arguments: list[str], tiny_checkpoint: Path) -> None:
    use = [*tiny_arguments, "MODEL.PRETRAIN_PATH", str(tiny_checkpoint), "TEST.RERANK", "True"]
    report = evaluate([*use, "TEST.FLIP", "True"])
    assert [entry.name for entry in report.entries] == ["instance +flip x1 -> x1", "instance +flip +rerank x1 -> x1"]
    assert report.as_dict()["results"][0]["flip"] is True
    assert report.verification is not None
    assert report.as_dict()["verification"]["flip"] is True
    assert "(+flip)" in report.verification.summary() or "too few" in report.verification.summary()
    assert ", +flip)" in markdown_table(report)
    plain = evaluate(use)
    assert plain.as_dict()["results"][0]["flip"] is False
    assert plain.entries[0].result.mAP != report.entries[0].result.mAP


def test_the_average_is_validated_saved_beside_the_network_and_used(tiny_arguments: list[str]) -> None:
    result = fit(tiny_arguments, "SOLVER.AVERAGE_DECAY", "0.9", "SOLVER.EVAL_PERIOD", "1")
    path = result.folder / "1_last.pth"
    state = torch.load(path, weights_only=True)["state_dict"]
    live = network_of(path)
    average = {name.removeprefix("average."): value for name, value in state.items() if name.startswith("average.")}
    assert average.keys() == live.keys()
    assert any(not torch.equal(average[name], live[name]) for name in live)
    report = evaluate([*tiny_arguments, "MODEL.PRETRAIN_PATH", str(path)])
    assert report.entries[0].result.mAP == pytest.approx(result.last[0].result.mAP, rel=1e-6)
    resumed = fit(tiny_arguments, *resume(result.folder / "0.pth")).folder / "1_last.pth"
    other = torch.load(resumed, weights_only=True)["state_dict"]
    assert all(torch.equal(value, other[name]) for name, value in state.items())


def test_a_warm_up_in_steps_leaves_the_cosine_its_own_beginning(caplog: pytest.LogCaptureFixture) -> None:
    keys = {"SOLVER.LR_SCHEDULER_NAME": "cosine_annealing", "SOLVER.MAX_EPOCHS": 8, "SOLVER.WARMUP_EPOCHS": 10}
    in_steps = build_optimizer_config(
        Settings({}, keys | {"SOLVER.WARMUP_ITERATIONS": 100, "SOLVER.MIN_LR": 0.0}).cfg
    )
    assert "never reaches" not in caplog.text
    assert in_steps.rate(4, 100) == pytest.approx(3.5e-4 / 2)  # half way of the cosine
    build_optimizer_config(Settings({}, keys).cfg)
    assert "the rate never reaches SOLVER.BASE_LR" in caplog.text
