"""Which losses a run adds up: those of its method, of SOLVER.TERMS, and of weights that the user sets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from configs import SCHEMA, get_cfg, read_config, to_yaml, with_values
from engine.builders.objective import TERMS, TermBuilder, build_objective
from engine.checkpoint import SECTION, Checkpoint
from engine.methods import BASELINE, CTL, OCTUPLET, OCTUPLET_CTL, Method
from engine.settings import Settings
from modelling.heads import Head
from tests.engine.support import assert_same_weights, checkpoint_at, resume
from tests.support import fit
from utils.errors import ReidError

METRIC_TERMS = ["identity", "triplet", "center", "centroid_triplet"]
WEIGHTS = {name: TERMS[name].weight for name in METRIC_TERMS}
CENTROID = WEIGHTS["centroid_triplet"]


def terms(method: Method, overrides: dict[str, Any] | None = None, file: dict[str, Any] | None = None) -> list[str]:
    return list(Settings(file or {}, overrides or {}).for_training(method, None, resume=False).SOLVER.TERMS)


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (BASELINE, METRIC_TERMS[:3]),
        (CTL, METRIC_TERMS),
        (OCTUPLET, ["octuplet"]),
        (OCTUPLET_CTL, ["octuplet"]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_method_names_its_terms(method: Method, names: list[str]) -> None:
    assert terms(method) == names


@pytest.mark.parametrize("layer", ["file", "overrides"])
def test_a_weight_above_0_joins_and_one_of_0_switches_off(layer: str) -> None:
    assert terms(BASELINE, **{layer: {CENTROID: 1.0}}) == METRIC_TERMS
    assert terms(BASELINE, **{layer: {WEIGHTS["center"]: 0.0}}) == ["identity", "triplet"]
    assert terms(OCTUPLET, **{layer: {WEIGHTS["identity"]: 1.0}}) == ["octuplet", "identity"]
    assert terms(OCTUPLET, **{layer: dict.fromkeys(WEIGHTS.values(), 0.5)}) == ["octuplet", *METRIC_TERMS]


def test_the_command_line_decides_over_the_file() -> None:
    assert terms(BASELINE, {CENTROID: 0.0}, {CENTROID: 1.0}) == METRIC_TERMS[:3]
    assert terms(BASELINE, {"SOLVER.TERMS": ["center"]}, {"SOLVER.TERMS": ["triplet"]}) == ["center"]
    assert terms(BASELINE, {"SOLVER.TERMS": []}, {"SOLVER.TERMS": ["triplet"]}) == METRIC_TERMS[:3]
    assert terms(BASELINE, {CENTROID: 1.0}, {"SOLVER.TERMS": ["triplet"]}) == ["triplet", "centroid_triplet"]


def test_a_list_decides_over_the_weights_beside_it() -> None:
    """So the config.yml of a run, which sets every key, is that run again."""
    for method in (BASELINE, CTL, OCTUPLET):
        settings = Settings({}, {WEIGHTS["identity"]: 0.5, WEIGHTS["center"]: 0.0})
        cfg = settings.for_training(method, None, resume=False)
        assert Settings(read_config(to_yaml(cfg)), {}).for_training(method, None, resume=False) == cfg


def test_an_old_config_file_has_no_list_and_zeroes_the_others() -> None:
    values = read_config(to_yaml(with_values(get_cfg(), {CENTROID: 0.0})))
    for name in ("TERMS", "WEIGHTED_TRIPLET_WEIGHT", "CIRCLE_WEIGHT", "MULTI_SIMILARITY_WEIGHT"):  # came later
        del values[f"SOLVER.{name}"]
    assert terms(BASELINE, file=values) == METRIC_TERMS[:3]
    assert terms(OCTUPLET, file=values | dict.fromkeys(WEIGHTS.values(), 0.0)) == ["octuplet"]


def test_unknown_terms_and_those_of_other_views_are_refused() -> None:
    with pytest.raises(
        ReidError, match=r"SOLVER\.TERMS must be one of identity, .*got 'tripled'; did you mean triplet"
    ):
        terms(CTL, {"SOLVER.TERMS": ["tripled"]})
    with pytest.raises(
        ReidError,
        match=r"that method baseline has the images for, got octuplet, .* has them: octuplet, octuplet_ctl$",
    ):
        terms(BASELINE, {"SOLVER.TERMS": ["identity", "octuplet"]})
    assert terms(BASELINE, {"SOLVER.OCTUPLET_WEIGHT": 2.0}) == METRIC_TERMS[:3]  # a file may serve several scripts


def test_an_objective_needs_a_weight() -> None:
    off = dict.fromkeys(WEIGHTS.values(), 0.0)
    message = (
        r"one of SOLVER\.QUERY_XENT_WEIGHT, SOLVER\.QUERY_CONTRASTIVE_WEIGHT, .*, SOLVER\.CENTER_LOSS_WEIGHT and "
        r"SOLVER\.CENTROID_CONTRASTIVE_WEIGHT must be above 0, got 0 for all; give one a weight, e\.g\. 1"
    )
    for method in (BASELINE, CTL):
        with pytest.raises(ReidError, match=message):
            terms(method, off)


class _Norm(nn.Module):
    """Somebody's loss: a plain module."""

    def forward(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        return embeddings.norm(dim=1).mean()


def test_a_new_loss_is_a_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TERMS, "norm", TermBuilder(lambda *_: _Norm(), "SOLVER.MARGIN", "raw"))
    cfg = Settings({}, {"SOLVER.TERMS": ["norm", "center"]}).for_training(BASELINE, None, resume=False)
    objective = build_objective(cfg, 3, Head(2))
    report = objective({"main": {"raw": torch.tensor([[3.0, 4.0]])}}, torch.tensor([1]))
    assert report.terms["norm"] == 5.0
    assert float(report.total.detach()) == pytest.approx(
        cfg.SOLVER.MARGIN * 5.0 + 5e-4 * float(report.terms["center"])
    )


