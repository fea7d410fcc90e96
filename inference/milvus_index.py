"""A gallery in Milvus: a local file (Milvus Lite), or a server that many readers share, by the same code.

Every image is an entity of its path (the key), its position among the embeddings, its identity, its camera and
its vector. Wang et al., Milvus: A Purpose-Built Vector Data Management System, SIGMOD 2021.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from inference.milvus_server import Server, pymilvus
from inference.neighbours import NOT_FOUND, Neighbours, Vectors, checked_vectors, neighbours_asked
from utils.blocks import blocks_of
from utils.errors import ReidError

MOST_NEIGHBOURS = 16384  # that a Milvus server gives to one query

_FIELDS = _PATH, _IDENTITY, _CAMERA, _POSITION = "path", "identity", "camera", "position"
_VECTOR = "vector"
_LONGEST_PATH = 4096  # bytes
_BATCH_BYTES = 16 * 2**20  # of one request; a server accepts 64 MiB
_BYTES_BESIDE_VECTOR = 1024  # of an entity
_HITS_AT_ONCE = 100_000  # of one answer


class Entities(NamedTuple):
    """What is stored with each of N vectors.

    Attributes:
        paths: (N,) the keys: an image given again replaces the earlier one.
        person_ids: (N,) integers.
        camera_ids: (N,) integers.
        positions: (N,) integers, places among the embeddings on disk; :data:`NOT_FOUND` where there are none.
    """

    paths: Sequence[str] | np.ndarray
    person_ids: np.ndarray
    camera_ids: np.ndarray
    positions: np.ndarray


class Hits(NamedTuple):
    """What was found for each of Q queries, nearest first; places left over as in :class:`Neighbours`.

    Attributes:
        distances: (Q, k) float32.
        paths: (Q, k) objects of type str, empty where nothing was found.
        person_ids: (Q, k) int64.
        camera_ids: (Q, k) int64.
        positions: (Q, k) int64.
    """

    distances: np.ndarray
    paths: np.ndarray
    person_ids: np.ndarray
    camera_ids: np.ndarray
    positions: np.ndarray


class MilvusIndex:
    """One collection; made where it is absent."""

    def __init__(self, server: Server, collection: str, dim: int, *, normalize: bool = True) -> None:
        """Connect.

        Args:
            server: where to.
            collection: its name: letters, digits and underscores.
            dim: D of the vectors.
            normalize: cosine distance; False = squared euclidean distance.

        Raises:
            ReidError: if pymilvus is not installed, the server does not answer or refuses, or the collection
                is of another dimension or distance.
        """
        self._server, self._collection, self._dim = server, collection, dim
        self._metric = "COSINE" if normalize else "L2"
        self._client = server.connect()
        if self._ask("has_collection"):
            self._check_collection()
            self._ask("load_collection")  # a file that was closed, or a server started anew, has it on disk only
        else:
            self._create()

    def __len__(self) -> int:
        """Number of images."""
        return int(self._ask("query", filter="", output_fields=["count(*)"])[0]["count(*)"])

    def close(self) -> None:
        """Let the connection, or the local file, go."""
        self._client.close()

    def upsert(self, vectors: Vectors, entities: Entities) -> None:
        """Add images, or replace those of the same paths, in batches.

        Raises:
            ReidError: if lengths differ, a path is empty or too long, or the server does not answer; the
                batches before are stored then, and the whole can be given again.
        """
        matrix = checked_vectors("vectors", vectors, self._dim)
        _check_entities(len(matrix), entities)
        for rows in blocks_of(len(matrix), max(1, _BATCH_BYTES // (4 * self._dim + _BYTES_BESIDE_VECTOR))):
            # The library takes entities one by one.
            columns = zip(*(np.asarray(column[rows]).tolist() for column in entities), strict=True)
            numbers = matrix[rows].float().cpu().numpy()
            batch = [
                {**dict(zip(_FIELDS, entity, strict=True)), _VECTOR: vector}
                for entity, vector in zip(columns, numbers, strict=True)
            ]
            self._ask("upsert", batch)

    def fill(self, vectors: Vectors, entities: Entities) -> None:
        """Make ``entities`` the content of a collection that is theirs alone.

        Raises:
            ReidError: as :meth:`upsert`, or if the collection then holds another number of images.
        """
        self.upsert(vectors, entities)
        if (stored := len(self)) != len(vectors):
            raise ReidError(
                f"collection {self._collection} at {self._server.uri} must hold {len(vectors)} images after storing, "
                f"but holds {stored}; their paths must differ, and if they do, drop the collection and repeat"
            )

    def delete(self, paths: Sequence[str]) -> None:
        """Remove images by their paths; unknown ones are ignored.

        Raises:
            ReidError: if the server does not answer.
        """
        for rows in blocks_of(len(paths), _BATCH_BYTES // _BYTES_BESIDE_VECTOR):
            self._ask("delete", ids=[str(path) for path in paths[rows]])

    def asked(self, k: int) -> int:
        """See :meth:`inference.neighbours.Index.asked`."""
        number = neighbours_asked(k, max(1, len(self)))
        if number > MOST_NEIGHBOURS:
            raise ReidError(
                f"k must be at most {MOST_NEIGHBOURS} in Milvus, got {number}; ask for fewer, or use flat"
            )
        return number

    def search(self, queries: Vectors, k: int = 0) -> Neighbours:
        """See :meth:`inference.neighbours.Index.search`; indices are the positions given to :meth:`upsert`."""
        hits = self.find(queries, k)
        return Neighbours(hits.distances, hits.positions)

    def find(self, queries: Vectors, k: int = 0, where: str = "", other_cameras: np.ndarray | None = None) -> Hits:
        """The ``k`` nearest images of each query with all that is stored with them.

        Args:
            queries: (Q, D) floating point.
            k: neighbours per query; 0 = all.
            where: an expression of Milvus on ``identity``, ``camera``, ``path`` and ``position`` that images
                must meet, such as ``camera in [1, 2] and identity != 7``.
            other_cameras: (Q,) integers: a camera for each query whose images are left out, usually its own.

        Raises:
            ReidError: if an argument is wrong, or the server does not answer.
        """
        k = self.asked(k)
        given = checked_vectors("queries", queries, self._dim).float().cpu().numpy()
        hits = _nothing_found(len(given), k)
        for rows, expression in _by_camera(len(given), where, other_cameras):
            for part in blocks_of(len(rows), max(1, _HITS_AT_ONCE // k)):
                self._fill(hits, rows[part], given[rows[part]], expression)
        return hits

    def _fill(self, hits: Hits, rows: np.ndarray, queries: np.ndarray, expression: str) -> None:
        k = hits.distances.shape[1]
        answer = self._ask("search", queries, expression, k, output_fields=list(_FIELDS))
        for row, found in zip(rows, answer, strict=True):
            scores = np.array([hit["distance"] for hit in found], np.float32)
            distances = 1.0 - scores if self._metric == "COSINE" else scores
            hits.distances[row, : len(found)] = distances.clip(0.0)
            for column, field in zip(hits[1:], _FIELDS, strict=True):
                column[row, : len(found)] = [hit["entity"][field] for hit in found]

    def _ask(self, request: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 (optional library)
        call = getattr(self._client, request)
        return self._server.ask(lambda: call(self._collection, *arguments, timeout=self._server.timeout, **options))

    def _create(self) -> None:
        kinds = pymilvus().DataType
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(_PATH, kinds.VARCHAR, is_primary=True, max_length=_LONGEST_PATH)
        for field in (_IDENTITY, _CAMERA, _POSITION):
            schema.add_field(field, kinds.INT64)
        schema.add_field(_VECTOR, kinds.FLOAT_VECTOR, dim=self._dim)
        index = self._client.prepare_index_params()
        index.add_index(field_name=_VECTOR, index_type="AUTOINDEX", metric_type=self._metric)
        # Strong: who has upserted or deleted sees it in the next search.
        self._ask("create_collection", schema=schema, index_params=index, consistency_level="Strong")

    def _check_collection(self) -> None:
        fields = {field["name"]: field["params"] for field in self._ask("describe_collection")["fields"]}
        found = (fields.get(_VECTOR, {}).get("dim"), self._ask("describe_index", index_name=_VECTOR)["metric_type"])
        if (str(found[0]), found[1]) != (str(self._dim), self._metric):
            raise ReidError(
                f"collection {self._collection} at {self._server.uri} must hold vectors of {self._dim} dimensions "
                f"compared by {self._metric}, got {found[0]} and {found[1]}; choose another name"
            )


def _by_camera(num_queries: int, where: str, other_cameras: np.ndarray | None) -> Iterator[tuple[np.ndarray, str]]:
    """Rows of queries that share an expression, with it."""
    if other_cameras is None:
        yield np.arange(num_queries), where
        return
    cameras = np.asarray(other_cameras)
    if cameras.shape != (num_queries,):
        raise ReidError(f"other_cameras must name a camera for each of {num_queries} queries, got {cameras.shape}")
    for camera in np.unique(cameras).tolist():
        rule = f"{_CAMERA} != {int(camera)}"
        yield np.flatnonzero(cameras == camera), f"({where}) and {rule}" if where else rule


def _nothing_found(num_queries: int, k: int) -> Hits:
    shape = (num_queries, k)
    numbers = [np.full(shape, NOT_FOUND, np.int64) for _ in range(3)]
    return Hits(np.full(shape, np.inf, np.float32), np.full(shape, "", object), *numbers)


def _check_entities(number: int, entities: Entities) -> None:
    lengths = [len(column) for column in entities]
    if lengths != [number] * len(lengths):
        raise ReidError(f"entities must have one entry for each of {number} vectors, got {lengths}; give all of them")
    for path in map(str, entities.paths):
        if not path.isascii() and path != path.encode("utf-8", "ignore").decode():
            raise ReidError(f"paths must be UTF-8 in Milvus, got {path[:80]!r}; rename the file, or use flat")
        if not 0 < len(path.encode("utf-8")) <= _LONGEST_PATH:
            raise ReidError(f"paths must have 1 to {_LONGEST_PATH} bytes, got {path[:80]!r}; rename the file")
