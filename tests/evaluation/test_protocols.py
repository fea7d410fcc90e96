import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluation.centroids import rank_centroids
from evaluation.ctl2021 import rank_ctl2021
from evaluation.protocols import PROTOCOLS, EvaluationData, evaluate, verify
from evaluation.query_expansion import QueryExpansion, expand_queries
from evaluation.ranking import RankingResult, evaluate_ranking, rank
from evaluation.rerank import Reciprocal, k_reciprocal
from evaluation.results import Entry, EvaluationProtocol, Report
from evaluation.retrieval.inputs import Retrieval
from utils.errors import ReidError

RERANK = Reciprocal(5, 2, 0.3)


def entries_of(data: EvaluationData, *protocols: EvaluationProtocol) -> tuple[Entry, ...]:
    return evaluate(data.vectors, data.query, data.gallery, protocols)


def instance(retrieval: Retrieval, camera_rule: bool = True) -> RankingResult:
    ids_and_cameras = (
        retrieval.query_ids, retrieval.gallery_ids, retrieval.query_cameras, retrieval.gallery_cameras,
    )  # fmt: skip
    return evaluate_ranking(retrieval.query, retrieval.gallery, *ids_and_cameras, camera_rule=camera_rule)


def by_whole_matrix(retrieval: Retrieval, parameters: Reciprocal, camera_rule: bool = True) -> RankingResult:
    distances = k_reciprocal(
        retrieval.query, retrieval.gallery, k1=parameters.k1, k2=parameters.k2, lambda_value=parameters.lambda_value
    )
    return rank(retrieval.pairs(camera_rule), [(slice(0, len(distances)), distances)])


def test_each_protocol_calls_its_function_at_its_scales(data: EvaluationData) -> None:
    entries = entries_of(
        data,
        EvaluationProtocol(),
        EvaluationProtocol("centroid"),
        EvaluationProtocol("centroid", camera_rule=False),
        EvaluationProtocol("centroid_ctl2021"),
        EvaluationProtocol("instance", 4, 1),
        EvaluationProtocol("instance", camera_rule=False),
        EvaluationProtocol("instance", rerank=RERANK),
        EvaluationProtocol("instance", expansion=QueryExpansion(2, 1.0), rerank=RERANK),
    )
    full = data.retrieval(1, 1)
    reference = [
        instance(full),
        rank_centroids(full),
        rank_centroids(full, camera_rule=False),
        rank_ctl2021(full),
        instance(full.with_query(data.vectors[4][:12])),
        instance(full, camera_rule=False),
        by_whole_matrix(full, RERANK),
        by_whole_matrix(expand_queries(full, QueryExpansion(2, 1.0)), RERANK),
    ]
    assert [entry.result.mAP for entry in entries] == pytest.approx([result.mAP for result in reference])
    assert len({round(entry.result.mAP, 6) for entry in entries}) == len(entries)
    assert [entry.protocol.label for entry in entries[-2:]] == ["instance +rerank", "instance +QE2 +rerank"]


@pytest.mark.parametrize("camera_rule", [True, False])
def test_reranking_by_blocks_gives_the_figures_of_the_whole_matrix(camera_rule: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 9, 25), rng.integers(0, 9, 70), rng.integers(1, 4, 25), rng.integers(1, 4, 70)
    centers = torch.randn(9, 16)
    features = [centers[ids] + torch.randn(len(ids), 16) for ids in labels[:2]]
    retrieval, parameters = Retrieval.of(*features, *labels), Reciprocal(6, 3, 0.2)
    result = PROTOCOLS["instance"](retrieval, EvaluationProtocol(camera_rule=camera_rule, rerank=parameters))
    reference = by_whole_matrix(retrieval, parameters, camera_rule)
    np.testing.assert_allclose(result.average_precision, reference.average_precision)
    assert result.cmc == reference.cmc
    assert result.num_gallery == 70


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_match_is_the_evaluators_error(name: str) -> None:
    retrieval = Retrieval.of(torch.eye(2)[:1], torch.eye(2), [1], [2, 3], [1], [2, 2])
    with pytest.raises(ReidError, match="got none"):
        PROTOCOLS[name](retrieval, EvaluationProtocol(name))
    with pytest.raises(ReidError, match="camera_rule leaves none of 1 queries a match"):
        PROTOCOLS["instance"](
            Retrieval.of(torch.eye(2)[:1], torch.eye(2), [1], [1, 2], [1], [1, 1]), EvaluationProtocol(rerank=RERANK)
        )


