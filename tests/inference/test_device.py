import pytest
import torch

from inference import device
from inference.device import choose_device, decoding_workers


def test_auto_device() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("cores", "beside_cpu", "beside_gpu"), [(1, 0, 1), (3, 0, 3), (4, 1, 4), (16, 4, 16), (64, 16, 16)]
)
def test_decoding_takes_few_of_the_cores_that_compute(
    cores: int, beside_cpu: int, beside_gpu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "usable_cpus", lambda: cores)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert decoding_workers(torch.device("cpu")) == beside_cpu
    assert decoding_workers(torch.device("cuda")) == beside_gpu
