"""What a ranking takes and refuses."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from evaluation.ranking import evaluate_distances, evaluate_ranking
from utils.errors import ReidError


class Case(NamedTuple):
    query: np.ndarray
    gallery: np.ndarray
    query_ids: np.ndarray
    gallery_ids: np.ndarray
    query_cameras: np.ndarray
    gallery_cameras: np.ndarray


def realistic_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    query_ids, gallery_ids = rng.integers(1, 61, 120), rng.integers(0, 61, 600)
    centers = rng.standard_normal((61, 128))

    def embed(ids: np.ndarray) -> np.ndarray:
        return (centers[ids] * 0.5 + rng.standard_normal((len(ids), 128))).astype(np.float32)

    cameras = rng.integers(0, 6, 720)
    return Case(embed(query_ids), embed(gallery_ids), query_ids, gallery_ids, cameras[:120], cameras[120:])


def test_a_half_precision_gallery_ranks_as_its_widened_copy() -> None:
    case = realistic_case(5)
    half = torch.from_numpy(case.gallery).half()
    query = torch.from_numpy(case.query)
    narrow, wide = evaluate_ranking(query, half, *case[2:]), evaluate_ranking(query, half.float(), *case[2:])
    assert narrow.mAP == pytest.approx(wide.mAP, abs=1e-6)


def test_euclidean_ranks_do_not_feel_where_the_origin_lies() -> None:
    case = realistic_case(7)
    far = case._replace(query=case.query / 10 + 10, gallery=case.gallery / 10 + 10)
    distances = ((far.query[:, None].astype(float) - far.gallery[None]) ** 2).sum(-1)
    expected = evaluate_distances(distances, *far[2:]).mAP
    assert evaluate_ranking(*far, metric="euclidean").mAP == pytest.approx(expected, abs=1e-5)


def test_neither_autocast_nor_a_lowered_product_precision_enters() -> None:
    case = realistic_case(6)
    expected = evaluate_ranking(*case).mAP
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            tensors = [torch.from_numpy(case.query).requires_grad_(), torch.from_numpy(case.gallery)]
            result = evaluate_ranking(*tensors, *case[2:])
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert result.mAP == expected


def small(**changes: object) -> list[object]:
    arguments: dict[str, object] = {
        "query": torch.eye(2),
        "gallery": torch.eye(2),
        "query_ids": [1, 2],
        "gallery_ids": [1, 2],
        "query_cameras": [0, 0],
        "gallery_cameras": [1, 1],
    }
    return list({**arguments, **changes}.values())


WIDE = pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="its long double has 64 bits")
NAN_ROW = torch.tensor([[1.0, 0.0], [float("nan"), 1.0]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gallery_cameras": [0, 0]}, r"camera_rule leaves none of 2 queries a match.*camera_rule=False"),
        (
            {"gallery_ids": [3, 0]},
            "query_ids must occur in gallery_ids, got none of 2.*number the identities",
        ),
        (
            {"query": torch.zeros(0, 2), "query_ids": [], "query_cameras": []},
            "query must hold at least one row",
        ),
        ({"gallery": torch.zeros(0, 2)}, "gallery must hold at least one row"),
        ({"query": NAN_ROW}, "query must be finite.*got the norm nan in row 1"),
        ({"gallery": NAN_ROW / 0}, "gallery must be finite.*2 such rows"),
        ({"gallery": torch.eye(3)[:2]}, "one dimension, got 2 and 3; embed both with one model"),
        ({"query": torch.zeros(2)}, r"query must be an \(N, D\) tensor.*got \(2,\) torch.float32"),
        ({"gallery": torch.ones(2, 2, dtype=torch.int64)}, "gallery must be .* floating point.*int64"),
        ({"gallery": np.ones((2, 2), dtype=int)}, "gallery must be .* floating point.*int64"),
        ({"gallery": [[1.0, 0.0]]}, "gallery must be .* floating point.*list"),
        pytest.param(
            {"query": np.ones((2, 2), np.longdouble)}, "query must be .* of at most 64 bits, got .*float", marks=WIDE
        ),
        (
            {"gallery_ids": np.array([1, 2**63], np.uint64)},
            r"gallery_ids must be below 2\*\*63, got 9223372036854775808",
        ),
        ({"query_ids": [1]}, r"query_ids must have one entry per feature \(2,\), got \(1,\)"),
        ({"gallery_ids": [1, 2, 3]}, r"gallery_ids must have one entry per feature \(2,\)"),
        ({"query_cameras": [1]}, "query_cameras must have one entry"),
        ({"gallery_cameras": [1]}, "gallery_cameras must have one entry"),
        ({"gallery_cameras": [0.0, 1.0]}, "gallery_cameras must be integers, got float64"),
        ({"query_ids": [1, 0]}, "query_ids must be at least 1 .* got 0 in row 1; leave junk out"),
        ({"gallery_ids": [-1, 2]}, "gallery_ids must be at least 0 .* got -1 in row 0"),
    ],
)
def test_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ReidError, match=message):
        evaluate_ranking(*small(**changes))


def test_refuses_an_unknown_metric() -> None:
    with pytest.raises(ReidError, match="metric must be one of euclidean, sqeuclidean, cosine, got 'dot'"):
        evaluate_ranking(*small(), metric="dot")


def test_any_kind_of_integer_is_a_label() -> None:
    for kind in (np.uint8, np.uint64, np.int16):
        assert evaluate_ranking(*small(query_ids=np.array([1, 2], kind))).mAP == 1.0


def test_without_the_camera_rule_one_camera_is_enough() -> None:
    assert evaluate_ranking(*small(gallery_cameras=[0, 0]), camera_rule=False).mAP == 1.0


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (np.zeros(4), r"distances must be \(Q, G\), got \(4,\)"),
        (np.zeros((2, 0)), "gallery must hold at least one row"),
        (np.array([[0.0, 1.0], [np.nan, 1.0]]), "distances must not hold NaN, got one in row 1"),
        (np.zeros((2, 3)), r"gallery_ids must have one entry per feature \(3,\), got \(2,\)"),
        (np.array([["a", "b"]]), "must hold real numbers of at most 64 bits, got <U1; convert it first"),
        pytest.param(np.zeros((2, 2), np.longdouble), r"at most 64 bits, got float.*astype\(float\)", marks=WIDE),
        ([[0.0, 1.0], [1.0, 0.0]], r"must be a tensor or an array, got a list; use numpy\.asarray"),
    ],
)
def test_refuses_distances(distances: np.ndarray, message: str) -> None:
    with pytest.raises(ReidError, match=message):
        evaluate_distances(distances, *small()[2:])
