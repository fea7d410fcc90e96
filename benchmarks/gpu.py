"""Training, embedding, ranking and search on one GPU, each against the bare work, on images drawn on the spot.

- training: `train.py`'s parts from files to weights, against a plain loop over one ready batch of the same network,
  precision and layout; both run on without a wait in between, and the clock stops when the device is done;
- embedding: the Extractor from files, against the same prepared network on a ready batch;
- ranking, re-ranking, flat search: against the products of the features alone.

A figure is one run after a warm-up. `--only` chooses parts; no row begins after `--seconds`.

    python -m benchmarks.gpu [--out FOLDER] [--only training search embedding compiled] [--seconds 450]
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from benchmarks.embedding import make_model
from benchmarks.ranking import SIZES, draw
from benchmarks.training import Parts, build_parts
from datasets.batch import Batch
from datasets.synthetic import SyntheticSpec, draw_dataset
from engine.builders.trainer import build_trainer
from engine.model import TrainedModel
from engine.runs import new_run
from evaluation.ranking import evaluate_ranking
from evaluation.rerank import k_reciprocal
from inference.extract import Extractor
from inference.images import list_images
from inference.index import build_index
from modelling.deployment import PRECISIONS, Embedder
from utils.cpu import flush_subnormals
from utils.precision import full_precision
from utils.processes import usable_cpus

_BATCH, _WARM_UP, _STEPS = 64, 40, 120
_EPOCH = 12_936  # images of Market-1501's training
_NETWORKS = {
    "resnet50": "bf16-mixed",
    "resnet50 in TF32": "32-true",
    "osnet_x1_0": "32-true",
    "timm:vit_base_patch16_224": "bf16-mixed",
}
_COMPILED = {"resnet50 compiled": "bf16-mixed"}

Row = dict[str, object]


class Stretch(Callback):
    """Images per second from one step to another, and the waits of the host for the device in between."""

    def __init__(self) -> None:
        self.begin, self.rate, self.waits = 0.0, 0.0, 0.0
        self.batch: Batch | None = None
        self._step = 0
        self._warnings = warnings.catch_warnings(record=True)

    def on_train_batch_end(
        self, trainer: Trainer, _module: object, _outputs: object, batch: Batch, *_: object
    ) -> None:
        """Start and stop the clock; count waits in ten steps after it, and keep the last batch."""
        self._step += 1
        if self._step == _WARM_UP:
            self.begin = _now()
        if self._step == _WARM_UP + _STEPS:
            self.rate = _BATCH * _STEPS / (_now() - self.begin)
            self._caught = self._warnings.__enter__()
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
        if self._step == _WARM_UP + _STEPS + 10:
            torch.cuda.set_sync_debug_mode("default")
            self._warnings.__exit__(None, None, None)
            self.waits = sum("synchronizing" in str(caught.message) for caught in self._caught) / 10
            self.batch, trainer.should_stop = batch, True


def _now() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work: Callable[[], object]) -> float:
    """Of one call, after a call that is not counted."""
    work()
    begin = _now()
    work()
    return _now() - begin


def training(label: str, data: Path, folder: Path) -> Row:
    """Files to weights against the bare loop."""
    name, precision = label.split()[0], (_NETWORKS | _COMPILED)[label]
    options = [
        *("MODEL.PRETRAINED", "False", "DATASETS.NAMES", str(data), "MODEL.NAME", name),
        *("TRAINER.PRECISION", precision, "TRAINER.COMPILE", str(label in _COMPILED)),
        *("DATALOADER.NUM_WORKERS", str(max(1, usable_cpus() - 2)), "SOLVER.MAX_EPOCHS", "99"),
        *("SOLVER.EVAL_PERIOD", "99", "LOGS_DIR", str(folder / "logs"), "RUNS_DIR", str(folder / "runs")),
    ]
    parts = build_parts(options)
    begin, stretch = time.perf_counter(), Stretch()
    run = new_run(folder / "logs", folder / "runs", Path("a/b/c"))
    with closing(parts.data):
        build_trainer(parts.cfg, run, [stretch]).fit(parts.module, train_dataloaders=parts.data.train_dataloader())
    assert stretch.batch is not None
    bare = bare_rate(parts, stretch.batch)
    return {
        "training": label,
        "precision": precision,
        "images/s": round(stretch.rate),
        "bare images/s": round(bare),
        "of bare": round(stretch.rate / bare, 3),
        "seconds of an epoch of 12,936": round(_EPOCH / stretch.rate, 2),
        "waits per step": stretch.waits,
        "seconds before the clock": round(stretch.begin - begin, 1),
    }


def bare_rate(parts: Parts, batch: Batch) -> float:
    """Images per second of a plain loop over one batch, which never waits."""
    module = parts.module.cuda().train()
    objective = module.objective
    assert objective is not None
    optimizers = module.configure_optimizers()
    images = module.network_input(batch.images.cuda(), 1, batch.erased.cuda())
    if parts.cfg.TRAINER.LAYOUT == "channels_last":
        images = images.contiguous(memory_format=torch.channels_last)
    labels, is_mixed = batch.labels.cuda(), parts.cfg.TRAINER.PRECISION == "bf16-mixed"

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=is_mixed):
            total = objective({"main": module.network(images)._asdict()}, labels).total
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        total.backward()
        for optimizer in optimizers:
            optimizer.step()

    for _ in range(10):
        step()
    begin = _now()
    for _ in range(_STEPS // 2):
        step()
    return len(labels) * (_STEPS // 2) / (_now() - begin)


def embedding(name: str, precision: str, model: TrainedModel, paths: list[str]) -> Row:
    """The Extractor against the prepared network on a ready batch."""
    extractor = Extractor(model, "cuda", 256, precision)

    def stream() -> None:
        for _ in extractor.stream(np.array(paths)):
            pass

    rate = len(paths) / seconds(stream)
    network = Embedder(model.network, torch.device("cuda"), precision).network
    images = torch.randn(256, 3, 256, 128, device="cuda", dtype=PRECISIONS[precision])
    images = images.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(20):
            network(images)

    bare_speed = 20 * 256 / seconds(bare)
    return {
        "embedding": name,
        "precision": precision,
        "images/s": round(rate),
        "bare images/s": round(bare_speed),
        "of bare": round(rate / bare_speed, 3),
    }


def ranking(size: str) -> Row:
    """Rank, and re-rank Market's size, against the product of all queries with the gallery in float32."""
    case = type(case_ := draw(SIZES[size]))(*(part.cuda() for part in case_))
    bare = seconds(lambda: _products(case.query, case.gallery))
    rank = seconds(lambda: evaluate_ranking(*case))
    row: Row = {"ranking": size, "product s": round(bare, 4), "rank s": round(rank, 4)}
    row["of product"] = round(rank / bare, 2)
    if size == "market":
        row["re-ranking s"] = round(seconds(lambda: k_reciprocal(case.query, case.gallery)), 3)
    return row


