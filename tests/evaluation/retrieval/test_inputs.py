"""What an evaluation takes and refuses, and what it makes of it."""

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from evaluation.centroids import CameraMeans
from evaluation.ranking import evaluate_ranking
from evaluation.retrieval.inputs import Retrieval, as_tensor, check_count, check_features
from utils import blocks
from utils.errors import ReidError

CHUNK_BYTES = 8 * 2**20


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
    ("array", "message"),
    [
        (np.array([["a", "b"]]), "must hold real numbers of at most 64 bits, got <U1; convert it first"),
        pytest.param(np.zeros((2, 2), np.longdouble), r"at most 64 bits, got float.*astype\(float\)", marks=WIDE),
        ([[0.0, 1.0], [1.0, 0.0]], r"must be a tensor or an array, got a list; use numpy\.asarray"),
    ],
)
def test_refuses_what_is_no_tensor(array: object, message: str) -> None:
    with pytest.raises(ReidError, match=message):
        as_tensor(array)


def largest_allocation(memory: profile) -> int:
    return max(event.self_cpu_memory_usage for event in memory.events())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_gallery_is_never_widened_whole(dtype: torch.dtype) -> None:
    gallery = torch.ones(2**15, 128, dtype=dtype)  # 16 MiB in float32, 32 in float64
    ids = torch.arange(len(gallery)) % 3
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as memory:
        Retrieval.of(gallery[:1], gallery, [1], ids, [0], ids)
        CameraMeans(gallery, ids, ids)
    assert 0 < largest_allocation(memory) <= CHUNK_BYTES


def test_norms_of_several_chunks_are_those_of_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "CHUNK_ELEMENTS", 10)
    features = torch.randn(7, 4, dtype=torch.float64)
    labels = [1], [1] * 7, [0], [1] * 7
    norms = torch.tensor([sum(x * x for x in row) ** 0.5 for row in features.tolist()], dtype=torch.float64)
    torch.testing.assert_close(Retrieval.of(features[:1], features, *labels).gallery_norms, norms)
    features[5, 2] = float("nan")
    with pytest.raises(ReidError, match=r"gallery must be finite .*, got the norm nan in row 5 \(1 such rows\)"):
        Retrieval.of(features[:1], features, *labels)
    with pytest.raises(ReidError, match=r"gallery must be finite .*, got the norm nan in row 5 \(1 such rows\)"):
        check_features(features[:1], features)


def test_the_gallery_is_shared_and_the_query_gets_the_wider_dtype() -> None:
    gallery = torch.ones(3, 2, dtype=torch.float16)
    query = torch.ones(1, 2, dtype=torch.float64).numpy()
    retrieval = Retrieval.of(query, gallery, [1], [1, 1, 1], [0], [1, 1, 1])
    assert retrieval.gallery.data_ptr() == check_features(query, gallery)[1].data_ptr() == gallery.data_ptr()
    assert (retrieval.query.dtype, retrieval.query_norms.dtype, retrieval.gallery_norms.dtype) == (torch.float64,) * 3


def test_other_queries_or_items_keep_the_other_side() -> None:
    retrieval = Retrieval.of(torch.eye(3), 2 * torch.eye(3), [1, 2, 3], [1, 2, 3], [4, 5, 6], [7, 8, 9])
    few = retrieval.select([2, 0])
    assert (few.query_ids.tolist(), few.query_cameras.tolist(), few.gallery_ids.tolist()) == (
        [3, 1],
        [6, 4],
        [1, 2, 3],
    )
    assert torch.equal(few.query, torch.eye(3)[[2, 0]])
    longer = retrieval.with_query(3 * torch.eye(3))
    assert (longer.query_norms.tolist(), longer.gallery_norms.tolist()) == ([3.0] * 3, [2.0] * 3)
    items = retrieval.with_gallery(torch.ones(2, 3), torch.tensor([1, 2]))
    assert items.gallery_norms.tolist() == pytest.approx([3**0.5] * 2)
    assert (items.gallery_ids.tolist(), items.gallery_cameras.tolist()) == ([1, 2], [0, 0])


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_count_is_an_integer_of_one_or_more(value: object) -> None:
    with pytest.raises(ReidError, match=f"k must be an integer of 1 or more, got {value}"):
        check_count("k", value)  # type: ignore[arg-type]
