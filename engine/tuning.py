"""How a network trains fastest: its precision and layout, timed on the network at hand, TF32 and compilation."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from yacs.config import CfgNode

from configs import with_values
from engine.hardware import accelerator
from engine.processes import num_processes
from modelling.backbones import backbone
from modelling.deployment import LAYOUTS
from modelling.network import ReidNetwork
from utils.fastest import fastest
from utils.precision import multiplies_bf16

_PRECISION, _LAYOUT = "TRAINER.PRECISION", "TRAINER.LAYOUT"
_TYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_CPU_IMAGES = 4  # a step of a whole batch takes many seconds there, and the ratios are the same


def tune(cfg: CfgNode, network: ReidNetwork, before: Mapping[str, Any]) -> CfgNode:
    """Put the fastest precision and layout in the place of each ``auto``, and prepare network and process for them.

    Nothing is timed where the same run must be the same on every machine (REPRODUCIBLE), nor in several processes,
    which must choose alike: they take the default layout, and on CUDA 16 bits where they are candidates.

    Args:
        cfg: of the training.
        network: that is trained; its values stay as they are, and so do the random states.
        before: the configuration of the run that goes on, by key, whose choices stay; empty for a new run.

    Returns:
        The configuration without ``auto``.
    """
    device = torch.device(accelerator(cfg))
    use_tf32 = cfg.TRAINER.TF32 and device.type == "cuda"  # "high" narrows products of a CPU too
    torch.set_float32_matmul_precision("high" if use_tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = cfg.TRAINER.TF32
    settings = {_PRECISION: cfg.TRAINER.PRECISION, _LAYOUT: cfg.TRAINER.LAYOUT}
    values = {key: before.get(key, "auto") if value == "auto" else value for key, value in settings.items()}
    is_timed = not cfg.REPRODUCIBLE and num_processes(cfg) == 1
    if (layout := values[_LAYOUT]) == "auto":
        steps = {name: (name, "32-true") for name in LAYOUTS}
        layout = _fastest(cfg, network, _LAYOUT, steps, "channels_last") if is_timed else "channels_last"
        values[_LAYOUT] = layout
    if values[_PRECISION] == "auto":
        candidates = _precisions(cfg, device)
        steps = {name: (layout, name) for name in candidates}
        untimed = candidates[-1 if device.type == "cuda" and not cfg.REPRODUCIBLE else 0]
        values[_PRECISION] = _fastest(cfg, network, _PRECISION, steps, "32-true") if is_timed else untimed
    network.to(memory_format=LAYOUTS[layout])
    if cfg.TRAINER.COMPILE:
        network.compile()  # in place, so the tensors keep their names
    cfg = with_values(cfg, values)
    cfg.freeze()
    return cfg


def _precisions(cfg: CfgNode, device: torch.device) -> list[str]:
    """The precisions of training that leave the mAP where it is."""
    if not backbone(cfg.MODEL.NAME).safe_in_16_bits:
        return ["32-true"]
    if multiplies_bf16(device):
        return ["32-true", "bf16-mixed"]
    return ["32-true", "16-mixed"] if device.type == "cuda" else ["32-true"]


def _fastest(
    cfg: CfgNode, network: ReidNetwork, key: str, candidates: Mapping[str, tuple[str, str]], default: str
) -> str:
    """Time one pass forward and backward of each candidate: a layout and a precision."""
    device = torch.device(accelerator(cfg))
    images = cfg.SOLVER.IMS_PER_BATCH if device.type == "cuda" else min(_CPU_IMAGES, cfg.SOLVER.IMS_PER_BATCH)
    height, width = cfg.INPUT.SIZE_TRAIN
    subject = f"{key} of {cfg.MODEL.NAME}, {images} x {height} x {width} on {device.type}"
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        batch = torch.rand(images, 3, height, width)
        steps = {name: _step(network, batch, device, *candidate) for name, candidate in candidates.items()}
        return fastest(subject, steps, default)


def _step(
    network: ReidNetwork, batch: torch.Tensor, device: torch.device, layout: str, precision: str
) -> Callable[[], None]:
    network = copy.deepcopy(network).to(device).to(memory_format=LAYOUTS[layout]).train()
    batch = batch.to(device).to(memory_format=LAYOUTS[layout])

    def step() -> None:
        is_mixed = precision != "32-true"
        with torch.autocast(device.type, dtype=_TYPES[precision], enabled=is_mixed, cache_enabled=False):
            features = network(batch)
        network.zero_grad(set_to_none=True)
        sum(part.float().square().mean() for part in features).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step
