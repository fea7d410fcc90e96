"""Embedding a folder: the Extractor by every engine that is installed, on trained weights beside random ones.

The rows of one network embed the same files, in turn, several times; medians. The bare network of a precision is the
prepared copy that the Extractor runs in torch (channels last, batch normalizations folded), with random weights, on a
tensor that is decoded and lies in its memory format already: nothing around that network can be faster. "Before" is
the Extractor's way until commit c2f23e7: its automatic precision (bf16 for a ResNet on a CPU that multiplies it,
folded; fp32 without folding otherwise), and subnormal numbers computed. The seed's way is float32 in NCHW, unfolded,
decoded in the main process, one batch after another, subnormal numbers computed.

Speed depends on weights: training leaves channels dead and values below 1e-38 behind, which a CPU computes a hundred
times slower than others unless it flushes them. Without --weights FILE... the rows "trained-like" stand for that: a
quarter of the channels of every normalization, and of what the next layer learns from them, is scaled to such values.
Real images (--data FOLDER) are better than drawn ones for the same reason.

    python -m benchmarks.embedding [--backbone resnet50] [--rounds 3] [--images 256]
    python -m benchmarks.embedding --weights FILE... --data FOLDER
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

from datasets.preprocessing import Preprocessing
from datasets.synthetic import SyntheticSpec, draw_dataset
from datasets.transforms import NetworkInput, TestTransform
from engine.builders.model import build_network
from engine.model import TrainedModel, load_model
from engine.preprocessing import preprocessing_of
from engine.settings import Settings
from inference.device import choose_device
from inference.engines import Plan, plans
from inference.extract import Extractor
from inference.images import list_images
from modelling.backbones import backbone
from modelling.deployment import PRECISIONS, Embedder
from utils.cpu import flush_subnormals, keep_freed_memory
from utils.images import read_image
from utils.precision import multiplies_bf16

_SIZE = (256, 128)
_DEAD = 1e-39

Run = Callable[[int], None]


def make_model(name: str) -> TrainedModel:
    """Random weights."""
    cfg = Settings({}, {"MODEL.NAME": name, "MODEL.PRETRAINED": False}).cfg
    torch.manual_seed(0)
    network = build_network(cfg).eval()
    return TrainedModel(network, backbone(name), preprocessing_of(cfg), Path(name), "")


def with_random_weights(model: TrainedModel) -> TrainedModel:
    """A model of the same architecture and images with the weights that a network has before training."""
    network = copy.deepcopy(model.network)
    torch.manual_seed(0)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return TrainedModel(network.eval(), model.record, model.preprocessing, model.path, model.sha256)


def make_trained_like(model: TrainedModel) -> None:
    """Scale a quarter of the channels of every normalization to subnormal values, in place."""
    for module in model.network.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            dead = module.num_features // 4
            with torch.no_grad():
                module.weight[:dead] = _DEAD
                module.bias[:dead] = _DEAD


def precision_before(model: TrainedModel, device: torch.device) -> str:
    """What --precision auto was at commit c2f23e7."""
    if not model.record.safe_in_16_bits:
        return "fp32"
    if device.type == "cuda":
        return "fp16"
    return "bf16" if multiplies_bf16(torch.device("cpu")) else "fp32"


def bare_network(model: TrainedModel, precision: str, batch: int, device: torch.device) -> Run:
    """The forward alone, on one batch that lies ready."""
    network = Embedder(model.network, device, precision).network
    images = torch.randn(batch, 3, *model.preprocessing.size, device=device, dtype=PRECISIONS[precision])
    images = images.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(count: int) -> None:
        for start in range(0, count, batch):
            network(images[: min(batch, count - start)])

    return run


def extractors_way_before(model: TrainedModel, paths: list[str], batch: int, device: torch.device) -> Run:
    """The Extractor without folding in fp32."""
    network, precision = copy.deepcopy(model.network).to(device), precision_before(model, device)
    if precision != "fp32":
        network = Embedder(model.network, device, precision).network
    network.to(memory_format=torch.channels_last)
    network_input = NetworkInput(model.preprocessing).to(device)
    transform = TestTransform(model.preprocessing)

    @torch.inference_mode()
    def run(count: int) -> None:
        for start in range(0, count, batch):
            names = paths[start : min(start + batch, count)]
            pixels = torch.stack([transform(read_image(name)).image for name in names]).to(device)
            images = network_input(pixels.contiguous(memory_format=torch.channels_last))
            network(images.to(PRECISIONS[precision])).bn.float().cpu().numpy()

    return run


def seeds_way(model: TrainedModel, paths: list[str], batch: int, device: torch.device) -> Run:
    """Decode, then compute, then fetch, one batch after another."""
    network, network_input = model.network.to(device), NetworkInput(model.preprocessing).to(device)
    transform = TestTransform(Preprocessing(model.preprocessing.size))

    @torch.no_grad()
    def run(count: int) -> None:
        for start in range(0, count, batch):
            names = paths[start : min(start + batch, count)]
            pixels = torch.stack([transform(read_image(name)).image for name in names])
            network(network_input(pixels.to(device))).bn.cpu().numpy()

    return run


def streaming(ready: Extractor, paths: list[str]) -> Run:
    """What create_embeddings.py does, without the files."""

    def run(count: int) -> None:
        for _ in ready.stream(np.array(paths[:count])):
            pass

    return run


def usual_plans(model: TrainedModel, device: torch.device) -> Iterator[Plan]:
    """Of each engine and precision the plan of the engine's usual layout."""
    offered = plans("auto", "auto", device, safe_in_16_bits=model.record.safe_in_16_bits)
    yield from {(plan.engine, plan.precision): plan for plan in reversed(offered)}.values()