def search() -> Row:
    """A flat index of a million vectors of 512 against the product with all of them; both on the device."""
    items = torch.nn.functional.normalize(torch.randn(1_000_000, 512, device="cuda"))
    queries = torch.nn.functional.normalize(torch.randn(1000, 512, device="cuda"))
    index = build_index(items)
    bare = seconds(lambda: _products(queries, items))
    took = seconds(lambda: index.search(queries, 10))
    return {"search": "a million of 512, 1000 queries", "product s": round(bare, 4), "search s": round(took, 4),
            "of product": round(took / bare, 2)}  # fmt: skip


def _products(queries: Tensor, items: Tensor, tile: int = 65_536) -> None:
    with full_precision(items.device):  # a training before may have allowed TF32
        for start in range(0, len(items), tile):
            torch.mm(queries, items[start : start + tile].T)


def rows_of(parts: list[str], folder: Path) -> Iterator[Callable[[], Row]]:
    """The work of the parts, a function for each row."""
    spec = SyntheticSpec(train_ids=128, test_ids=2, cameras=4, images_per_camera=5)
    data = draw_dataset(folder / "drawn", spec)
    paths = list_images(data / "bounding_box_train").paths.tolist() * 4
    if "training" in parts:
        yield from (partial(training, label, data, folder) for label in _NETWORKS)
    if "search" in parts:
        yield from (partial(ranking, "market"), partial(ranking, "msmt17"), search)
    if "embedding" in parts:
        for name, precision in product(("resnet50", "osnet_x1_0"), PRECISIONS):
            yield partial(embedding, name, precision, make_model(name), paths)
    if "compiled" in parts:  # the longest start
        yield from (partial(training, label, data, folder) for label in _COMPILED)


def attempt(row: Callable[[], Row]) -> Row:
    """A row, or why there is none: the other rows are worth their time."""
    try:
        return row()
    except (RuntimeError, ValueError) as error:
        return {"failed": f"{type(error).__name__}: {error}"[:500]}


def main() -> None:
    """Print a line per row and write `gpu.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of gpu.json")
    parser.add_argument("--only", nargs="+", default=["training", "search", "embedding", "compiled"])
    parser.add_argument("--seconds", type=float, default=450, help="no row begins after this time")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu needs a CUDA device, but torch sees none")
    flush_subnormals()
    begin = time.perf_counter()
    result: Row = {"benchmark": "gpu", "device": torch.cuda.get_device_name(), "torch": str(torch.__version__)}
    print(json.dumps(result))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for row in rows_of(options.only, Path(name)):
            if time.perf_counter() - begin < options.seconds:
                rows.append(attempt(row) | {"at s": round(time.perf_counter() - begin)})
                print(json.dumps(rows[-1]), flush=True)
                torch.cuda.empty_cache()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "gpu.json").write_text(json.dumps(result | {"rows": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
