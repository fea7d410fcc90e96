"""Weights to hand on: a folder that every place for weights opens, on this machine or on the Hugging Face Hub."""

import json
from pathlib import Path

import torch
from safetensors.torch import save

from engine.checkpoint import SECTION, section
from engine.model import TrainedModel
from engine.reports import without_paths
from engine.weights import read_weights
from inference.exports.base import Export, Format
from inference.exports.model_card import model_card
from modelling.weights.file import HANDED_ON
from modelling.weights.sources import OURS
from utils.errors import ReidError
from utils.files import write_text

_CONFIG, _CARD = "config.yml", "README.md"


def write_weights(model: TrainedModel, folder: Path) -> None:
    """Write ``model.safetensors``, which is enough to use the network, and for people its settings and a model card.

    The tensors are those of a checkpoint, in its names and types. Run, settings and report of the test are JSON in
    the metadata of the file, so they cannot get lost; neither can run code.

    Args:
        model: as :func:`engine.model.load_model` gives it.
        folder: exists.

    Raises:
        ReidError: if the report of the model is damaged, or the file is not what was written.
    """
    assert model.card is not None
    tensors = {f"network.{name}": tensor.cpu() for name, tensor in model.network.state_dict().items()}
    run = {**section(model.card, 0, (0, 0), 1), "origin": model.sha256}
    text = json.dumps({SECTION: run, "report": without_paths(model.report)})
    # Copies: the format knows no tensors that share memory.
    copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    # The library's own files may be read by their owner alone.
    (folder / OURS).write_bytes(save(copies, {"format": "pt", HANDED_ON: text}))
    write_text(folder / _CONFIG, model.card.config)
    write_text(folder / _CARD, model_card(model, model.card))
    _check(model, folder)


def _check(model: TrainedModel, folder: Path) -> None:
    """Open the folder as its user will, and compare.

    Raises:
        ReidError: if anything differs.
    """
    copy, own = read_weights(folder), model.network.state_dict()
    differences = [name for name in own if not torch.equal(own[name].cpu(), copy.state[name])]
    images = copy.preprocessing
    is_same = images is not None and not images.difference(model.preprocessing) and copy.origin == model.sha256
    if differences or not is_same:
        parts = ", ".join(differences[:3]) or "images or origin"
        raise ReidError(
            f"{folder / OURS} must be the model that was exported, but differs in {parts}; the disk may be damaged: "
            "export again into another folder"
        )


def _write(export: Export, folder: Path) -> None:
    write_weights(export.model, folder)


SAFETENSORS = Format(_write, (OURS, _CONFIG, _CARD), engines=(), libraries=())
