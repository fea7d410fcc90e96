"""The index of a gallery on disk: found beside its embeddings, else built and written there."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from inference.faiss_index import build_faiss, load_faiss, parameters_for
from inference.fingerprint import Fingerprint, fingerprint_of
from inference.index import Index, build_index, check_kind, milvus_collection
from inference.milvus_index import Entities
from inference.store import Gallery
from utils.errors import ReidError
from utils.files import write_text

logger = logging.getLogger(__name__)

MILVUS_FILE = "milvus.db"
_STEM = "index"


@dataclass(frozen=True)
class IndexSettings:
    """How a gallery is searched.

    Attributes:
        kind: one of :data:`inference.index.KINDS`.
        normalize: cosine distance; False = squared euclidean distance of the vectors as they are.
        uri: of a Milvus server, or a file ending in ``.db``; empty = ``milvus.db`` beside the embeddings.
        device: where ``flat`` computes; None = the CPU.

    Raises:
        ReidError: for an unknown kind, or a URI where none is used.
    """

    kind: str = "flat"
    normalize: bool = True
    uri: str = ""
    device: str | None = None

    def __post_init__(self) -> None:
        check_kind(self.kind, self.uri)


def index_files(folder: Path) -> list[str]:
    """Names of the indices that lie beside a gallery, with the files that tell what they belong to."""
    found = (path.name for ending in ("faiss", "json") for path in folder.glob(f"{_STEM}_*.{ending}"))
    return [MILVUS_FILE, *sorted(found)]


def open_index(gallery: Gallery, folder: Path, settings: IndexSettings) -> Index:
    """The index of the gallery that lies in ``folder``.

    A small JSON file beside an index tells to which embeddings it belongs; it is written last.

    Raises:
        ReidError: as :func:`inference.index.build_index`, or if the index there belongs to other embeddings.
    """
    vectors = gallery.embeddings.vectors
    if settings.kind == "flat":
        return build_index(vectors, normalize=settings.normalize, device=settings.device)
    fingerprint = gallery.fingerprint or fingerprint_of(vectors, gallery.embeddings.paths)
    if settings.kind == "milvus":
        return _in_milvus(gallery, fingerprint, folder, settings)
    return _in_faiss(gallery, fingerprint, folder, settings)


def _in_faiss(gallery: Gallery, fingerprint: Fingerprint, folder: Path, settings: IndexSettings) -> Index:
    kind, normalize = settings.kind, settings.normalize
    path = folder / f"{_STEM}_{kind}_{'cosine' if normalize else 'l2'}.faiss"
    mark, vectors = path.with_suffix(".json"), gallery.embeddings.vectors
    if path.exists() and mark.exists():
        _check_mark(mark, fingerprint)
        logger.info("index: %s", path)
        return load_faiss(path, vectors, normalize=normalize)
    parameters_for(kind, len(vectors), vectors.shape[1])  # refuses what cannot be built, before hours of work
    logger.info("building %s over %d vectors; the next search finds it in %s", kind, len(vectors), path)
    index = build_faiss(vectors, kind, normalize=normalize)
    index.save(path)
    _write_mark(mark, fingerprint, {"kind": kind, "normalize": normalize, "parameters": index.parameters})
    return index


def _in_milvus(gallery: Gallery, fingerprint: Fingerprint, folder: Path, settings: IndexSettings) -> Index:
    uri = settings.uri or str(folder / MILVUS_FILE)
    index = milvus_collection(fingerprint, uri, normalize=settings.normalize)
    mark = folder / f"{_STEM}_milvus_{'cosine' if settings.normalize else 'l2'}.json"
    embeddings = gallery.embeddings
    made = {"kind": "milvus", "normalize": settings.normalize, "uri": uri}
    if _read_mark(mark) == {**made, "vectors": asdict(fingerprint)} and len(index) == len(embeddings):
        return index
    mark.unlink(missing_ok=True)
    logger.info("storing %d images in Milvus at %s", len(embeddings), uri)
    rows = np.arange(len(embeddings))
    index.fill(embeddings.vectors, Entities(embeddings.paths, gallery.person_ids, gallery.camera_ids, rows))
    _write_mark(mark, fingerprint, made)
    return index


def _write_mark(path: Path, fingerprint: Fingerprint, made: dict[str, object]) -> None:
    write_text(path, json.dumps({**made, "vectors": asdict(fingerprint)}, indent=2) + "\n")


def _read_mark(path: Path) -> dict[str, object]:
    try:
        mark = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        mark = None
    return mark if isinstance(mark, dict) else {}


def _check_mark(path: Path, fingerprint: Fingerprint) -> None:
    if _read_mark(path).get("vectors") != asdict(fingerprint):
        raise ReidError(
            f"the index beside {path} must belong to the embeddings of its folder, but it was built from others "
            "(or its JSON file is damaged); delete both files to build it anew"
        )
