"""Time of each loss, forward and backward, beside its plain loop.

    python -m benchmarks.losses [--repeats 20] [--threads 2]

Prints a table and, as its last line, one JSON object. ``grouped`` is a second reference for the centroid
triplet: a loop over groups and identities as it is usually written, with the batch-hard mining of this
package inside. Times are the least of all repetitions, which other work on the machine disturbs least.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from losses.center import CenterLoss
from losses.centroid_triplet import CentroidTripletLoss
from losses.identity import IdentityLoss
from losses.octuplet import OctupletLoss
from losses.triplet import BatchHardTripletLoss
from tests.reference.losses import (
    plain_center,
    plain_centroid_groups,
    plain_centroid_triplet,
    plain_identity,
    plain_octuplet,
    plain_triplet,
)

NUM_INSTANCES = 4
DIM = 2048
NUM_IDS = 751
MARGIN = 0.3
SMOOTHING = 0.1

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def losses_and_references() -> dict[str, tuple[Loss, Loss]]:
    """Each loss and its reference, as functions of (raw, low, ids)."""
    triplet, centroid, octuplet = BatchHardTripletLoss(MARGIN), CentroidTripletLoss(MARGIN), OctupletLoss()
    center, identity = CenterLoss(NUM_IDS, DIM), IdentityLoss(NUM_IDS, DIM, SMOOTHING)

    def grouped(raw: Tensor, _: Tensor, ids: Tensor) -> Tensor:
        groups = plain_centroid_groups(raw, ids)
        return torch.stack([triplet(vectors, labels) for vectors, labels in groups]).mean()

    return {
        "triplet": (
            lambda raw, _, ids: triplet(raw, ids),
            lambda raw, _, ids: plain_triplet(raw, ids, MARGIN),
        ),
        "centroid_triplet": (
            lambda raw, _, ids: centroid(raw, ids),
            lambda raw, _, ids: plain_centroid_triplet(raw, ids, MARGIN),
        ),
        "centroid_triplet / grouped": (lambda raw, _, ids: centroid(raw, ids), grouped),
        "octuplet": (
            lambda raw, low, ids: octuplet(raw, low, ids),
            lambda raw, low, ids: plain_octuplet(raw, low, ids, 25.0),
        ),
        "center": (
            lambda raw, _, ids: center(raw, ids),
            lambda raw, _, ids: plain_center(raw, center.centers, ids),
        ),
        "identity": (
            lambda raw, _, ids: identity(raw, ids),
            lambda raw, _, ids: plain_identity(raw, identity.classifier.weight, ids, SMOOTHING),
        ),
    }


def synchronizations(loss: Loss, inputs: tuple[Tensor, Tensor, Tensor]) -> int:
    """How often a forward and a backward pass on CUDA wait for the device; it must be 0."""
    on_device = tuple(value.detach().cuda().requires_grad_(value.is_floating_point()) for value in inputs)
    loss(*on_device).backward()  # type: ignore[arg-type]
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as records:
            warnings.simplefilter("always")
            loss(*on_device).backward()  # type: ignore[arg-type]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in records)


def milliseconds(loss: Loss, inputs: tuple[Tensor, Tensor, Tensor], repeats: int) -> float:
    """Least time of a forward and a backward pass, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        loss(*inputs).backward()
        times.append(time.perf_counter() - start)
    return 1000.0 * min(times[1:])


def measure(num_ids: int, repeats: int) -> list[dict[str, str | int | float]]:
    """One row for each loss at a batch of ``num_ids`` identities."""
    ids = torch.arange(num_ids).repeat_interleave(NUM_INSTANCES)
    raw = torch.randn(len(ids), DIM).relu().requires_grad_()
    low = (raw.detach() + 0.1 * torch.randn(len(ids), DIM)).requires_grad_()
    rows: list[dict[str, str | int | float]] = []
    for name, (loss, reference) in losses_and_references().items():
        ours = milliseconds(loss, (raw, low, ids), repeats)
        theirs = milliseconds(reference, (raw, low, ids), max(1, repeats // 10))
        rows.append(
            {
                "loss": name,
                "batch": f"{num_ids}x{NUM_INSTANCES}",
                "ms": round(ours, 3),
                "reference_ms": round(theirs, 3),
                "ratio": round(theirs / ours, 1),
            }
        )
        if torch.cuda.is_available() and name in ("triplet", "centroid_triplet", "octuplet"):
            rows[-1]["synchronizations"] = synchronizations(loss, (raw, low, ids))
    return rows


def main(argv: Sequence[str] | None = None) -> list[dict[str, str | int | float]]:
    """Measure, print the table and the JSON line, and return the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20, help="repetitions of each loss (default 20)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch (default 2)")
    parser.add_argument("--identities", type=int, nargs="+", default=[16, 64], help="P of each batch P x 4")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = [row for num_ids in options.identities for row in measure(num_ids, options.repeats)]
    print(f"{'loss':<28}{'P x K':>8}{'ms':>10}{'loop ms':>11}{'ratio':>8}")
    for row in rows:
        print(f"{row['loss']:<28}{row['batch']:>8}{row['ms']:>10}{row['reference_ms']:>11}{row['ratio']:>8}")
    print(json.dumps({"benchmark": "losses", "dim": DIM, "threads": options.threads, "rows": rows}))
    return rows


if __name__ == "__main__":
    main()