def seconds(run: Run, count: int) -> float:
    """Seconds until all work of the device is done."""
    begin = time.perf_counter()
    run(count)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main() -> None:
    """Print a table and one JSON line for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default="resnet50", help="of the rows without --weights")
    parser.add_argument("--weights", nargs="*", default=[], metavar="FILE", help="trained models")
    parser.add_argument("--data", metavar="FOLDER", help="of real images (default: drawn ones)")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--give-memory-back", action="store_true", help="leave the C library's way with freed memory")
    options = parser.parse_args()
    if not options.give_memory_back:
        keep_freed_memory()  # for all rows, as the scripts do
    device = choose_device("auto")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(options.data) if options.data else _draw(Path(folder))
        images = list_images(source, subfolders=bool(options.data)).paths.tolist()
        paths = (images * (options.images // len(images) + 1))[: options.images]
        if not options.weights:
            trained = make_model(options.backbone)
            make_trained_like(trained)
            _compare(options.backbone, "trained-like", make_model(options.backbone), trained, paths, options, device)
        for file in options.weights:
            trained = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": file}))
            _compare(Path(file).name, "trained", with_random_weights(trained), trained, paths, options, device)


def _draw(folder: Path) -> Path:
    spec = SyntheticSpec(train_ids=16, test_ids=2, cameras=4, images_per_camera=4)
    return draw_dataset(folder / "synthetic", spec) / "bounding_box_train"


def _compare(
    name: str,
    kind: str,
    random: TrainedModel,
    trained: TrainedModel,
    paths: list[str],
    options: argparse.Namespace,
    device: torch.device,
) -> None:
    """Measure and print the rows of one network."""
    batch, before = options.batch, precision_before(trained, device)
    plain = ThreadPoolExecutor(1)  # computes subnormal numbers
    flushing = ThreadPoolExecutor(1, initializer=flush_subnormals)
    rows: dict[str, tuple[ThreadPoolExecutor, Run]] = {}
    for label, model in (("random", random), (kind, trained)):
        rows[f"{label}: the seed's way, fp32"] = plain, seeds_way(copy.deepcopy(model), paths, batch, device)
        rows[f"{label}: before, {before}"] = plain, extractors_way_before(model, paths, batch, device)
        for plan in sorted(usual_plans(model, device)):
            if plan.engine == "torch" and label == "random":
                bare = bare_network(model, plan.precision, batch, device)
                rows[f"bare network, {plan.precision}"] = flushing, bare
            extractor = Extractor(model, str(device), batch, plan.precision, engine=plan.engine)
            row = f"{label}: {plan.engine}, {plan.precision}"
            rows[row] = flushing, streaming(extractor, paths)
    for pool, run in rows.values():
        pool.submit(run, min(batch, options.images)).result()  # warm-up, not counted
    rounds = [
        {row: pool.submit(seconds, run, options.images).result() for row, (pool, run) in rows.items()}
        for _ in range(options.rounds)
    ]
    _print(name, kind, before, rounds, options, device)


def _print(
    name: str,
    kind: str,
    before: str,
    rounds: list[dict[str, float]],
    options: argparse.Namespace,
    device: torch.device,
) -> None:
    def ratio(of: str, to: str) -> float:
        """Speed of one row relative to another, in the same round."""
        return round(statistics.median(times[to] / times[of] for times in rounds), 3)

    def bare_of(row: str) -> str:
        return f"bare network, {row.rpartition(' ')[2]}"

    seed = ": the seed's way, fp32"
    print(f"\n{name:<40}{'images/s':>10}{'of bare':>9}{'of before':>11}{'of seed':>9}")
    ours = []
    for row in rounds[0]:
        label, _, way = row.rpartition(": ")
        rate = options.images / statistics.median(times[row] for times in rounds)
        line = f"{row:<40}{rate:>10.1f}{ratio(row, bare_of(row)):>9.3f}"
        if label:
            line += f"{ratio(row, f'{label}: before, {before}'):>11.2f}"
            line += f"{ratio(row, label + seed):>9.2f}"
        if label == kind and not way.startswith(("the seed", "before")):
            ours.append(row)
        print(line)
    best = min(ours, key=lambda row: statistics.median(times[row] for times in rounds))
    record = {
        "benchmark": "embedding",
        "network": name,
        "weights": kind,
        "device": str(device),
        "best": best,
        "best_of_before": ratio(best, f"{kind}: before, {before}"),
        "of_bare": {row: ratio(row, bare_of(row)) for row in ours},
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
        "images": options.images,
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
