"""A gallery in Milvus: a local file (Milvus Lite), or a server that many readers share, by the same code.

Every image is a record of its path (the key), its identity, its camera, its position among the embeddings on disk,
and its vector. Wang et al., Milvus: A Purpose-Built Vector Data Management System, SIGMOD 2021.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from inference.indexes.base import SearchResult, Vectors, as_matrix, finite_rows, resolve_k
from inference.indexes.milvus_records import LONGEST_PATH, Matches, Records, check_records, no_matches
from inference.indexes.milvus_server import NOT_LOADED, Server, pymilvus
from utils.blocks import blocks_of
from utils.errors import ReidError

MAX_NEIGHBORS = 16384  # that a Milvus server gives to one query
REQUEST_BYTES = 16 * 2**20  # of one request; a server accepts 64 MiB
ANSWER_RECORDS = 100_000  # of one answer

_FIELDS = _PATH, _IDENTITY, _CAMERA, _POSITION = "path", "identity", "camera", "position"
_VECTOR = "vector"
_BYTES_BESIDE_VECTOR = 1024  # of a record
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r"})


class MilvusIndex:
    """One collection; made where it is absent.

    Attributes:
        is_draft: it goes by the name ``draft`` until :meth:`publish`.
    """

    def __init__(self, server: Server, collection: str, dim: int, *, normalize: bool = True, draft: str = "") -> None:
        """Connect.

        Args:
            server: where to.
            collection: its name: letters, digits and underscores.
            dim: D of the vectors.
            normalize: cosine distance; False = squared Euclidean distance.
            draft: name that the collection has until :meth:`publish`, so that nobody takes a half-filled one for a
                whole one; empty = it has its own from the beginning.

        Raises:
            ReidError: if pymilvus is not installed, the server does not answer or refuses, or the collection
                is of another dimension or distance.
        """
        self._server, self._collection, self._dim = server, collection, dim
        self._metric, self._name, self.is_draft = "COSINE" if normalize else "L2", collection, False
        self._client = server.connect()
        try:
            if draft and not self._ask("has_collection"):
                self._collection, self.is_draft = draft, True
            if self._ask("has_collection"):
                self._check_collection()
                self._ask("load_collection")  # a file that was closed, or a restarted server, has it on disk only
            else:
                self._create()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        """Number of images."""
        return int(self._ask("query", filter="", output_fields=["count(*)"])[0]["count(*)"])

    def close(self) -> None:
        """Close the connection and release the local file; the index cannot be used afterwards."""
        if self._client is not None:
            self._server.disconnect(self._client)
        self._client = None

    def publish(self) -> None:
        """Give a draft the name of the collection.

        Raises:
            ReidError: if the server does not answer, or refuses, as where another process was sooner.
        """
        if self.is_draft:
            self._ask("rename_collection", self._name)
            self._collection, self.is_draft = self._name, False
            self._ask("load_collection")  # a local file has put it down

    def discard(self) -> None:
        """Drop a draft.

        Raises:
            ReidError: if the server does not answer.
        """
        if self.is_draft:
            self._ask("drop_collection")

    def hurry(self, timeout: float) -> None:
        """Ask a server once only and wait so many seconds for its answer, from now on; a local file is never away."""
        if not self._server.uri.endswith(".db"):
            self._server = replace(self._server, timeout=timeout, attempts=1)

    def upsert(self, vectors: Vectors, records: Records) -> None:
        """Add images, or replace those of the same paths, in batches.

        Raises:
            ReidError: if vectors are not finite, lengths differ, a path is empty or too long, or the server does
                not answer; the batches before are stored then, and the whole can be given again.
        """
        matrix = as_matrix("vectors", vectors, self._dim)
        check_records(len(matrix), records)
        for rows in blocks_of(len(matrix), max(1, REQUEST_BYTES // (4 * self._dim + _BYTES_BESIDE_VECTOR))):
            # The library takes records one by one.
            columns = zip(*(np.asarray(column[rows]).tolist() for column in records), strict=True)
            numbers = finite_rows("vectors", matrix[rows], "cpu").numpy()
            batch = [
                {**dict(zip(_FIELDS, record, strict=True)), _VECTOR: vector}
                for record, vector in zip(columns, numbers, strict=True)
            ]
            self._ask("upsert", batch)

    def fill(self, vectors: Vectors, records: Records) -> None:
        """Make ``records`` the content of a collection that is theirs alone.

        Raises:
            ReidError: as :meth:`upsert`, or if the collection then holds another number of images.
        """
        self.upsert(vectors, records)
        if (number := len(self)) != len(vectors):
            raise ReidError(
                f"collection {self._collection} at {self._server.uri} must hold {len(vectors)} images after storing, "
                f"but holds {number}; their paths must differ, and if they do, drop the collection and repeat"
            )

    def delete(self, paths: Sequence[str]) -> None:
        """Remove images by their paths; unknown ones are ignored.

        Raises:
            ReidError: if the server does not answer.
        """
        for rows in blocks_of(len(paths), REQUEST_BYTES // (2 * LONGEST_PATH)):
            keys = ", ".join(literal(str(path)) for path in paths[rows])
            self._ask("delete", filter=f"{_PATH} in [{keys}]")  # by ids the library quotes nothing

    def at(self, positions: Sequence[int]) -> tuple[np.ndarray, Records]:
        """The images at these positions, in no certain order; where there is none, none comes back.

        Args:
            positions: as they were given to :meth:`upsert`, few.

        Returns:
            (M, D) float32 vectors, and their records with arrays of (M,).

        Raises:
            ReidError: if the server does not answer.
        """
        keys = ", ".join(str(int(position)) for position in positions)
        rows = self._ask("query", filter=f"{_POSITION} in [{keys}]", output_fields=[*_FIELDS, _VECTOR])
        columns = [np.array([row[name] for row in rows]) for name in _FIELDS]
        return np.array([row[_VECTOR] for row in rows], np.float32).reshape(-1, self._dim), Records(*columns)

    def cameras(self, known: Sequence[int]) -> list[int]:
        """The cameras of all images, ascending; those that are ``known`` count without a look.

        Raises:
            ReidError: if the server does not answer.
        """
        cameras = set(known)
        while True:  # a query for each camera that is new, and one more
            rule = f"{_CAMERA} not in {sorted(cameras)}" if cameras else ""
            rows = self._ask("query", filter=rule, output_fields=[_CAMERA], limit=1)
            if not rows:
                return sorted(cameras)
            cameras.add(int(rows[0][_CAMERA]))

    def resolve_k(self, k: int) -> int:
        """See :meth:`inference.indexes.base.Index.resolve_k`."""
        number = resolve_k(k, max(1, len(self)))
        if number > MAX_NEIGHBORS:
            raise ReidError(f"k must be at most {MAX_NEIGHBORS} in Milvus, got {number}; ask for fewer, or use flat")
        return number

    def search(self, queries: Vectors, k: int = 0) -> SearchResult:
        """See :meth:`inference.indexes.base.Index.search`; indices are the positions given to :meth:`upsert`."""
        matches = self.find(queries, k)
        return SearchResult(matches.distances, matches.records.positions)

    def find(self, queries: Vectors, k: int = 0, where: str = "", other_cameras: np.ndarray | None = None) -> Matches:
        """The ``k`` nearest images of each query with all that is stored with them.

        Args:
            queries: (Q, D) floating point.
            k: neighbors per query; 0 = all.
            where: an expression of Milvus on ``identity``, ``camera``, ``path`` and ``position`` that images
                must meet, such as ``camera in [1, 2] and identity != 7``; text of others goes through
                :func:`literal`.
            other_cameras: (Q,) integers: a camera for each query whose images are left out, usually its own.

        Raises:
            ReidError: if an argument is wrong, or the server does not answer.
        """
        k = self.resolve_k(k)
        vectors = finite_rows("queries", as_matrix("queries", queries, self._dim), "cpu").numpy()
        matches = no_matches(len(vectors), k)
        for rows, expression in _by_camera(len(vectors), where, other_cameras):
            for part in blocks_of(len(rows), max(1, ANSWER_RECORDS // k)):
                self._fill_in(matches, rows[part], vectors[rows[part]], expression)
        return matches

    def _fill_in(self, matches: Matches, rows: np.ndarray, queries: np.ndarray, expression: str) -> None:
        k = matches.distances.shape[1]
        answer = self._ask("search", queries, expression, k, output_fields=list(_FIELDS))
        for row, hits in zip(rows, answer, strict=True):
            scores = np.array([hit["distance"] for hit in hits], np.float32)
            distances = 1.0 - scores if self._metric == "COSINE" else scores
            matches.distances[row, : len(hits)] = distances.clip(0.0)
            for column, name in zip(matches.records, _FIELDS, strict=True):
                column[row, : len(hits)] = [hit["entity"][name] for hit in hits]  # type: ignore[index]

    def _ask(self, request: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 (optional library)
        if self._client is None:
            raise ReidError(f"collection {self._collection} must be open, but was closed; make another MilvusIndex")
        client, more = self._client, {"timeout": self._server.timeout}

        def attempt() -> Any:  # noqa: ANN401
            try:
                return getattr(client, request)(self._collection, *arguments, **more, **options)
            except pymilvus().MilvusException as error:
                if NOT_LOADED not in str(error):
                    raise
            client.load_collection(self._collection, **more)  # the server was started again since we connected
            return getattr(client, request)(self._collection, *arguments, **more, **options)

        return self._server.ask(attempt)

    def _create(self) -> None:
        kinds = pymilvus().DataType
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(_PATH, kinds.VARCHAR, is_primary=True, max_length=LONGEST_PATH)
        for name in (_IDENTITY, _CAMERA, _POSITION):
            schema.add_field(name, kinds.INT64)
        schema.add_field(_VECTOR, kinds.FLOAT_VECTOR, dim=self._dim)
        index = self._client.prepare_index_params()
        index.add_index(field_name=_VECTOR, index_type="AUTOINDEX", metric_type=self._metric)
        # Strong: who has upserted or deleted sees it in the next search.
        self._ask("create_collection", schema=schema, index_params=index, consistency_level="Strong")

    def _check_collection(self) -> None:
        fields = {item["name"]: item["params"] for item in self._ask("describe_collection")["fields"]}
        dim = fields.get(_VECTOR, {}).get("dim")
        metric = self._ask("describe_index", index_name=_VECTOR)["metric_type"]
        if (str(dim), metric) != (str(self._dim), self._metric):
            raise ReidError(
                f"collection {self._collection} at {self._server.uri} must hold vectors of {self._dim} dimensions "
                f"compared by {self._metric}, got {dim} and {metric}; choose another name"
            )


def literal(text: str) -> str:
    """A text as a literal of Milvus' filter language, whatever quotes, backslashes or line breaks it has."""
    return f'"{text.translate(_ESCAPES)}"'


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
