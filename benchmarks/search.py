"""Search of synthetic embeddings: flat against the bare product and a full argsort, FAISS against flat.

    python -m benchmarks.search --items 100000
    python -m benchmarks.search --items 1000000 --queries 200 --kinds flat

The vectors are synthetic: clusters of 20, as of one person each, within a memory map. Each round times the bare
product of all queries with all items first: ratios are of one and the same minute of the machine, of processor time
too, which a busy machine spoils less. The argsort runs on ``--argsort_queries`` queries and is scaled up to all.
recall@10 is the share of flat's first ten that a kind finds. Memory is the growth of the peak resident set while
building and while searching, mapped vectors included where they are read (Linux only).
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cost import clock, peak_growth
from evaluation.retrieval.inputs import as_tensor
from inference.index import build_index
from inference.indexes.base import Index

_CLUSTER, _NOISE, _TILE = 20, 0.8, 4096
_RECALL_AT = 10


def draw(folder: Path, num_items: int, num_queries: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Items (N, D) in a memory map and queries (Q, D), each near one of N / 20 centers."""
    generator = np.random.default_rng(0)
    centers = generator.standard_normal((max(1, num_items // _CLUSTER), dim), np.float32)
    items = open_memmap(folder / "items.npy", mode="w+", dtype=np.float32, shape=(num_items, dim))

    def near(number: int) -> np.ndarray:
        noise = _NOISE * generator.standard_normal((number, dim), np.float32)
        vectors: np.ndarray = noise + centers[generator.integers(len(centers), size=number)]
        return vectors

    for start in range(0, num_items, 2**14):
        items[start : start + 2**14] = near(len(items[start : start + 2**14]))
    items.flush()
    return np.load(folder / "items.npy", mmap_mode="r"), near(num_queries)


def products(items: Tensor, queries: Tensor) -> None:
    """The products of all queries with all items and nothing else, tile by tile."""
    for start in range(0, len(items), _TILE):
        torch.mm(queries, items[start : start + _TILE].T)


def full_argsort(items: Tensor, queries: Tensor) -> None:
    """What is often written: the whole matrix of distances, sorted."""
    unit = torch.nn.functional.normalize
    (1.0 - unit(queries) @ unit(items).T).argsort(dim=1)


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Time every kind: medians over the rounds of the search, once the building."""
    gallery, query = draw(folder, options.items, options.queries, options.dim)
    items, queries = as_tensor(gallery), torch.from_numpy(query)
    torch.mm(queries, items[:_TILE].T)  # the first call prepares the library
    nearest = build_index(gallery).search(query, _RECALL_AT).indices
    rows: list[dict[str, Any]] = []
    for kind in options.kinds:
        indices: list[Index] = []
        times: list[np.ndarray] = []

        def build(kind: str = kind, indices: list[Index] = indices, times: list[np.ndarray] = times) -> None:
            times.append(clock(lambda: indices.append(build_index(gallery, kind))))

        build_memory = peak_growth(build)
        index, rounds = indices[0], []
        memory = peak_growth(lambda index=index: index.search(query, options.topk))
        for _ in range(options.repeats):
            product = clock(lambda: products(items, queries))
            search = clock(lambda index=index: index.search(query, options.topk))
            rounds.append(np.concatenate([product, search, search / product]))
        neighbors = index.search(query, _RECALL_AT).indices
        recall = float((neighbors[:, :, None] == nearest[:, None]).any(axis=2).mean())
        rows.append(_row(kind, np.median(rounds, axis=0)[2:], recall, times[0][0], (build_memory, memory)))
        print(json.dumps(rows[-1]), flush=True)
    few = queries[: options.argsort_queries]
    product = clock(lambda: products(items, queries))
    sort = clock(lambda: full_argsort(items, few)) * (len(queries) / len(few))
    rows.append(_row("full argsort (scaled)", np.concatenate([sort, sort / product]), 1.0, 0.0, ()))
    return rows


def _row(name: str, times: np.ndarray, recall: float, build: float, memory: tuple[float, ...]) -> dict[str, Any]:
    columns = ("seconds", "cpu_seconds", "ratio", "cpu_ratio")
    figures = dict(zip(columns, times.tolist(), strict=True))
    return {"kind": name, **figures, "recall": recall, "build_seconds": build, "MiB": memory}


def main() -> None:
    """Parse, measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--topk", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", choices=("flat", "hnsw", "ivfpq"), default=["flat", "hnsw", "ivfpq"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--argsort_queries", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="where the items lie meanwhile (default: the temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = measure(options, Path(folder))
    print(f"synthetic {options.items} x {options.dim}, {options.queries} queries, {options.topk} neighbors")
    print(
        f"{'kind':22} {'seconds':>8} {'x product':>10} {'x CPU time':>11} {'recall@10':>10} {'build s':>8} "
        f"{'MiB build/search':>17}"
    )
    for row in rows:
        memory = " / ".join(f"{number:.0f}" for number in row["MiB"]) or "-"
        times = f"{row['seconds']:8.2f} {row['ratio']:10.2f} {row['cpu_ratio']:11.2f}"
        print(f"{row['kind']:22} {times} {row['recall']:10.3f} {row['build_seconds']:8.1f} {memory:>17}")
    print(json.dumps({"threads": torch.get_num_threads(), "rows": rows}))


if __name__ == "__main__":
    main()
