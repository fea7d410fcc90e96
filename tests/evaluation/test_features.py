import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from evaluation.camera_means import CameraMeans
from evaluation.features import check_features
from evaluation.inputs import check_count, check_inputs
from utils.errors import ReidError

CHUNK_BYTES = 8 * 2**20


def largest_allocation(recorded: profile) -> int:
    return max(event.self_cpu_memory_usage for event in recorded.events())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_gallery_is_never_widened_whole(dtype: torch.dtype) -> None:
    gallery = torch.ones(2**15, 128, dtype=dtype)  # 16 MiB in float32, 32 in float64
    ids = torch.arange(len(gallery)) % 3
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        check_inputs(gallery[:1], gallery, [1], ids, [0], ids)
        CameraMeans(gallery, ids, ids)
    assert 0 < largest_allocation(recorded) <= CHUNK_BYTES


def test_norms_of_several_chunks_are_those_of_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.features._ELEMENTS_PER_CHUNK", 10)
    features = torch.randn(7, 4, dtype=torch.float64)
    expected = torch.tensor([sum(x * x for x in row) ** 0.5 for row in features.tolist()], dtype=torch.float64)
    torch.testing.assert_close(check_features(features, features).gallery_norms, expected)
    features[5, 2] = float("nan")
    with pytest.raises(ReidError, match=r"gallery must be finite .*, got the norm nan in row 5 \(1 such rows\)"):
        check_features(features[:1], features)


def test_the_gallery_is_shared_and_the_query_gets_the_wider_dtype() -> None:
    gallery = torch.ones(3, 2, dtype=torch.float16)
    pair = check_features(torch.ones(1, 2, dtype=torch.float64).numpy(), gallery)
    assert pair.gallery.data_ptr() == gallery.data_ptr()
    assert (pair.query.dtype, pair.query_norms.dtype, pair.gallery_norms.dtype) == (torch.float64,) * 3


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_count_is_an_integer_of_one_or_more(value: object) -> None:
    with pytest.raises(ReidError, match=f"k must be an integer of 1 or more, got {value}"):
        check_count("k", value)  # type: ignore[arg-type]
