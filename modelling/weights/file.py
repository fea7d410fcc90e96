"""Read a weight file without running anything in it, and check that its tensors fit a network."""

import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from textwrap import shorten
from typing import Any
from warnings import catch_warnings, simplefilter
from zipfile import ZipFile, is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from utils.errors import ReidError, one_line
from utils.files import nearest_path

HANDED_ON = "snu-reid"
"""The key in the metadata of a safetensors file under which a checkpoint has all that is no tensor, as JSON."""

# Checkpoints of centroids-reid (Lightning 1.1, yacs) hold objects of these classes beside their tensors, and those of
# self-supervised training (DINO) the arguments of its command line. They are dictionaries or never used, so a plain
# dictionary replaces each of them and none of their code runs.
_BOOKKEEPING = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "yacs.config.CfgNode",
    "argparse.Namespace",
)
# torchreid stores its best rank-1 as a number of NumPy. Nothing reads such numbers, so our class stands for each, and
# no code of NumPy runs on what the file says.
_NUMBERS = (
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    "numpy.dtype",
)
# First bytes of a file of torch.save: a zip archive, or a pickle of protocol 2 before torch 1.6.
_BEGINNINGS = (b"PK\x03\x04", b"\x80\x02")
# The keys under which files store their tensors: torchreid and Lightning, our first version, fast-reid, others.
_WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "params"),
    *("state_dict_ema", "model_ema", "ema", "params_ema"),
    *("teacher", "student", "encoder"),  # of self-supervised training
)
_LEVELS = 4  # of mappings in one another


class NumPyNumber:
    """Stands for a number or a dtype of NumPy in a file."""

    def __init__(self, *_: object) -> None:
        """Take what NumPy would be called with."""

    def __setstate__(self, _: object) -> None:
        """Take the state of a dtype."""


