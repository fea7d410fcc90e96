"""Open an exported file: what lies beside it says what it takes and which checkpoint it comes from."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs import SCHEMA
from configs.schema import checked_value
from datasets.preprocessing import RESOLUTION, Preprocessing
from engine.model import TrainedModel, load_model
from engine.preprocessing import KEYS
from engine.reports import without_paths
from engine.settings import Settings
from inference.engines import Source
from inference.exports import FORMATS, Export, Format
from inference.exports.inputs import INPUTS
from inference.gallery.store import ModelCard
from utils.errors import ReidError, one_line
from utils.files import sha256_of

logger = logging.getLogger(__name__)

_AGAIN = "export it again with inference/export.py"


@dataclass(frozen=True)
class ExportedModel:
    """A file that embeds.

    Attributes:
        path: the file.
        card: the checkpoint that it was exported from, and the images.
        format: of the file.
        input: what it takes, one of :data:`inference.exports.inputs.INPUTS`.
        unit: its vectors have length 1.
        precision: in which it computes, ``fp32`` or ``int8``.
        report: of a test of the checkpoint, see :func:`engine.reports.report_of`; empty = there is none. Of a file
            that computes in 8 bits it says so in ``searched_in``, for the test was in float.
    """

    path: Path
    card: ModelCard
    format: Format
    input: str
    unit: bool
    precision: str
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The precision as a gallery notes it: vectors of length 1 do not mix with others."""
        return f"{self.precision}-unit" if self.unit else self.precision


class FileSource(Source):
    """An exported file for an engine.

    Args:
        model: the file.
    """

    def __init__(self, model: ExportedModel) -> None:
        self.device, self.size = torch.device("cpu"), model.card.preprocessing.size
        self._model, self._input, self._files = model, INPUTS[model.input], model.format.files[1:]

    @property
    def name(self) -> str:
        """Tells networks of different speed apart."""
        return f"file {self._model.card.sha256[:8]} {self._model.precision}"

    @property
    def graph(self) -> bytes:
        """The content of the file: a library may refuse its path, which need not be UTF-8."""
        return self._model.path.read_bytes()

    @property
    def weights(self) -> bytes:
        """The content of the file beside it, if the format has one."""
        return b"".join(self._model.path.with_suffix(Path(name).suffix).read_bytes() for name in self._files)

    def feed(self, images: Tensor) -> Tensor:
        """What the file takes, of normalized images (N, 3, H, W) float32."""
        return self._input.feed(images, self._model.card.preprocessing)


def open_model(settings: Settings) -> TrainedModel | ExportedModel:
    """The model of MODEL.PRETRAIN_PATH: an exported file, or weights.

    Raises:
        ReidError: as :func:`open_exported` or :func:`engine.model.load_model`.
    """
    path = Path(settings.cfg.MODEL.PRETRAIN_PATH)
    return open_exported(path, settings) if _format_of(path) else load_model(settings)


def open_exported(path: Path, settings: Settings) -> ExportedModel:
    """An exported file, compared with what lies beside it.

    Args:
        path: of the file, with an ending of :data:`inference.exports.FORMATS`.
        settings: of the user; of those of the images only the low resolution may differ from the export's.

    Raises:
        ReidError: if a file is missing or damaged, or the settings contradict it.
    """
    row, card = _format_of(path), path.with_suffix(".json")
    assert row is not None
    if missing := [str(file) for file in (path, card) if not file.is_file()]:
        raise ReidError(f"{path} must be an exported file with {card.name} beside it, but lacks {', '.join(missing)}")
    try:
        values = json.loads(card.read_text(encoding="utf-8"))
        model = _from_dict(path, row, values)
        digests = {str(ending): str(digest) for ending, digest in values["files"].items()}
    except OSError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise ReidError(f"{card} is damaged ({type(error).__name__}: {one_line(error)[:200]}); {_AGAIN}") from error
    for file in (path.with_suffix(Path(file).suffix) for file in model.format.files):
        if not file.is_file() or sha256_of(file) != digests.get(file.suffix):
            raise ReidError(f"{file} is not the file that {card.name} describes, or is damaged; {_AGAIN}")
    return replace(model, card=replace(model.card, preprocessing=_images(model.card.preprocessing, settings, path)))


def card_text(export: Export, folder: Path, name: str) -> str:
    """The text of the file beside an exported one.

    Args:
        export: what was exported.
        folder: of the exported files.
        name: of the format.
    """
    model, options = export.model, export.options
    card = ModelCard(model.path.name, model.sha256, model.network.dim, model.preprocessing)
    files = {Path(file).suffix: sha256_of(folder / file) for file in FORMATS[name].files}
    own = {"format": name, "input": options.input, "unit": options.unit, "precision": options.precision}
    report = {"report": without_paths(model.report)} if model.report else {}
    return json.dumps({**own, "files": files, **card.as_dict(), **report}, indent=2) + "\n"


def _format_of(path: Path) -> Format | None:
    """The format of an exported file, by its ending; None for other files."""
    rows = {Path(row.files[0]).suffix: row for row in FORMATS.values() if row.engines}
    return rows.get(path.suffix.lower())


def _from_dict(path: Path, row: Format, values: Mapping[str, Any]) -> ExportedModel:
    """The model that the text beside it describes.

    Raises:
        ReidError, KeyError, TypeError, ValueError: if that is damaged.
    """
    card, options = ModelCard.from_dict(values), (values["input"], values["unit"], values["precision"])
    for name, value in card.preprocessing.as_dict().items():
        checked_value(SCHEMA, KEYS[name], value)
    if options[0] not in INPUTS or not isinstance(options[1], bool) or options[2] not in ("fp32", "int8"):
        raise ReidError(f"input, unit and precision are {options}")
    if card.dim < 1:
        raise ReidError(f"dim must be 1 or more, got {card.dim}")
    report = dict(values.get("report", {}))
    if report and options[2] == "int8":
        report["searched_in"] = "8 bits"
    return ExportedModel(path, card, row, *options, report)


def _images(own: Preprocessing, settings: Settings, path: Path) -> Preprocessing:
    """The images of the export at the resolution that the user wants.

    Raises:
        ReidError: if the user wants images of another size or normalization.
    """
    for name, value in own.as_dict().items():
        wish = settings.explicit.get(key := KEYS[name], value)
        if name in RESOLUTION or list(wish) == list(value):
            continue
        if key in settings.overrides:
            raise ReidError(f"{path} keeps the images of its export, {key} {value}, got {wish}; leave it out")
        logger.warning("%s %s in the configuration file is left out: the export has %s", key, wish, value)
    return replace(own, **{name: settings.explicit.get(KEYS[name], getattr(own, name)) for name in RESOLUTION})
