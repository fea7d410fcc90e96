"""The files of an embedded gallery, and the check that two sets of embeddings may be compared.

A gallery is a folder: ``embeddings.npy`` (float32, N x D), ``paths.npy`` (N unicode strings) and ``meta.json``,
which is written last: where it lies, the gallery is complete. Indices and results of searches may lie beside them.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.preprocessing import Difference, Preprocessing
from datasets.readers.market import UNKNOWN_ID, labels_of
from inference.gallery.fingerprint import Fingerprint
from utils.errors import ReidError, one_line

logger = logging.getLogger(__name__)

VECTORS, PATHS, META = "embeddings.npy", "paths.npy", "meta.json"
INDEX, MILVUS_FILE = "index_", "milvus.db"  # the beginning of an index's name and of its JSON file's; Milvus Lite
ADDED = "added"
"""The folder of a gallery that holds the images that clients of the service have added."""
RESULTS = CSV, NPZ, QUERY_VECTORS, QUERY_PATHS, PICTURES = (
    "results.csv", "results.npz", "query_embeddings.npy", "query_paths.npy", "ranked_lists",
)  # fmt: skip
"""What a search writes."""


@dataclass(frozen=True)
class ModelCard:
    """What made a set of embeddings.

    Attributes:
        checkpoint: name of the file.
        sha256: of the file.
        dim: components of a vector, D.
        preprocessing: of the images.
    """

    checkpoint: str
    sha256: str
    dim: int
    preprocessing: Preprocessing

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelCard":
        """From what :meth:`as_dict` gives; galleries of earlier versions lack ``antialias``.

        Raises:
            ReidError, KeyError, TypeError, ValueError: if it is damaged.
        """
        preprocessing = Preprocessing.from_dict({"antialias": True, **values, "scale": int(values["scale"])})
        return cls(str(values["checkpoint"]), str(values["sha256"]), int(values["dim"]), preprocessing)

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, those of the preprocessing among them, of JSON's types."""
        own = {"checkpoint": self.checkpoint, "sha256": self.sha256, "dim": self.dim}
        return {**own, **self.preprocessing.as_dict()}

    def __str__(self) -> str:
        return f"{self.checkpoint} (sha256 {self.sha256[:12]})"


@dataclass(frozen=True)
class Embeddings:
    """Vectors and where their images lie.

    Attributes:
        vectors: (N, D) float32 as the network gives them for retrieval, not normalized.
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
        camera_ids: (N,) int64 from the file names; unknown for centroids, which join cameras.
        precision: in which the backbone computed; empty where that is not known.
        fingerprint: of vectors and paths; None where it was not taken.
        told_cameras: whether the network was told the cameras of the images.
    """

    embeddings: Embeddings
    model: ModelCard
    centroids: bool
    person_ids: NDArray[np.int64]
    camera_ids: NDArray[np.int64]
    precision: str = ""
    fingerprint: Fingerprint | None = None
    told_cameras: bool = False

    def __post_init__(self) -> None:
        for name in ("person_ids", "camera_ids"):
            if (shape := getattr(self, name).shape) != (len(self.embeddings),):
                raise ReidError(f"{name} must have one entry for each of {len(self.embeddings)} rows, got {shape}")


def open_gallery(folder: str | Path) -> Gallery:
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
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        model, rows, centroids = ModelCard.from_dict(meta["model"]), int(meta["rows"]), bool(meta["centroids"])
        fingerprint = _fingerprint(meta["fingerprint"]) if "fingerprint" in meta else None
        arrays = [np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in (VECTORS, PATHS)]
        embeddings = Embeddings(*arrays)
    except OSError:
        raise
    except Exception as error:  # a damaged file may raise anything
        reason = f"{type(error).__name__}: {one_line(error)[:200]}"
        raise ReidError(f"{folder} holds a damaged gallery ({reason}); make it again") from error
    if embeddings.vectors.shape != (rows, model.dim):
        raise ReidError(
            f"the files of {folder} disagree: {META} says {rows} x {model.dim}, {VECTORS} has "
            f"{embeddings.vectors.shape}; make it again"
        )
    person_ids, camera_ids = labels_of(embeddings.paths)
    if centroids:
        camera_ids = np.full_like(camera_ids, UNKNOWN_ID)
    precision, told_cameras = str(meta.get("precision", "")), bool(meta.get("cameras", False))
    return Gallery(embeddings, model, centroids, person_ids, camera_ids, precision, fingerprint, told_cameras)


def _fingerprint(values: Mapping[str, Any]) -> Fingerprint:
    return Fingerprint(int(values["rows"]), int(values["dim"]), str(values["digest"]))


def meta_text(model: ModelCard, fingerprint: Fingerprint, *, centroids: bool, origin: Mapping[str, Any]) -> str:
    """The text of meta.json.

    Args:
        model: what made the vectors.
        fingerprint: of vectors and paths.
        centroids: see :class:`Gallery`.
        origin: what else should be known later; no search depends on it.
    """
    shape = {"rows": fingerprint.rows, "centroids": centroids}
    meta = {**shape, "model": model.as_dict(), "fingerprint": asdict(fingerprint), **origin}
    return json.dumps(meta, indent=2) + "\n"


def gallery_files(folder: Path) -> list[str]:
    """Names of the files that may lie in a gallery's folder and belong to it: its own, its indices, its results."""
    indices = sorted(path.name for ending in ("faiss", "json") for path in folder.glob(f"{INDEX}*.{ending}"))
    return [META, VECTORS, PATHS, MILVUS_FILE, *indices, *RESULTS]


def check_same_model(gallery: ModelCard, query: ModelCard) -> None:
    """Refuse to compare embeddings of two models.

    Another low-resolution scale is no other model: low queries in a full gallery are the practical case.

    Raises:
        ReidError: naming both and what differs.
    """
    ours, theirs = gallery.preprocessing, query.preprocessing
    differences = ours.difference(theirs)
    if gallery.dim != query.dim:
        differences.append(Difference("dim", gallery.dim, query.dim))
    if differences or gallery.sha256 != query.sha256:  # the file's hash stands beside its name
        fields = "; ".join(f"{row.name} {row.own} and {row.other}" for row in differences)
        raise ReidError(
            f"gallery and queries must come from one model, got {gallery} and {query}"
            f"{f', which differ in {fields}' if fields else ''}; embed the gallery again, or search with its model"
        )
    if ours.scale != theirs.scale:
        logger.warning("the gallery was embedded at resolution x%d, the queries at x%d", ours.scale, theirs.scale)
    elif ours.scale > 1 and ours.antialias != theirs.antialias:
        sides = ("gallery", "queries") if ours.antialias else ("queries", "gallery")
        logger.warning(
            "the resolution of the %s was lowered with antialiasing, that of the %s without (INPUT.LR_ANTIALIAS)",
            *sides,
        )


def check_comparable(gallery: Gallery, queries: ModelCard, precision: str, *, told_cameras: bool) -> None:
    """Refuse a gallery of another model; warn of another precision, and if the network is told the cameras once only.

    Args:
        gallery: that is searched.
        queries: what makes their vectors.
        precision: in which it computes.
        told_cameras: whether it is told their cameras.

    Raises:
        ReidError: see :func:`check_same_model`.
    """
    check_same_model(gallery.model, queries)
    if gallery.precision not in ("", precision):
        message = "the gallery was embedded in %s, the queries in %s; see --precision"
        logger.warning(message, gallery.precision, precision)
    if gallery.told_cameras != told_cameras:
        message = "the gallery was embedded with TEST.CAMERAS %s, the queries with %s: set both alike"
        logger.warning(message, gallery.told_cameras, told_cameras)
