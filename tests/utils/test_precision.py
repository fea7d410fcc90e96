import subprocess
import sys
from pathlib import Path

import pytest
import torch

from utils.precision import full_precision


@pytest.mark.parametrize("precision", ["medium", "high", "highest"])
def test_products_are_full_float32_inside_and_as_chosen_after(precision: str) -> None:
    # Asked of the setting: most processors have no narrow product whose result could show the difference.
    former = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), full_precision(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.is_autocast_enabled("cpu")
            assert not torch.is_grad_enabled()
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(former)


def test_the_choice_is_put_back_after_an_error() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(RuntimeError, match="stop"), full_precision(torch.device("cpu")):
            raise RuntimeError("stop")
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "matmul"), reason="older torch has the global choice only")
def test_a_choice_for_one_backend_is_respected() -> None:
    # In a process of its own, so that no other test meets torch in this mixed state.
    code = """
import torch
from utils.precision import full_precision
backend = torch.backends.cuda.matmul
backend.fp32_precision = "tf32"
with full_precision(torch.device("cpu")):
    assert backend.fp32_precision == "ieee", backend.fp32_precision
    torch.eye(2) @ torch.eye(2)
assert backend.fp32_precision == "tf32", backend.fp32_precision
"""
    root = Path(__file__).resolve().parents[2]
    process = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