def test_an_unknown_protocol_names_the_valid_ones(data: EvaluationData) -> None:
    with pytest.raises(ReidError, match=r"protocol must be one of instance, .*, got 'centroids'; did you mean"):
        entries_of(data, EvaluationProtocol("centroids"))


def test_a_row_of_the_table_is_a_protocol(data: EvaluationData, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_rule(retrieval: Retrieval, protocol: EvaluationProtocol) -> RankingResult:
        return PROTOCOLS["instance"](retrieval, replace(protocol, camera_rule=False))

    monkeypatch.setitem(PROTOCOLS, "everything", without_rule)
    own, plain = entries_of(data, EvaluationProtocol("everything"), EvaluationProtocol(camera_rule=False))
    assert own.result.mAP == plain.result.mAP
    assert own.name == "everything x1 -> x1"


def test_an_entry_says_how_it_was_measured(data: EvaluationData) -> None:
    additions = EvaluationProtocol("instance", 4, 1, expansion=QueryExpansion(2, 1.0), rerank=RERANK)
    entry, plain = entries_of(data, additions, EvaluationProtocol())
    record = entry.as_dict()
    assert (record["protocol"], record["query_scale"], record["gallery_scale"]) == ("instance", 4, 1)
    assert (record["query_expansion"], record["rerank"], record["camera_rule"]) == (2, True, True)
    assert record["parameters"] == {"k1": 5, "k2": 2, "lambda_value": 0.3, "alpha": 1.0}
    assert (plain.as_dict()["query_expansion"], plain.as_dict()["parameters"]) == (0, {})
    assert record["cmc"]["1"] == record["rank-1"] == entry.result.cmc[1]
    assert entry.summary().startswith("instance +QE2 +rerank x4 -> x1: mAP ")
    assert entry.summary().endswith(f" of 12 queries, gallery of {entry.result.num_gallery})")


def test_a_protocol_is_read_back_from_a_report() -> None:
    for protocol in (
        EvaluationProtocol("centroid", 4, 1, camera_rule=False, flip=True),
        EvaluationProtocol(expansion=QueryExpansion(2, 1.5)),
        EvaluationProtocol(expansion=QueryExpansion(2, 1.0), rerank=RERANK),
    ):
        assert EvaluationProtocol.from_dict(json.loads(json.dumps(protocol.as_dict()))) == protocol


def test_verification_answers_which_distance_means_the_same_person(data: EvaluationData) -> None:
    entry = verify(data, EvaluationProtocol(query_scale=4), 0.05)
    record = Report("toy", "a.pth", (), entry).as_dict()["verification"]
    assert (record["query_scale"], record["gallery_scale"], record["fpr"]) == (4, 1, 0.05)
    assert record["threshold"] == record["threshold_at_fpr"]["0.05"]
    assert set(record["tpr_at_fpr"]) == {"0.05", "0.01", "0.001", "0.0001"}
    assert f"cosine distance below {record['threshold']:.4f}" in entry.summary()
    assert "5 % false ones" in entry.summary()


def test_rates_that_the_pairs_cannot_measure_have_no_figure(data: EvaluationData) -> None:
    entry = verify(data, EvaluationProtocol(), 0.05)
    assert entry.curve.num_negative < 1000
    low = replace(entry, fpr=1e-4)
    record = low.as_dict()
    assert (record["threshold"], record["threshold_at_fpr"]["0.0001"], record["tpr_at_fpr"]["0.0001"]) == (None,) * 3
    assert record["threshold_at_fpr"]["0.05"] is not None
    lowest = 1 / entry.curve.num_negative
    assert low.summary().endswith(f"of 0.0001; set TEST.FPR to {lowest:.2g} or more")
    one_pair = replace(low, curve=replace(entry.curve, num_negative=1))
    assert one_pair.summary().endswith("a false positive rate of 0.0001")  # no rate that TEST.FPR takes would do
