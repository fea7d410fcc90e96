"""Engines that compute embeddings, by name, and the ways among which ``auto`` chooses."""

from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import version

import torch

from inference.choices import PRECISIONS
from inference.engines.base import Embed, Engine, Plan, Source, absent
from inference.engines.onnxruntime_engine import ONNXRUNTIME
from inference.engines.openvino_engine import OPENVINO
from inference.engines.torch_engine import TORCH
from utils.errors import ReidError, lookup
from utils.fastest import fastest
from utils.precision import multiplies_bf16

__all__ = [
    "AUTO",
    "ENGINES",
    "Embed",
    "Engine",
    "Plan",
    "Source",
    "absent",
    "build",
    "check_engine",
    "fastest_plan",
    "plans",
    "versions",
]

ENGINES: dict[str, Engine] = {"torch": TORCH, "onnxruntime": ONNXRUNTIME, "openvino": OPENVINO}
"""--engine -> the library."""

AUTO = "auto"
_WORTH_MEASURING = 1000  # images: on two cores they take a small network four seconds, ResNet-50 fifty
_MEASURED_BATCH = 16  # on a CPU more images in a batch take as long for each


def plans(engine: str, precision: str, device: torch.device, *, safe_in_16_bits: bool) -> list[Plan]:
    """The ways to compute among which measuring may choose; the first is for use without measuring.

    16 bits are automatic only where they are known to leave the mAP where it is: on real images bf16 moves that of a
    ResNet-18 by 0.05 point, but that of an OSNet x0.25 by 0.2.

    Args:
        engine: one of :data:`ENGINES`, or ``auto``: those that are installed and compute on this device.
        precision: one of :data:`inference.choices.PRECISIONS`; ``auto``: fp32, and where it is safe bf16 on a CPU
            that multiplies it, fp16 on CUDA.
        device: that computes.
        safe_in_16_bits: as the record of the backbone says.

    Raises:
        ReidError: for an unknown name, a library that is not installed, or a choice that does not go together.
    """
    if precision not in PRECISIONS:
        raise ReidError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "fp16" and device.type == "cpu":
        raise ReidError("precision fp16 needs a CUDA device, got the CPU; use bf16 or auto")
    if engine == AUTO:
        names = [name for name, row in ENGINES.items() if device.type in row.devices and not row.missing]
    else:
        row = lookup({**ENGINES, AUTO: TORCH}, engine, "engine")
        if device.type in row.devices and precision not in (AUTO, *row.precisions):
            offer = ", ".join(row.precisions)
            raise ReidError(f"precision must be one of {offer} with engine {engine}, got {precision}")
        check_engine(engine, device, row.libraries)
        names = [engine]
    safe = ["fp32", *(_multiplied_16_bits(device) if safe_in_16_bits else [])]
    measured = AUTO in (engine, precision)
    return [
        Plan(name, offered, layout)
        for name in names
        for offered in ENGINES[name].precisions
        if offered == precision or (precision == "auto" and offered in safe)
        for layout in (ENGINES[name].layouts if measured else ENGINES[name].layouts[:1])
    ]


def build(source: Source, plan: Plan) -> Embed:
    """The function that embeds as the plan says."""
    return ENGINES[plan.engine].build(source, plan)


def fastest_plan(ways: list[Plan], source: Source, batch_size: int, num_images: int) -> tuple[Plan, Embed]:
    """The plan that is fastest, or the first where that is not worth measuring; and what embeds so.

    Args:
        ways: to compute, one at least.
        source: the network.
        batch_size: images in a batch.
        num_images: that are going to be embedded.
    """
    ready: dict[Plan, Embed] = {}
    count = batch_size if source.device.type == "cuda" else min(batch_size, _MEASURED_BATCH)
    images = torch.randn(count, 3, *source.size, generator=torch.Generator().manual_seed(0)).to(source.device)

    @torch.inference_mode()
    def step(plan: Plan) -> None:
        if plan not in ready:  # only those that are measured are built
            ready[plan] = build(source, plan)
        ready[plan](images)
        if source.device.type == "cuda":
            torch.cuda.synchronize(source.device)

    by_name = {str(plan): plan for plan in ways}
    height, width = source.size
    name = fastest(
        f"embedding batches of {count} images at {height}x{width} by {source.name}{versions(ways)}",
        {name: partial(step, plan) for name, plan in by_name.items()},
        str(ways[0]),
        measure=num_images >= _WORTH_MEASURING,
    )
    plan = by_name[name]
    return plan, ready.get(plan) or build(source, plan)


def versions(ways: Iterable[Plan]) -> str:
    """Of the libraries behind these plans beside torch, such as `` (onnxruntime 1.20)``; empty for none."""
    libraries = dict.fromkeys(library for plan in ways for library in ENGINES[plan.engine].libraries[:1])
    return f" ({', '.join(f'{library} {version(library)}' for library in libraries)})" if libraries else ""


def check_engine(name: str, device: torch.device, libraries: Sequence[str]) -> None:
    """Refuse an engine that cannot compute here.

    Args:
        name: one of :data:`ENGINES`.
        device: that shall compute.
        libraries: that must be installed.

    Raises:
        ReidError: for another device than the engine's, or a library that is missing.
    """
    if device.type not in ENGINES[name].devices:
        raise ReidError(
            f"engine {name} computes on {', '.join(ENGINES[name].devices)} only, got {device.type}; set the device "
            "(TRAINER.ACCELERATOR) to cpu, or the engine to torch"
        )
    if missing := absent(libraries):
        raise ReidError(f"engine {name} needs libraries that are not installed: pip install {' '.join(missing)}")


def _multiplied_16_bits(device: torch.device) -> list[str]:
    """The 16-bit precisions that the device multiplies itself; elsewhere torch emulates them."""
    if device.type == "cuda":
        return ["fp16"]
    return ["bf16"] if multiplies_bf16(torch.device("cpu")) else []
