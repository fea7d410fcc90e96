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
from inference.gallery.store import INDEX, MILVUS_FILE, Gallery
from inference.index import build_index, check_kind, milvus_collection
from inference.indexes.base import Index
from inference.indexes.faiss_index import build_faiss, load_faiss, parameters_for
from inference.indexes.milvus import MilvusIndex, Records
from utils.errors import ReidError
from utils.files import write_text

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
        milvus = milvus_collection(fingerprint, uri or str(folder / MILVUS_FILE), normalize=normalize)
        origin = {"kind": kind, "normalize": normalize, "uri": uri or str(folder / MILVUS_FILE)}
        _fill_once(milvus, gallery, path.with_suffix(".json"), {**origin, "vectors": asdict(fingerprint)})
        return milvus
    return _in_faiss(path, vectors, fingerprint, kind, normalize=normalize)


def open_living(gallery: Gallery, folder: Path, uri: str = "") -> MilvusIndex:
    """A collection of Milvus that begins as the gallery and may then change; others of the gallery stay as they are.

    Args:
        gallery: what it holds at first.
        folder: where the gallery lies.
        uri: as of :func:`load_or_build_index`.

    Raises:
        ReidError: see :class:`inference.indexes.milvus.MilvusIndex`.
    """
    fingerprint = gallery.fingerprint or fingerprint_of(gallery.embeddings.vectors, gallery.embeddings.paths)
    uri = uri or str(folder / MILVUS_FILE)
    index = milvus_collection(fingerprint, uri, normalize=True, ending="_living")
    path = folder / f"{INDEX}milvus_living.json"
    mark = {"kind": "milvus", "normalize": True, "uri": uri, "vectors": asdict(fingerprint)}
    if _read_mark(path) != mark or not len(index):
        _fill(index, gallery, path, mark)
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


def _fill_once(index: MilvusIndex, gallery: Gallery, path: Path, mark: Mapping[str, object]) -> None:
    if _read_mark(path) != mark or len(index) != len(gallery.embeddings):
        _fill(index, gallery, path, mark)


def _fill(index: MilvusIndex, gallery: Gallery, path: Path, mark: Mapping[str, object]) -> None:
    embeddings = gallery.embeddings
    path.unlink(missing_ok=True)
    logger.info("storing %d images in Milvus at %s", len(embeddings), mark["uri"])
    rows = np.arange(len(embeddings))
    index.fill(embeddings.vectors, Records(embeddings.paths, gallery.person_ids, gallery.camera_ids, rows))
    _write_mark(path, mark)


def _write_mark(path: Path, mark: Mapping[str, object]) -> None:
    write_text(path, json.dumps(mark, indent=2) + "\n")


def _read_mark(path: Path) -> dict[str, object]:
    try:
        mark = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        mark = None
    return mark if isinstance(mark, dict) else {}