def read_content(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read the mapping that a file holds, its tensors on the CPU.

    The file is read with ``weights_only=True``; the bookkeeping of centroids-reid comes as plain dictionaries, and a
    number of NumPy as a :class:`NumPyNumber`.

    Args:
        path: of a file that ``torch.save`` or safetensors wrote.
        mmap: read a tensor only where it is used.

    Raises:
        ReidError: if the file is missing, holds other objects (the message names the first), cannot be read or is not
            a mapping.
    """
    if not path.is_file():
        raise ReidError(f"MODEL.PRETRAIN_PATH must be an existing file, got {path}{_proposal(path)}")
    if _is_safetensors(path):
        return _read_safetensors(path)
    known: list[Any] = [*((OrderedDict, name) for name in _BOOKKEEPING), *((NumPyNumber, name) for name in _NUMBERS)]
    try:
        with torch.serialization.safe_globals(known), catch_warnings():
            simplefilter("ignore")  # the error says all
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)  # noqa: TID251 (the one place)
    except Exception as error:  # other files may raise anything
        raise ReidError(
            f"{path} cannot be loaded as plain tensors (weights_only=True): {_reason(path, error)}"
        ) from error
    if not isinstance(content, dict):
        raise ReidError(
            f"{path} must hold a mapping of tensors, got {type(content).__name__}; write the state_dict() of its "
            "network with torch.save"
        )
    return content


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins as one of safetensors: the length of a header in JSON, then the header."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{"


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()  # the library opens no path that is not UTF-8
        tensors = dict(load(content))
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        text = header.get("__metadata__", {}).get(HANDED_ON)
        return tensors if text is None else {**_mapping(text), "state_dict": tensors}
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ReidError(
            f"{path} begins like a file of safetensors, but cannot be read ({one_line(error)[:200]}); copy or "
            "download it again"
        ) from error


def _mapping(text: str) -> dict[str, Any]:
    """A mapping in JSON.

    Raises:
        ValueError: if the text is none.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError(f"its metadata {HANDED_ON} is no mapping")
    return values


def is_state(content: object) -> bool:
    """Whether it is what ``state_dict()`` gives: names and plain tensors."""
    return isinstance(content, Mapping) and all(
        isinstance(name, str) and _is_plain(tensor) for name, tensor in content.items()
    )


def states(content: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Every mapping of names to tensors in a file, the outer ones first, and under which keys it lies.

    Of mappings side by side those under the usual keys come first: an average over the training (``ema``) is taken
    where the file has no other weights.
    """
    level: list[tuple[str, Mapping[Any, Any]]] = [("", content)]
    for _ in range(_LEVELS):
        yield from ((keys, mapping) for keys, mapping in level if mapping and is_state(mapping))
        level = [
            (f"{keys}.{key}".strip("."), mapping[key])
            for keys, mapping in level
            for key in sorted(mapping, key=_rank)
            if isinstance(mapping[key], Mapping)
        ]


def _rank(key: object) -> int:
    return _WRAPPERS.index(key) if isinstance(key, str) and key in _WRAPPERS else len(_WRAPPERS)


def _is_plain(tensor: object) -> bool:
    """Whether it is a tensor of real numbers that lie in memory, one after another."""
    return (
        isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_complex() or tensor.is_quantized)
    )


def check_finite(tensors: Mapping[str, Tensor], origin: str) -> None:
    """Refuse tensors that hold NaN or infinity.

    Args:
        tensors: that fit a network of float32, by name.
        origin: what the message calls the file.

    Raises:
        ReidError: if one does; the message names the first three.
    """
    names = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor.to(torch.float32)).all())]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ReidError(
            f"{origin} must hold finite numbers, but has NaN or infinity in {', '.join(names[:3])}{more}: its "
            "training diverged; take an earlier checkpoint, or train again with a lower SOLVER.BASE_LR"
        )


def check_fit(target: Mapping[str, Tensor], tensors: Mapping[str, Tensor], optional: Set[str], origin: str) -> None:
    """Refuse tensors that do not fit a network.

    Args:
        target: the network's tensors by name.
        tensors: the file's, under the same names.
        optional: names that may be missing; the counters of batches, which old files lack, always may.
        origin: what the message calls the file.

    Raises:
        ReidError: if a tensor is missing, unknown, of another shape or of whole numbers (quantized); the message
            names the first three of each.
    """
    missing = [
        f"{name} is missing"
        for name in target
        if name not in tensors and name not in optional and not name.endswith("num_batches_tracked")
    ]
    unknown = [f"{name} is unknown" for name in tensors if name not in target]
    other = [
        f"{name} has shape {tuple(tensor.shape)} instead of {tuple(target[name].shape)}"
        for name, tensor in tensors.items()
        if name in target and tensor.shape != target[name].shape
    ]
    whole = [
        f"{name} has {str(tensor.dtype).removeprefix('torch.')} instead of fractions"
        for name, tensor in tensors.items()
        if name in target and target[name].is_floating_point() and not tensor.is_floating_point()
    ]
    problems = [
        text
        for group in (missing, unknown, other, whole)
        for text in (*group[:3], *([f"and {len(group) - 3} more such"] if len(group) > 3 else []))
    ]
    if problems:
        raise ReidError(f"{origin} does not fit the network of MODEL.NAME: {'; '.join(problems)}")


def _proposal(path: Path) -> str:
    """The end of a message about a file that is missing: what lies in its folder, or else the nearest path."""
    if path.parent.is_dir() and (beside := sorted(file.name for file in path.parent.glob("*.pth"))):
        return f"; its folder has {', '.join(beside)}"
    near = nearest_path(path)
    return f"; did you mean {near}?" if near else ""


def _reason(path: Path, error: Exception) -> str:
    """The cause, out of torch's long message."""
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        return "it is empty; copy or download it again"
    if not start.startswith(_BEGINNINGS):
        return f"it is not a file of torch.save or safetensors (it begins with {start!r}); copy or download it again"
    if "TorchScript" in str(error):
        return "it is a TorchScript archive; write the state_dict() of its module with torch.save"
    if is_zipfile(path) and not any(name.endswith("data.pkl") for name in ZipFile(path).namelist()):
        return "it is a zip archive, but none of torch.save; give a file of torch.save or safetensors"
    if isinstance(error, (EOFError, OSError, RuntimeError)):
        return "it begins like a file of torch.save, but is truncated or damaged; copy or download it again"
    text = re.sub(r"\x1b\[\d*m", "", " ".join(str(error).split()))
    if match := re.search(r"(?:GLOBAL|class|type) ([\w.]+\.[\w.]+)", text):
        return (
            f"it holds an object of {match[1]}, and loading one can run any code; if you trust the file, take its "
            "tensors out once: docs/model_zoo.md, 'Files that hold more than tensors'"
        )
    return shorten(text.rpartition("WeightsUnpickler error: ")[2], 200) or type(error).__name__