def test_the_keys_of_the_table_exist() -> None:
    for row in TERMS.values():
        assert row.weight in SCHEMA
        assert row.feature in {"raw", "bn", *SCHEMA}


@dataclass(frozen=True)
class Resumption:
    """What goes on from the first epoch of a run of CTL's losses by the baseline."""

    arguments: list[str]
    first: Path

    def fit(self, *more: str) -> Checkpoint:
        return checkpoint_at(fit(self.arguments, *resume(self.first), *more).folder / "1_last.pth")


@pytest.fixture
def resumption(tiny_arguments: list[str]) -> Resumption:
    folder = fit(tiny_arguments, CENTROID, "0.5", WEIGHTS["identity"], "0").folder
    return Resumption(tiny_arguments, folder / "0.pth")


NAMES = ["triplet", "center", "centroid_triplet"]


def test_a_resumed_run_keeps_its_terms(resumption: Resumption) -> None:
    assert checkpoint_at(resumption.first).config["SOLVER.TERMS"] == NAMES
    assert resumption.fit().config["SOLVER.TERMS"] == NAMES
    with pytest.raises(ReidError, match=r"a resumed run keeps its settings, got SOLVER\.TERMS \(\['triplet', .* -> "):
        resumption.fit("SOLVER.TERMS", "['identity']")


def test_a_resumed_run_gets_no_term_by_its_default_weight(tiny_arguments: list[str]) -> None:
    first = fit(tiny_arguments).folder / "0.pth"
    weight = str(SCHEMA[CENTROID].default)
    with pytest.raises(ReidError, match=r"keeps its settings, got SOLVER\.TERMS .*, by the weight of another term"):
        Resumption(tiny_arguments, first).fit(CENTROID, weight)


def test_a_checkpoint_without_a_list_goes_on_by_its_weights(
    resumption: Resumption, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A term that is younger than the checkpoint does not join, whatever its weight is by default."""
    monkeypatch.setitem(TERMS, "norm", TermBuilder(lambda *_: _Norm(), "SOLVER.MARGIN", "raw"))
    content = torch.load(resumption.first, weights_only=True)
    lines = content[SECTION]["config"].splitlines()
    content[SECTION]["config"] = "\n".join(line for line in lines if "TERMS: [triplet" not in line)
    assert len(content[SECTION]["config"].splitlines()) == len(lines) - 1
    torch.save(content, resumption.first)
    again = resumption.fit()
    assert again.config["SOLVER.TERMS"] == NAMES
    assert_same_weights(resumption.first.with_name("1_last.pth"), again.path)
