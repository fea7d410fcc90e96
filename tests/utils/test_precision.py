import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support import memory_budget
from utils.blocks import blocks_of, row_blocks
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
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@given(st.integers(0, 500), st.integers(1, 1000), st.integers(1, 10**5))
def test_blocks_cover_each_row_once_within_the_budget(num_rows: int, bytes_per_row: int, budget: int) -> None:
    with memory_budget(budget):
        blocks = list(row_blocks(num_rows, bytes_per_row))
    assert [row for rows in blocks for row in range(rows.start, rows.stop)] == list(range(num_rows))
    for rows in blocks:
        length = rows.stop - rows.start
        assert length == 1 or length * bytes_per_row <= budget


@given(st.integers(0, 500), st.integers(1, 600))
def test_blocks_of_a_length_cover_each_row_once(num_rows: int, length: int) -> None:
    blocks = list(blocks_of(num_rows, length))
    assert [row for rows in blocks for row in range(rows.start, rows.stop)] == list(range(num_rows))
    assert all(rows.stop - rows.start == length for rows in blocks[:-1])
