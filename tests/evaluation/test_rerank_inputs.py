"""What re-ranking takes, writes into, leaves untouched and refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.rerank import Reciprocal, k_reciprocal, k_reciprocal_blocks
from evaluation.retrieval.inputs import check_features
from evaluation.retrieval.knn import normalize
from tests.reference.rerank import Matrix, clustered
from tests.support import memory_budget
from utils.errors import ReidError


def test_takes_half_precision_read_only_arrays_and_gradients() -> None:
    query, gallery = clustered(5, 40)
    reference = k_reciprocal(query.astype(np.float16), gallery.astype(np.float16))
    gallery.setflags(write=False)
    assert k_reciprocal(query, gallery).isfinite().all()
    halves = torch.from_numpy(query).half().requires_grad_(), torch.from_numpy(gallery.copy()).half()
    distances = k_reciprocal(*halves)
    assert not distances.requires_grad
    torch.testing.assert_close(distances, reference)


def test_autocast_does_not_reach_the_neighbors() -> None:
    query, gallery = (part.astype(np.float32) for part in clustered(10, 80))
    reference = k_reciprocal(query, gallery)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distances = k_reciprocal(query, gallery)
    torch.testing.assert_close(distances, reference, atol=1e-6, rtol=0)


def test_a_narrow_product_is_forbidden_inside_but_not_between_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, multiply = [], torch.Tensor.__matmul__

    def spy(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        inside.append((torch.get_float32_matmul_precision(), torch.is_grad_enabled()))
        return multiply(x, y)

    monkeypatch.setattr(torch.Tensor, "__matmul__", spy)
    torch.set_float32_matmul_precision("medium")
    try:
        with memory_budget(1):
            for _ in k_reciprocal_blocks(*map(torch.from_numpy, clustered(5, 40)), Reciprocal()):
                assert torch.get_float32_matmul_precision() == "medium"
                assert torch.is_grad_enabled()
    finally:
        torch.set_float32_matmul_precision("highest")
    assert len(inside) > 5  # the tiles of the neighbors, and a block for each query
    assert set(inside) == {("highest", False)}


@pytest.mark.parametrize("kind", ["tensor", "array", "memmap"])
def test_writes_into_out(kind: str, tmp_path: Path) -> None:
    query, gallery = clustered(6, 40)
    out = {
        "tensor": lambda: torch.zeros(6, 40),
        "array": lambda: np.zeros((6, 40), np.float32),
        "memmap": lambda: np.memmap(tmp_path / "out", np.float32, "w+", shape=(6, 40)),
    }[kind]()
    distances = k_reciprocal(query, gallery, out=out)
    torch.testing.assert_close(torch.as_tensor(out), k_reciprocal(query, gallery))
    assert distances.data_ptr() == torch.as_tensor(out).data_ptr()


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((6, 39), np.float32),
        np.zeros((6, 40)),
        np.zeros((40, 6), np.float32).T,
        torch.zeros(6, 40).half(),
    ],
)
def test_out_must_fit(out: object) -> None:
    with pytest.raises(ReidError, match=r"out must be writable, C-ordered, float32 and of shape \(6, 40\)"):
        k_reciprocal(*clustered(6, 40), out=out)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("k1", 0, "k1 must be an integer of 1 or more, got 0"),
        ("k1", 2.5, "k1 must be an integer of 1 or more, got 2.5"),
        ("k1", True, "k1 must be an integer of 1 or more, got True"),
        ("k2", 0, "k2 must be an integer of 1 or more, got 0"),
        ("lambda_value", -0.1, "lambda_value must be from 0 .* to 1 .*, got -0.1"),
        ("lambda_value", 1.5, "lambda_value must be from 0 .* to 1 .*, got 1.5"),
        ("lambda_value", float("nan"), "lambda_value must be from 0 .* to 1 .*, got nan"),
    ],
)
def test_parameters_out_of_range(name: str, value: object, rule: str) -> None:
    with pytest.raises(ReidError, match=rule):
        k_reciprocal(*clustered(5, 20), **{name: value})  # type: ignore[arg-type]
    with pytest.raises(ReidError, match=rule):
        Reciprocal(**{name: value})  # type: ignore[arg-type]


def _spoilt(value: float) -> Matrix:
    gallery = np.ones((20, 16))
    gallery[[4, 9], 3] = value
    return gallery


@pytest.mark.parametrize(
    ("gallery", "rule"),
    [
        (np.ones((20, 15)), "query and gallery must have features of one dimension, got 16 and 15"),
        (np.ones((20, 16), int), r"gallery must be an \(N, D\) tensor .*, got \(20, 16\) int64"),
        (np.ones(16), r"gallery must be an \(N, D\) tensor or array of floating point .*, got \(16,\) float64"),
        ([[1.0]], r"gallery must be an \(N, D\) tensor .*, got <class 'list'>"),
        (np.ones((0, 16)), "gallery must hold at least one row"),
        (_spoilt(np.nan), r"gallery must be finite .*, got the norm nan in row 4 \(2 such rows\)"),
        (_spoilt(np.inf), r"gallery must be finite .*, got the norm inf in row 4 \(2 such rows\)"),
    ],
)
def test_features_that_do_not_fit(gallery: object, rule: str) -> None:
    with pytest.raises(ReidError, match=rule):
        k_reciprocal(np.ones((5, 16)), gallery)  # type: ignore[arg-type]


def test_features_are_not_copied_or_changed() -> None:
    query, gallery = clustered(5, 40)
    before = gallery.copy()
    matrices = check_features(query, gallery)
    assert matrices[1].data_ptr() == gallery.ctypes.data
    normalize(*matrices)
    k_reciprocal(query, gallery)
    assert np.array_equal(gallery, before)
