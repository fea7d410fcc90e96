"""Time and memory of k-reciprocal re-ranking at the size of Market-1501 or MSMT17.

Features are synthetic: per identity a center, per camera a shift, per image noise, about 17 images to an
identity, so that neighbor lists are as mixed as a trained model's. Re-ranking and the bare product of all
features with themselves (by tiles, nothing kept) run in one fresh process each; its ratio and the growth of
the resident memory beyond the features are the figures to watch. Prints a table and one JSON line;
rank1_plain is the share of queries whose nearest item by plain cosine distance is of their identity.

    python -m benchmarks.reranking [--size market1501|msmt17] [--dimensions 2048] [--threads 2] [--blocks]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SIZES = {"market1501": (3368, 15913), "msmt17": (11659, 82161), "tiny": (300, 1500)}
IMAGES_PER_IDENTITY, CAMERAS = 17, 6


def synthetic_features(num_queries: int, num_gallery: int, dimensions: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query and gallery features (Q, D), (G, D) float32, and their identities."""
    generator = torch.Generator().manual_seed(0)
    total = num_queries + num_gallery
    num_ids = max(1, total // IMAGES_PER_IDENTITY)
    # The identities live in few dimensions, so that some look alike, as people do.
    latent = torch.randn(num_ids, 32, generator=generator) @ torch.randn(32, dimensions, generator=generator)
    ids = torch.randint(num_ids, (total,), generator=generator)
    shifts = 3.0 * torch.randn(CAMERAS, dimensions, generator=generator)
    cameras = torch.randint(CAMERAS, (total,), generator=generator)
    features = torch.empty(total, dimensions)
    for start in range(0, total, 4096):
        part = slice(start, start + 4096)
        features[part].normal_(generator=generator).mul_(12.0)
        features[part] += latent[ids[part]] + shifts[cameras[part]]
    return features[:num_queries], features[num_queries:], ids[:num_queries], ids[num_queries:]


def clocks() -> Tensor:
    """Seconds on the wall, and of processor time in all threads; the second bears a busy machine."""
    return torch.tensor([time.perf_counter(), time.process_time()], dtype=torch.float64)


def bare_product(features: Tensor, tile: int = 4096) -> Tensor:
    """Seconds (see clocks) for the product of all features with themselves, nothing kept."""
    start = clocks()
    for rows in features.split(tile):
        for columns in features.split(tile):
            torch.mm(rows, columns.T)
    return clocks() - start


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(size: str, dimensions: int, threads: int, by_blocks: bool) -> dict[str, object]:
    """Run one size in this process."""
    from evaluation.rerank import Reciprocal, k_reciprocal, k_reciprocal_blocks

    torch.set_num_threads(threads)
    query, gallery, query_ids, gallery_ids = synthetic_features(*SIZES[size], dimensions)
    torch.mm(gallery[:2048], gallery[:2048].T)  # starts the threads
    before = peak_memory()
    start = clocks()
    first_hits = 0
    if by_blocks:
        for rows, distances in k_reciprocal_blocks(query, gallery, Reciprocal()):
            first_hits += int((gallery_ids[distances.argmin(1)] == query_ids[rows]).sum())
    else:
        distances = k_reciprocal(query, gallery)
        first_hits = int((gallery_ids[distances.argmin(1)] == query_ids).sum())
    seconds = clocks() - start
    grown = peak_memory() - before
    plain_hits = 0
    unit = torch.nn.functional.normalize(gallery, dim=1)
    for first in range(0, len(query), 1024):
        nearest = (query[first : first + 1024] @ unit.T).argmax(1)
        plain_hits += int((gallery_ids[nearest] == query_ids[first : first + 1024]).sum())
    product = bare_product(torch.cat([query, gallery]))
    return {
        "size": size,
        "dimensions": dimensions,
        "output": "blocks" if by_blocks else "matrix",
        "threads": threads,
        "seconds": round(float(seconds[0]), 2),
        "product_seconds": round(float(product[0]), 2),
        "ratio": round(float(seconds[0] / product[0]), 3),
        "processor_time_ratio": round(float(seconds[1] / product[1]), 3),
        "gigabytes_beyond_features": round(grown / 1e9, 3),
        "gigabytes_in_all": round((before + grown) / 1e9, 3),
        "rank1_plain": round(plain_hits / len(query), 4),
        "rank1": round(first_hits / len(query), 4),
    }


def main() -> None:
    """Measure in a fresh process, so that memory of this one does not count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="market1501")
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", action="store_true", help="never hold the whole (Q, G) matrix")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.size, options.dimensions, options.threads, options.blocks)))
        return
    child = subprocess.run(
        [sys.executable, __file__, "--here", *sys.argv[1:]], check=True, capture_output=True, text=True
    )
    line = child.stdout.strip().splitlines()[-1]
    for name, value in json.loads(line).items():
        print(f"{name:<28}{value}")
    print(line)


if __name__ == "__main__":
    main()
