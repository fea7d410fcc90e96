import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from losses.base import LossWithStatistics
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
            Term("identity", IdentityLoss(NUM_IDS, DIM), 1.0, "bn"),
            Term("triplet", BatchHardTripletLoss(0.3), 1.0, "raw"),
            Term("center", CenterLoss(NUM_IDS, DIM), center_weight, "raw"),
            Term("centroid_triplet", CentroidTripletLoss(0.3), 0.5, "raw"),
            Term("octuplet", OctupletLoss(), 2.0, "raw", ("main", "low")),
        ]
    )


def features() -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return {
        view: {name: torch.randn(len(IDS), DIM, generator=generator, requires_grad=True) for name in ("raw", "bn")}
        for view in ("main", "low")
    }


def test_total_is_the_weighted_sum_of_the_terms() -> None:
    objective, inputs = strong_objective(), features()
    report = objective(inputs, IDS)
    alone = {
        "identity": objective.terms["identity"](inputs["main"]["bn"], IDS),
        "triplet": objective.terms["triplet"](inputs["main"]["raw"], IDS),
        "center": objective.terms["center"](inputs["main"]["raw"], IDS),
        "centroid_triplet": objective.terms["centroid_triplet"](inputs["main"]["raw"], IDS),
        "octuplet": objective.terms["octuplet"](inputs["main"]["raw"], inputs["low"]["raw"], IDS),
    }
    assert list(report.terms) == list(alone)
    for name, value in alone.items():
        torch.testing.assert_close(report.terms[name], value.detach())
        assert not report.terms[name].requires_grad
    weights = {"identity": 1.0, "triplet": 1.0, "center": 5e-4, "centroid_triplet": 0.5, "octuplet": 2.0}
    total = sum(weights[name] * float(value.detach()) for name, value in alone.items())
    assert float(report.total.detach()) == pytest.approx(total)


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


def test_one_step_of_both_optimizers_is_that_of_separate_training() -> None:
    objective, inputs = strong_objective(), features()
    before = objective.terms["center"].centers.detach().clone()
    network = torch.optim.SGD(objective.network_parameters(), lr=0.1)
    (centers,) = objective.own_optimizers().values()
    objective(inputs, IDS).total.backward()
    network.step()
    centers.step()
    # Two images of each of four identities: the mean over 8 images moves a center by 0.5 * 2 * sum / 8.
    after = before.clone()
    for row, identity in zip(inputs["main"]["raw"].detach(), IDS.tolist(), strict=True):
        after[identity] += 0.5 * 2.0 * (row - before[identity]) / len(IDS)
    torch.testing.assert_close(objective.terms["center"].centers.detach(), after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weight", [5e-4, 1.0, 3.0])
def test_the_weight_scales_the_gradient_of_the_features_only(weight: float) -> None:
    center = CenterLoss(NUM_IDS, DIM)
    plain = copy.deepcopy(center)
    raw = features()["main"]["raw"]
    Objective([Term("center", center, weight, "raw")])({"main": {"raw": raw}}, IDS).total.backward()
    same = raw.detach().clone().requires_grad_()
    plain(same, IDS).backward()
    torch.testing.assert_close(raw.grad, weight * same.grad)
    torch.testing.assert_close(center.centers.grad, plain.centers.grad)


class _Proxies(nn.Module):
    """Another loss with an optimizer of its own, and with statistics; its parameters lie in a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(DIM, NUM_IDS)

    def forward(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.layer(embeddings), ids)

    def with_statistics(self, embeddings: Tensor, ids: Tensor) -> LossWithStatistics:
        return LossWithStatistics(self(embeddings, ids), {"norm": self.layer.weight.detach().norm()})

    def own_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.125)


def test_any_loss_may_bring_an_optimizer_that_its_weight_leaves_alone() -> None:
    proxies, raw = _Proxies(), features()["main"]["raw"]
    plain, same = copy.deepcopy(proxies), raw.detach().clone().requires_grad_()
    objective = Objective([Term("proxies", proxies, 1e-3, "raw"), term()()])
    report = objective({"main": {"raw": raw}}, IDS)
    report.total.backward()
    plain(same, IDS).backward()
    torch.testing.assert_close(proxies.layer.weight.grad, plain.layer.weight.grad)
    torch.testing.assert_close(proxies.layer.bias.grad, plain.layer.bias.grad)
    assert set(report.statistics) > {"proxies/norm"}
    assert list(objective.network_parameters()) == []
    optimizers = objective.own_optimizers()
    assert {name: optimizer.param_groups[0]["lr"] for name, optimizer in optimizers.items()} == {"proxies": 0.125}


def test_names_in_the_state_dict() -> None:
    assert set(strong_objective().state_dict()) == {
        "terms.identity.classifier.weight",
        "terms.center.centers",
    }


def test_parameters_are_split_and_complete() -> None:
    objective = strong_objective()
    (optimizer,) = objective.own_optimizers().values()
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(objective.terms["center"].centers)]
    assert [id(p) for p in objective.network_parameters()] == [id(objective.terms["identity"].classifier.weight)]
    assert len(list(objective.parameters())) == 2


def test_repr_reads_as_a_formula() -> None:
    text = repr(strong_objective())
    assert "1 identity(main.bn) + 1 triplet(main.raw) + 0.0005 center(main.raw)" in text
    assert "2 octuplet(main.raw, low.raw)" in text


def test_it_tells_which_features_its_terms_take() -> None:
    assert strong_objective().features == {"bn", "raw"}
    assert Objective([term(views=("main", "low"))()]).features == {"raw"}


@pytest.mark.parametrize("absent", ["low", "raw"])
def test_missing_feature_is_refused_with_the_available_ones(absent: str) -> None:
    inputs = features()
    if absent == "low":
        del inputs["low"]
    else:
        del inputs["low"]["raw"]
    available = "main.raw, main.bn" + (", low.bn" if absent == "raw" else "")
    message = f"must hold raw of each view of term 'octuplet', main, low; missing of low, available {available};"
    with pytest.raises(ReidError, match=message):
        strong_objective()(inputs, IDS)


def term(**changes: object) -> Callable[[], Term]:
    arguments = {
        "name": "triplet",
        "loss": BatchHardTripletLoss(0.3),
        "weight": 1.0,
        "feature": "raw",
        **changes,
    }
    return lambda: Term(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (term(weight=0.0), r"weight of term 'triplet' must be .* > 0, got 0\.0; leave the term out"),
        (term(weight=float("nan")), "weight of term 'triplet' must be a finite number"),
        (term(name="a.b"), "name of a term must be a Python identifier, got 'a.b'"),
        (term(views="main"), r"views of term 'triplet' must be a tuple .* got 'main'; write \('main',\)"),
        (term(views=()), "views of term 'triplet' must be a tuple of at least one"),
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
