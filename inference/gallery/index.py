"""The index of a gallery on disk: loaded from beside its embeddings, else built and written there."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inference.gallery.fingerprint import Fingerprint, fingerprint_of
from inference.gallery.store import ADDED, INDEX, MILVUS_FILE, Gallery
from inference.index import build_index, check_kind, milvus_collection
from inference.indexes.base import Index
from inference.indexes.faiss_index import build_faiss, load_faiss, parameters_for
from inference.indexes.milvus import MilvusIndex
from inference.indexes.milvus_records import Records
from utils.errors import ReidError
from utils.files import write_text
from utils.images import is_image

logger = logging.getLogger(__name__)


def load_or_build_index(
    gallery: Gallery,
    folder: Path,
    kind: str = "flat",
    *,
    device: torch.device | str | None = None,
    normalize: bool = True,
    uri: str = "",
) -> Index:
    """The index of a gallery.

    A small JSON file beside an index tells to which embeddings it belongs; it is written last.

    Args:
        gallery: to search in.
        folder: where it lies.
        kind: one of :data:`inference.choices.INDEX_KINDS`.
        device: where ``flat`` computes; None = the CPU.
        normalize: cosine distance; False = squared Euclidean distance of the vectors as they are.
        uri: of a Milvus server, or a file ending in ``.db``; empty = ``milvus.db`` beside the embeddings.

    Raises:
        ReidError: as :func:`inference.index.build_index`, or if the index there belongs to other embeddings.
    """
    check_kind(kind, uri)
    vectors = gallery.embeddings.vectors
    if kind == "flat":
        return build_index(vectors, normalize=normalize, device=device)
    fingerprint = gallery.fingerprint or fingerprint_of(vectors, gallery.embeddings.paths)
    path = folder / f"{INDEX}{kind}_{'cosine' if normalize else 'l2'}.faiss"
    if kind == "milvus":
        uri = uri or str(folder / MILVUS_FILE)
        milvus = milvus_collection(fingerprint, uri, normalize=normalize)
        mark = path.with_suffix(".json")
        # Its name holds their hash, and nothing else is stored in it: a full one is theirs, wherever it lies.
        if _read_mark(mark).get("vectors") != asdict(fingerprint) or len(milvus) != len(vectors):
            mark.unlink(missing_ok=True)
            _fill(milvus, gallery, uri)
            _write_mark(mark, _milvus_mark(fingerprint, normalize=normalize))
        return milvus
    return _in_faiss(path, vectors, fingerprint, kind, normalize=normalize)


def open_living(gallery: Gallery, folder: Path, uri: str = "") -> MilvusIndex:
    """A collection of Milvus that begins as the gallery and may then change; others of the gallery stay as they are.

    It has its name only when it is full, so one of this name is never filled again, whatever is left in it.

    Args:
        gallery: what it holds at first.
        folder: where the gallery lies.
        uri: as of :func:`load_or_build_index`.

    Raises:
        ReidError: see :class:`inference.indexes.milvus.MilvusIndex`, or if the gallery has such a collection, but not
            there.
    """
    fingerprint = gallery.fingerprint or fingerprint_of(gallery.embeddings.vectors, gallery.embeddings.paths)
    uri = uri or str(folder / MILVUS_FILE)
    path = folder / f"{INDEX}milvus_living.json"
    before = _read_mark(path).get("vectors")
    elsewhere = (
        f"--index_uri must be the Milvus that holds the images of {folder}, which {path.name} tells of, but {uri} "
        f"has none of them; give the right one, or delete {path} to begin again with the gallery as it was embedded"
    )
    if before == asdict(fingerprint) and uri.endswith(".db") and not Path(uri).exists():
        raise ReidError(elsewhere)
    index = milvus_collection(fingerprint, uri, normalize=True, ending="_living")
    try:
        if index.is_draft:
            if before == asdict(fingerprint):
                index.discard()
                raise ReidError(elsewhere)
            if number := sum(is_image(file.name) for file in folder.glob(f"{ADDED}/*")):
                message = "%d images in %s were added to an earlier gallery; the new collection begins without them"
                logger.warning(message, number, folder / ADDED)
            _fill(index, gallery, uri)
            index.publish()
        if before != asdict(fingerprint):
            _write_mark(path, _milvus_mark(fingerprint, normalize=True))
    except BaseException:
        index.close()
        raise
    return index


def _in_faiss(
    path: Path, vectors: NDArray[np.float32], fingerprint: Fingerprint, kind: str, *, normalize: bool
) -> Index:
    mark = path.with_suffix(".json")
    if path.exists() and mark.exists():
        if _read_mark(mark).get("vectors") != asdict(fingerprint):
            raise ReidError(
                f"the index beside {mark} must belong to the embeddings of its folder, but it was built from others "
                "(or its JSON file is damaged); delete both files to build it again"
            )
        logger.info("index: %s", path)
        return load_faiss(path, vectors, normalize=normalize)
    parameters_for(kind, len(vectors), vectors.shape[1])  # refuses what cannot be built, before hours of work
    logger.info("building %s over %d vectors; the next search loads it from %s", kind, len(vectors), path)
    index = build_faiss(vectors, kind, normalize=normalize)
    index.save(path)
    origin = {"kind": kind, "normalize": normalize, "parameters": index.parameters}
    _write_mark(mark, {**origin, "vectors": asdict(fingerprint)})
    return index


def _fill(index: MilvusIndex, gallery: Gallery, uri: str) -> None:
    embeddings = gallery.embeddings
    logger.info("storing %d images in Milvus at %s", len(embeddings), uri)
    rows = np.arange(len(embeddings))
    index.fill(embeddings.vectors, Records(embeddings.paths, gallery.person_ids, gallery.camera_ids, rows))


def _milvus_mark(fingerprint: Fingerprint, *, normalize: bool) -> dict[str, object]:
    return {"kind": "milvus", "normalize": normalize, "vectors": asdict(fingerprint)}


def _write_mark(path: Path, mark: Mapping[str, object]) -> None:
    write_text(path, json.dumps(mark, indent=2) + "\n")


def _read_mark(path: Path) -> dict[str, object]:
    try:
        mark = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        mark = None
    return mark if isinstance(mark, dict) else {}
