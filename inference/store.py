"""The files of an embedded gallery, and the check that two sets of embeddings may be compared.

A gallery is a folder: ``embeddings.npy`` (float32, N x D), ``paths.npy`` (N unicode strings) and ``meta.json``,
which is written last: where it lies, the gallery is complete.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.readers.market import UNKNOWN_ID, labels_of
from inference.fingerprint import Fingerprint
from utils.errors import ReidError

logger = logging.getLogger(__name__)

VECTORS, PATHS, META = "embeddings.npy", "paths.npy", "meta.json"


@dataclass(frozen=True)
class ModelCard:
    """What made a set of embeddings.

    Attributes:
        checkpoint: name of the file.
        sha256: of the file.
        size: height and width of the network's input, pixels.
        mean: of R, G, B in [0, 1], subtracted.
        std: of R, G, B, divided by.
        interpolation: of the resize.
        scale: low resolution that the images were given, 1 = none.
        dim: components of a vector, D.
        antialias: low-pass before lowering the resolution.
    """

    checkpoint: str
    sha256: str
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    scale: int
    dim: int
    antialias: bool = True

    def __str__(self) -> str:
        return f"{self.checkpoint} (sha256 {self.sha256[:12]})"


@dataclass(frozen=True)
class Embeddings:
    """Vectors and where their images lie.

    Attributes:
        vectors: (N, D) float32 as the network gives them for retrieval, not normalised.
        paths: (N,) unicode; empty for an image that came from no file.

    Raises:
        ReidError: if shapes or types do not fit one another.
    """

    vectors: NDArray[np.float32]
    paths: NDArray[np.str_]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32:
            raise ReidError(f"vectors must be (N, D) float32, got {self.vectors.shape} {self.vectors.dtype}")
        if self.paths.ndim != 1 or self.paths.dtype.kind != "U":
            raise ReidError(f"paths must be (N,) unicode strings, got {self.paths.shape} {self.paths.dtype}")
        if len(self.vectors) != len(self.paths):
            raise ReidError(f"vectors and paths must have one row per image, got {len(self.vectors)}, {len(self)}")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)


@dataclass(frozen=True)
class Gallery:
    """An embedded gallery on disk.

    Attributes:
        embeddings: read-only memory maps.
        model: what made them.
        centroids: one mean vector per identity (its path: the first image's) instead of one per image.
        person_ids: (N,) int64 from the file names, :data:`UNKNOWN_ID` where they tell none.
        camera_ids: (N,) likewise; unknown for centroids, which join cameras.
        precision: in which the backbone computed; empty where that is not known.
        fingerprint: of vectors and paths; None where it was not taken.
    """

    embeddings: Embeddings
    model: ModelCard
    centroids: bool
    person_ids: NDArray[np.int64]
    camera_ids: NDArray[np.int64]
    precision: str = ""
    fingerprint: Fingerprint | None = None

    def __post_init__(self) -> None:
        for name in ("person_ids", "camera_ids"):
            if (shape := getattr(self, name).shape) != (len(self.embeddings),):
                raise ReidError(f"{name} must have one entry for each of {len(self.embeddings)} rows, got {shape}")


def open_gallery(folder: Path) -> Gallery:
    """Open what create_embeddings.py has written.

    Raises:
        ReidError: if files are missing (an unfinished run leaves no meta.json), damaged, or disagree.
    """
    folder = Path(folder)
    missing = [name for name in (VECTORS, PATHS, META) if not (folder / name).is_file()]
    if missing:
        raise ReidError(
            f"{folder} must hold a finished gallery, but lacks {', '.join(missing)}; "
            "make it with inference/create_embeddings.py (an unfinished one goes on where it stopped)"
        )
    meta = read_meta(folder)
    try:
        model, rows, centroids = _card(meta["model"]), int(meta["rows"]), bool(meta["centroids"])
        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        paths = np.load(folder / PATHS, mmap_mode="r", allow_pickle=False)
        fingerprint = Fingerprint(**meta["fingerprint"]) if "fingerprint" in meta else None
    except (KeyError, TypeError, ValueError, EOFError) as error:
        raise ReidError(f"{folder} holds a damaged gallery: {type(error).__name__} {error}; make it anew") from error
    if vectors.shape != (rows, model.dim) or len(paths) != rows:
        raise ReidError(
            f"the files of {folder} disagree: {META} tells {rows} x {model.dim}, {VECTORS} has {vectors.shape} and "
            f"{PATHS} {len(paths)}; make it anew"
        )
    person_ids, camera_ids = labels_of(paths)
    if centroids:
        camera_ids = np.full_like(camera_ids, UNKNOWN_ID)
    precision = str(meta.get("precision", ""))
    return Gallery(Embeddings(vectors, paths), model, centroids, person_ids, camera_ids, precision, fingerprint)


def read_meta(folder: Path) -> dict[str, Any]:
    """What meta.json of a gallery says.

    Raises:
        ReidError: if it is no JSON object.
    """
    path = folder / META
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReidError(f"{path} must be JSON as create_embeddings.py writes it, but is not: {error}") from error
    if not isinstance(meta, dict):
        raise ReidError(f"{path} must hold a JSON object, got {type(meta).__name__}; make the gallery anew")
    return meta


def meta_text(model: ModelCard, fingerprint: Fingerprint, *, centroids: bool, origin: Mapping[str, Any]) -> str:
    """The text of meta.json.

    Args:
        model: what made the vectors.
        fingerprint: of vectors and paths.
        centroids: see :class:`Gallery`.
        origin: what else should be known later; no search depends on it.
    """
    shape = {"rows": fingerprint.rows, "centroids": centroids}
    meta = {**shape, "model": asdict(model), "fingerprint": asdict(fingerprint), **origin}
    return json.dumps(meta, indent=2) + "\n"


def check_same_model(gallery: ModelCard, query: ModelCard) -> None:
    """Refuse to compare embeddings of two models.

    Another low-resolution scale is no other model: low queries in a full gallery are the practical case.

    Raises:
        ReidError: naming both and what differs.
    """
    apart = ("sha256", "size", "mean", "std", "interpolation", "dim")
    differing = [name for name in apart if getattr(gallery, name) != getattr(query, name)]
    if differing:
        told = [name for name in differing if name != "sha256"]  # the file's hash stands beside its name
        shown = [f"{name} {getattr(gallery, name)} and {getattr(query, name)}" for name in told]
        apart_in = f", which differ in {'; '.join(shown)}" if shown else ""
        raise ReidError(
            f"gallery and queries must come from one model, got {gallery} and {query}{apart_in}; "
            "embed the gallery anew, or search with its model"
        )
    if gallery.scale != query.scale:
        logger.warning("the gallery was embedded at resolution x%d, the queries at x%d", gallery.scale, query.scale)
    elif gallery.scale > 1 and gallery.antialias != query.antialias:
        with_it, without = ("gallery", "queries") if gallery.antialias else ("queries", "gallery")
        logger.warning(
            "the resolution of the %s was lowered with antialiasing, that of the %s without (INPUT.LR_ANTIALIAS)",
            with_it,
            without,
        )


def _card(values: Mapping[str, Any]) -> ModelCard:
    """From JSON, where tuples have become lists."""
    known = {field.name for field in fields(ModelCard)}
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
    return ModelCard(**plain)
