"""A model ready for an engine, whether it is a network or an exported file."""

from dataclasses import dataclass

import torch

from engine.model import TrainedModel
from inference.device import choose_device
from inference.engines import AUTO, ENGINES, Plan, Source, absent, check_engine, plans
from inference.exports.opened import ExportedModel, FileSource
from inference.gallery.store import ModelCard
from inference.known_cameras import KnownCameras
from utils.errors import ReidError


@dataclass(frozen=True)
class PreparedModel:
    """What an extractor needs.

    Attributes:
        card: what makes the embeddings.
        cameras: that the network knows.
        device: that computes.
        plans: the ways to compute.
        source: what an engine computes.
    """

    card: ModelCard
    cameras: KnownCameras
    device: torch.device
    plans: list[Plan]
    source: Source


def prepare(model: TrainedModel | ExportedModel, device: str, precision: str, engine: str | None) -> PreparedModel:
    """Decide which engines may compute a model, and where.

    Args:
        model: a network or an exported file.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``; an exported file takes the CPU for ``auto``.
        precision: of the backbone; an exported file has one of its own.
        engine: one of :data:`inference.engines.ENGINES`, or ``auto``; None = torch, or the usual one of a file.

    Raises:
        ReidError: for an unknown name, a library that is not installed, or a choice that does not go together.
    """
    if isinstance(model, ExportedModel):
        where = choose_device("cpu" if device == AUTO else device)
        ways = _file_plans(model, where, precision, engine)
        return PreparedModel(model.card, KnownCameras(0), where, ways, FileSource(model))
    network, where, engine = model.network, choose_device(device), engine or "torch"
    if engine == AUTO and network.num_cameras:
        engine = "torch"  # which can be told the cameras
    ways = plans(engine, precision, where, safe_in_16_bits=model.record.safe_in_16_bits)
    card = ModelCard(model.path.name, model.sha256, network.dim, model.preprocessing)
    cameras = KnownCameras(network.num_cameras, model.first_camera)
    return PreparedModel(card, cameras, where, ways, Source(network, where, model.preprocessing.size))


def _file_plans(model: ExportedModel, device: torch.device, precision: str, engine: str | None) -> list[Plan]:
    own = model.format.engines
    if precision not in (AUTO, model.precision):
        raise ReidError(f"{model.path} computes in {model.precision}, got precision {precision}; leave it out")
    if engine not in (None, AUTO, *own):
        raise ReidError(f"{model.path} is computed by engine {' or '.join(own)}, got {engine}; leave it out")
    needs = {name: ENGINES[name].libraries[:1] for name in own}  # the others only convert a network
    names = [name for name in own if not absent(needs[name])] if engine == AUTO else [engine or own[0]]
    for name in names or own[:1]:
        check_engine(name, device, needs[name])
    return [Plan(name, model.label, "contiguous") for name in names]
