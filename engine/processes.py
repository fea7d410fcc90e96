"""The processes of a run on all of its machines: how many there are, which one this is, and what started them."""

import os
from collections.abc import Mapping

from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.utilities import rank_zero_only
from yacs.config import CfgNode

from engine.hardware import accelerator
from utils.errors import ReidError


def num_processes(cfg: CfgNode) -> int:
    """Processes of a run on all of its machines."""
    return int(cfg.TRAINER.DEVICES * cfg.TRAINER.NUM_NODES)


def is_started_by_slurm() -> bool:
    """Whether srun has started the processes of the run; torchrun may have, within a job of SLURM."""
    return SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()


def check_processes(cfg: CfgNode) -> None:
    """Refuse an environment of other processes than those of the run; learn which of them this one is.

    Raises:
        ReidError: if it is another one, or if a key needs other processes; the message names the key.
    """
    trainer = cfg.TRAINER
    # Lightning sets the rank with the trainer, after the folder of the run, which the first process alone makes.
    rank_zero_only.rank = _checked_rank(trainer.DEVICES, trainer.NUM_NODES)  # type: ignore[attr-defined]
    if trainer.SYNC_BATCHNORM and num_processes(cfg) > 1 and accelerator(cfg) == "cpu":
        raise ReidError(
            "TRAINER.SYNC_BATCHNORM True needs GPUs, because torch has it for them alone, got several processes on "
            "the CPU; set it False"
        )


def _checked_rank(devices: int, nodes: int) -> int:
    """The rank of this process in an environment of as many processes as this run has.

    Others would wait for one another for ever, or none of them would write the files.
    """
    number = devices * nodes
    keys = f"with TRAINER.DEVICES {devices} and TRAINER.NUM_NODES {nodes}"
    torchrun = f"start with torchrun --nnodes {nodes} --nproc_per_node {devices}"
    if TorchElasticEnvironment.detect():
        _check_environment({"WORLD_SIZE": _only(number), "LOCAL_WORLD_SIZE": _only(devices)}, keys, torchrun)
        return int(os.environ["RANK"])
    if is_started_by_slurm():
        srun = f"start with srun --nodes {nodes} --ntasks-per-node {devices}"
        if number == 1:  # the batch file itself may start it
            _check_environment({"SLURM_NTASKS": _only(1)}, keys, f"{srun}, or unset SLURM_NTASKS")
            return 0
        sizes = {"SLURM_NNODES": _only(nodes), "SLURM_NTASKS": _only(number), "SLURM_NTASKS_PER_NODE": _only(devices)}
        _check_environment(sizes, keys, srun)
        return int(os.environ["SLURM_PROCID"])
    if nodes > 1 and (absent := {"NODE_RANK", "MASTER_ADDR", "MASTER_PORT"} - os.environ.keys()):
        raise ReidError(
            f"TRAINER.NUM_NODES {nodes} needs an environment that says which machine this is, got no "
            f"{', '.join(sorted(absent))}; {torchrun}"
        )
    place = LightningEnvironment()
    rank = place.node_rank() * devices + place.local_rank()
    allowed = {"WORLD_SIZE": _only(number), "NODE_RANK": range(nodes), "LOCAL_RANK": range(devices)}
    present = {name: values for name, values in (allowed | {"RANK": _only(rank)}).items() if name in os.environ}
    _check_environment(present, keys, f"unset it, or {torchrun}")
    return rank


def _only(number: int) -> range:
    return range(number, number + 1)


def _check_environment(allowed: Mapping[str, range], keys: str, remedy: str) -> None:
    """Refuse a variable whose value is not among those that are allowed.

    Raises:
        ReidError: naming it.
    """
    for name, values in allowed.items():
        text = os.environ.get(name, "none")
        if not text.isdecimal() or int(text) not in values:
            rule = values[0] if len(values) == 1 else f"from 0 to {values[-1]}"
            raise ReidError(f"{name} must be {rule} {keys}, got {text}; {remedy}")
