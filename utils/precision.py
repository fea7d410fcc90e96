"""Which precision a device multiplies, and arithmetic in full float32, whatever the surrounding code has chosen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 itself; elsewhere torch emulates it.

    On the CPU: whether the processor has AVX512-BF16 (those with AMX have it too).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(False))
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute without gradient, autocast, TF32 and bfloat16 products: a rank depends on the last bits."""
    restore = _forbid_narrow_products()
    try:
        with torch.no_grad(), torch.autocast(device_type=device.type, enabled=False):
            yield
    finally:
        restore()


def _forbid_narrow_products() -> Callable[[], None]:
    """Forbid products that are narrower than float32; return the function that restores the caller's choice.

    Torch has one global setting and, in newer versions, one per backend, and raises where the two disagree. So this
    function uses the global one unless the user's own settings per backend make it unreadable.
    """
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:
        return _forbid_per_backend()
    torch.set_float32_matmul_precision("highest")
    return lambda: torch.set_float32_matmul_precision(before)


def _forbid_per_backend() -> Callable[[], None]:
    kinds: tuple[Any, ...] = (torch.backends.cuda, torch.backends.mkldnn)
    backends = [kind.matmul for kind in kinds]
    before = [backend.fp32_precision for backend in backends]

    def choose(precisions: list[str]) -> None:
        for backend, precision in zip(backends, precisions, strict=True):
            backend.fp32_precision = precision

    choose(["ieee"] * len(backends))
    return lambda: choose(before)
