import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from losses.center import CenterLoss
from losses.centroid_triplet import CentroidTripletLoss
from losses.identity import IdentityLoss
from losses.objectives import Objective, Term
from losses.octuplet import OctupletLoss
from losses.triplet import BatchHardTripletLoss
from utils.errors import ReidError

NUM_IDS, DIM = 4, 8
IDS = torch.arange(NUM_IDS).repeat_interleave(2)


def strong_objective(center_weight: float = 5e-4) -> Objective:
    torch.manual_seed(0)
    return Objective(
        [
            Term("identity", IdentityLoss(NUM_IDS, DIM), 1.0, ("bn",)),
            Term("triplet", BatchHardTripletLoss(0.3), 1.0, ("raw",)),
            Term("center", CenterLoss(NUM_IDS, DIM), center_weight, ("raw",)),
            Term("centroid_triplet", CentroidTripletLoss(0.3), 0.5, ("raw",)),
            Term("octuplet", OctupletLoss(), 2.0, ("raw", "raw_low")),
        ]
    )


def features() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        name: torch.randn(len(IDS), DIM, generator=generator, requires_grad=True) for name in ("raw", "bn", "raw_low")
    }


def test_total_is_the_weighted_sum_of_the_terms() -> None:
    objective, inputs = strong_objective(), features()
    report = objective(inputs, IDS)
    alone = {
        "identity": objective.terms["identity"](inputs["bn"], IDS),
        "triplet": objective.terms["triplet"](inputs["raw"], IDS),
        "center": objective.terms["center"](inputs["raw"], IDS),
        "centroid_triplet": objective.terms["centroid_triplet"](inputs["raw"], IDS),
        "octuplet": objective.terms["octuplet"](inputs["raw"], inputs["raw_low"], IDS),
    }
    assert list(report.terms) == list(alone)
    for name, value in alone.items():
        torch.testing.assert_close(report.terms[name], value.detach())
        assert not report.terms[name].requires_grad
    weights = {"identity": 1.0, "triplet": 1.0, "center": 5e-4, "centroid_triplet": 0.5, "octuplet": 2.0}
    expected = sum(weights[name] * float(value.detach()) for name, value in alone.items())
    assert float(report.total.detach()) == pytest.approx(expected)


def test_statistics_carry_the_name_of_their_term() -> None:
    statistics = strong_objective()(features(), IDS).statistics
    assert {
        "identity/accuracy",
        "triplet/hardest_positive",
        "triplet/hardest_negative",
        "triplet/active",
        "centroid_triplet/centroid_norm",
        "octuplet/active",
    } <= set(statistics)
    assert not any(value.requires_grad for value in statistics.values())


def test_padding_reaches_every_term() -> None:
    objective, inputs = strong_objective(), features()
    valid = torch.tensor([True] * 6 + [False] * 2)
    padded = objective(inputs, IDS, valid)
    kept = objective({name: value[:6] for name, value in inputs.items()}, IDS[:6])
    torch.testing.assert_close(padded.total, kept.total)


def test_one_step_of_both_optimisers_is_that_of_separate_training() -> None:
    objective, inputs = strong_objective(), features()
    center = copy.deepcopy(objective.terms["center"])
    before = center.centers.detach().clone()
    network = torch.optim.SGD(objective.network_parameters(), lr=0.1)
    centers = torch.optim.SGD(objective.center_parameters(), lr=0.5)
    objective(inputs, IDS).total.backward()
    raw_gradient = inputs["raw"].grad
    assert raw_gradient is not None
    network.step()
    centers.step()
    # Two images of each of four identities: the mean over 8 images moves a centre by 0.5 * 2 * sum / 8.
    moved = before.clone()
    for row, identity in zip(inputs["raw"].detach(), IDS.tolist(), strict=True):
        moved[identity] += 0.5 * 2.0 * (row - before[identity]) / len(IDS)
    torch.testing.assert_close(objective.terms["center"].centers.detach(), moved, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weight", [5e-4, 1.0, 3.0])
def test_the_weight_scales_the_gradient_of_the_features_only(weight: float) -> None:
    center = CenterLoss(NUM_IDS, DIM)
    plain = copy.deepcopy(center)
    raw = features()["raw"]
    Objective([Term("center", center, weight, ("raw",))])({"raw": raw}, IDS).total.backward()
    same = raw.detach().clone().requires_grad_()
    plain(same, IDS).backward()
    torch.testing.assert_close(raw.grad, weight * same.grad)
    torch.testing.assert_close(center.centers.grad, plain.centers.grad)


def test_names_in_the_state_dict() -> None:
    assert set(strong_objective().state_dict()) == {
        "terms.identity.classifier.weight",
        "terms.center.centers",
    }


def test_parameters_are_split_and_complete() -> None:
    objective = strong_objective()
    centers, network = list(objective.center_parameters()), list(objective.network_parameters())
    assert [id(p) for p in centers] == [id(objective.terms["center"].centers)]
    assert [id(p) for p in network] == [id(objective.terms["identity"].classifier.weight)]
    assert len(list(objective.parameters())) == 2


def test_repr_reads_as_a_formula() -> None:
    assert "1 identity(bn) + 1 triplet(raw) + 0.0005 center(raw)" in repr(strong_objective())


def test_missing_feature_is_refused_with_the_available_ones() -> None:
    inputs = features()
    del inputs["raw_low"]
    with pytest.raises(ReidError, match=r"inputs of term 'octuplet'.*missing raw_low, available bn, raw;"):
        strong_objective()(inputs, IDS)


def term(**changes: object) -> Callable[[], Term]:
    arguments = {
        "name": "triplet",
        "loss": BatchHardTripletLoss(0.3),
        "weight": 1.0,
        "inputs": ("raw",),
        **changes,
    }
    return lambda: Term(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (term(weight=0.0), r"weight of term 'triplet' must be .* > 0, got 0\.0; leave the term out"),
        (term(weight=float("nan")), "weight of term 'triplet' must be a finite number"),
        (term(name="a.b"), "name of a term must be a Python identifier, got 'a.b'"),
        (term(inputs="raw"), r"inputs of term 'triplet' must be a tuple .* got 'raw'"),
        (term(inputs=()), "inputs of term 'triplet' must be a tuple of at least one"),
    ],
)
def test_bad_terms_are_refused(make: Callable[[], Term], message: str) -> None:
    with pytest.raises(ReidError, match=message):
        make()


def test_no_term_and_two_of_one_name_are_refused() -> None:
    with pytest.raises(ReidError, match=r"terms must be at least one, .* got \[\]; add a term"):
        Objective([])
    with pytest.raises(ReidError, match=r"got .*'triplet', 'triplet'.*; rename one of each: triplet"):
        Objective([term()(), term()()])
