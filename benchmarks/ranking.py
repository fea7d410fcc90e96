"""Cost of the evaluation against the bare distance product, and against what a reader would write.

    python -m benchmarks.ranking --size market
    python -m benchmarks.ranking --size msmt17 --repeats 1

Features are synthetic, the numbers of images, identities and cameras those of the data set. Each round times
the bare product first: the ratios are of one and the same minute of the machine. The two plain baselines run
on ``--queries`` queries and are scaled up to all of them; their mAP is compared with ours on these queries.
The memory of a method is the growth of the peak resident set in a process of its own, beyond the features.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cost import clock, peak_growth
from evaluation.centroids import rank_centroids
from evaluation.ctl2021 import rank_ctl2021
from evaluation.ranking import evaluate_ranking
from evaluation.retrieval.inputs import Retrieval
from evaluation.verification import verification_curve
from tests.reference.ranking import Case, sort_and_loop, sort_vectorized
from utils.blocks import row_blocks


class Size(NamedTuple):
    """Counts of a data set's test split."""

    num_query: int
    num_gallery: int
    num_distractors: int
    num_ids: int
    num_cameras: int
    dim: int


SIZES = {
    "small": Size(400, 2000, 300, 100, 6, 256),
    "market": Size(3368, 15913, 2793, 750, 6, 2048),
    "msmt17": Size(11659, 82161, 0, 3060, 15, 2048),
}


def draw(size: Size) -> Case:
    """Synthetic features: a center per identity plus noise; a few shared directions make the task hard."""
    generator = torch.Generator().manual_seed(0)

    def labels(count: int, most: int) -> Tensor:
        return torch.randint(most, (count,), generator=generator)

    centers = torch.randn(size.num_ids + 1, size.dim, generator=generator).mul_(0.3)
    query_ids = 1 + labels(size.num_query, size.num_ids)
    gallery_ids = 1 + labels(size.num_gallery, size.num_ids)
    gallery_ids[: size.num_distractors] = 0
    gallery_ids = gallery_ids[torch.randperm(size.num_gallery, generator=generator)]

    def embed(ids: Tensor) -> Tensor:
        features = torch.randn(len(ids), size.dim, generator=generator)
        for start in range(0, len(ids), 1024):
            features[start : start + 1024] += centers[ids[start : start + 1024]]
        return features

    cameras = labels(size.num_query, size.num_cameras), labels(size.num_gallery, size.num_cameras)
    return Case(embed(query_ids), embed(gallery_ids), query_ids, gallery_ids, *cameras)


def bare_product(case: Case) -> None:
    """The products of all queries with the gallery and nothing else, in blocks of the same size as ours."""
    row_bytes = 4 * len(case.gallery)
    buffer = torch.empty(0)
    for rows in row_blocks(len(case.query), row_bytes):
        query = case.query[rows]
        if len(buffer) < len(query):
            buffer = torch.empty(len(query), len(case.gallery))
        torch.mm(query, case.gallery.T, out=buffer[: len(query)])


METHODS: dict[str, Callable[[Case], object]] = {
    "instance": lambda case: evaluate_ranking(*case),
    "centroid": lambda case: rank_centroids(Retrieval.of(*case)),
    "centroid_ctl2021": lambda case: rank_ctl2021(Retrieval.of(*case)),
    "verification": lambda case: verification_curve(Retrieval.of(*case)),
}
BASELINES: dict[str, Callable[[Case], float]] = {
    "argsort + Python loop": sort_and_loop,
    "argsort, vectorized": sort_vectorized,
}


def memory_growth(method: str, size: str) -> float:
    """Peak resident memory of a method beyond the features, in MiB, from a process of its own."""
    command = [sys.executable, __file__, "--size", size, "--measure_memory_of", method]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_memory_growth(method: str, size: str) -> None:
    """Body of that process: warm up, forget the peak so far, run, and read the new peak (Linux only)."""
    METHODS[method](draw(SIZES["small"]))
    case = draw(SIZES[size])
    print(peak_growth(lambda: METHODS[method](case)))


def measure(size: str, methods: list[str], repeats: int, num_queries: int) -> list[dict[str, object]]:
    """Time everything: medians over the rounds, of seconds and of the ratio to the round's own product."""
    case = draw(SIZES[size])
    few = Case(*(a[:num_queries] if i % 2 == 0 else a for i, a in enumerate(case)))
    ours = evaluate_ranking(*few).mAP
    times: dict[str, list[np.ndarray]] = {"bare product": []}
    for _ in range(repeats):
        for name in methods:
            product = clock(lambda: bare_product(case))
            times["bare product"].append(np.concatenate([product, product / product]))
            cost = clock(lambda method=METHODS[name]: method(case))
            times.setdefault(name, []).append(np.concatenate([cost, cost / product]))
    for name, baseline in BASELINES.items():
        mean_precision: list[float] = []
        cost = clock(lambda: mean_precision.append(baseline(few))) * len(case.query) / num_queries  # noqa: B023
        times[f"{name} (scaled from {num_queries})"] = [np.concatenate([cost, cost / product])]
        if abs(mean_precision[0] - ours) > 1e-5:
            raise SystemExit(f"{name} disagrees on mAP: {mean_precision[0]} against {ours}")
    columns = ("seconds", "cpu_seconds", "ratio", "cpu_ratio")
    rows: list[dict[str, object]] = [
        {"method": name, **dict(zip(columns, np.median(values, axis=0).tolist(), strict=True))}
        for name, values in times.items()
    ]
    for row in rows:
        name = str(row["method"])
        row["MiB"] = memory_growth(name, size) if name in METHODS else None
    return rows


def main() -> None:
    """Parse, measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="market")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--queries", type=int, default=64, help="queries of the plain baselines")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the timed methods")
    parser.add_argument("--measure_memory_of", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_memory_of:
        print_memory_growth(options.measure_memory_of, options.size)
        return
    rows = measure(options.size, options.methods, options.repeats, options.queries)
    print(f"{options.size}, synthetic features: {SIZES[options.size]}, {torch.get_num_threads()} threads")
    print(f"{'method':42} {'seconds':>9} {'x product':>10} {'x CPU time':>11} {'MiB beyond features':>20}")
    for row in rows:
        memory = "-" if row["MiB"] is None else f"{row['MiB']:.0f}"
        ratios = f"{row['ratio']:10.2f} {row['cpu_ratio']:11.2f}"
        print(f"{row['method']:42} {row['seconds']:9.2f} {ratios} {memory:>20}")
    print(json.dumps({"size": options.size, "threads": torch.get_num_threads(), "rows": rows}))


if __name__ == "__main__":
    main()
