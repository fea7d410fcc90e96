"""Embedding a folder: the Extractor against the bare network, and against the seed's way.

All rows embed the same drawn JPEG files with the same weights. The bare network is the one that the Extractor runs
(channels last; in 16 bits with the batch normalizations of a ResNet folded), and gets a tensor that is decoded and
lies in its memory format already: nothing around that network can be faster. The seed's way is float32 in NCHW,
decoded in the main process, one batch after another. In turn, several times; medians.

    python -m benchmarks.embedding [--rounds 3] [--backbone resnet50] [--images 256] [--give-memory-back]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from datasets.preprocessing import Preprocessing
from datasets.synthetic import SyntheticSpec, draw_dataset
from datasets.transforms import NetworkInput, TestTransform
from engine.builders.model import build_network
from engine.model import TrainedModel
from engine.preprocessing import preprocessing_of
from engine.settings import Settings
from inference.device import choose_device, choose_precision, prepare, type_of
from inference.extract import Extractor
from inference.images import list_images
from modelling import backbones as records
from utils.cpu import keep_freed_memory
from utils.images import read_image

_SIZE = (256, 128)


def make_model(backbone: str) -> TrainedModel:
    """Random weights; speed does not depend on them."""
    cfg = Settings({}, {"MODEL.NAME": backbone, "MODEL.PRETRAINED": False}).cfg
    torch.manual_seed(0)
    network = build_network(cfg).eval()
    return TrainedModel(network, records.backbone(backbone), preprocessing_of(cfg), Path(backbone), "")


def bare_network(model: TrainedModel, precision: str, batch: int, device: torch.device) -> Callable[[int], None]:
    """The forward alone, on one batch that lies ready."""
    network = prepare(model.network, model.record, device, precision)
    images = torch.randn(batch, 3, *_SIZE, device=device, dtype=type_of(precision))
    images = images.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(count: int) -> None:
        for start in range(0, count, batch):
            network(images[: min(batch, count - start)])

    return run


def seeds_way(model: TrainedModel, paths: list[str], batch: int, device: torch.device) -> Callable[[int], None]:
    """Decode, then compute, then fetch, one batch after another."""
    network, network_input = model.network.to(device), NetworkInput(model.preprocessing).to(device)
    transform = TestTransform(Preprocessing(_SIZE))

    @torch.no_grad()
    def run(count: int) -> None:
        for start in range(0, count, batch):
            names = paths[start : min(start + batch, count)]
            pixels = torch.stack([transform(read_image(name)).image for name in names])
            network(network_input(pixels.to(device))).bn.cpu().numpy()

    return run


def streaming(ready: Extractor, paths: list[str]) -> Callable[[int], None]:
    """What create_embeddings.py does, without the files."""

    def run(count: int) -> None:
        for _ in ready.stream(np.array(paths[:count])):
            pass

    return run


def seconds(run: Callable[[int], None], count: int) -> float:
    """Seconds until all work of the device is done."""
    begin = time.perf_counter()
    run(count)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main() -> None:
    """Print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--give-memory-back", action="store_true", help="leave the C library's way with freed memory")
    options = parser.parse_args()
    if not options.give_memory_back:
        keep_freed_memory()  # for all rows, as the scripts do
    name, batch = options.backbone, options.batch
    device = choose_device("auto")
    precisions = dict.fromkeys((choose_precision("auto", device, records.backbone(name)), "fp32"))
    with tempfile.TemporaryDirectory() as folder:
        spec = SyntheticSpec(train_ids=16, test_ids=2, cameras=4, images_per_camera=4)
        images = list_images(draw_dataset(Path(folder, "synthetic"), spec) / "bounding_box_train").paths.tolist()
        paths = (images * (options.images // len(images) + 1))[: options.images]
        runs = {"the seed's way, fp32": seeds_way(make_model(name), paths, batch, device)}
        for precision in precisions:
            bare = bare_network(make_model(name), precision, batch, device)
            runs[f"bare network, {precision}"] = bare
            ready = Extractor(make_model(name), str(device), batch, precision)
            runs[f"Extractor, {precision}"] = streaming(ready, paths)
        for run in runs.values():
            run(min(batch, options.images))  # warm-up, not counted
        rounds = [{row: seconds(run, options.images) for row, run in runs.items()} for _ in range(options.rounds)]
    _print(rounds, list(precisions), options, device)


def _print(
    rounds: list[dict[str, float]], precisions: list[str], options: argparse.Namespace, device: torch.device
) -> None:
    def ratio(of: str, to: str) -> float:
        """Speed of one row relative to another, in the same round."""
        return statistics.median(times[to] / times[of] for times in rounds)

    seed = "the seed's way, fp32"
    print(f"{'':<26}{'images/s':>10}{'of bare':>9}{'of seed':>9}")
    record: dict[str, object] = {"benchmark": "embedding", "device": str(device), "backbone": options.backbone}
    for row in rounds[0]:
        rate = options.images / statistics.median(times[row] for times in rounds)
        precision = row.rpartition(" ")[2]
        print(f"{row:<26}{rate:>10.1f}{ratio(row, f'bare network, {precision}'):>9.3f}{ratio(row, seed):>9.2f}")
    for precision in precisions:
        ours = f"Extractor, {precision}"
        record[f"of_bare_{precision}"] = round(ratio(ours, f"bare network, {precision}"), 3)
        record[f"of_seed_{precision}"] = round(ratio(ours, seed), 2)
    record |= {"threads": torch.get_num_threads(), "rounds": options.rounds, "images": options.images}
    print(json.dumps(record))


if __name__ == "__main__":
    main()
