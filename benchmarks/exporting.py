"""Exported files: images per second and mAP of ONNX and OpenVINO, in float32 and in 8 bits, beside torch.

Each row embeds the same batch of images, which are decoded and normalized already, in turn with the others; medians.
With --dataset the mAP of each row is measured too. The baseline is torch in float32.

    python -m benchmarks.exporting --weights FILE --data FOLDER [--dataset NAME] [--batch 16] [--rounds 5]
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from datasets.transforms import NetworkInput
from engine.model import TrainedModel, load_model
from engine.settings import Settings
from inference.engines import build
from inference.exports import CARD, FORMATS, Export, ExportOptions
from inference.exports.accuracy import compare_accuracy
from inference.exports.check import read_pixels
from inference.exports.opened import card_text, open_exported
from inference.models import prepare
from utils.cpu import flush_subnormals, keep_freed_memory

Row = dict[str, object]


def export(model: TrainedModel, name: str, calibration: torch.Tensor | None, folder: Path) -> Path:
    """Write a file without its checks."""
    folder.mkdir()
    content = Export(model, ExportOptions(calibration=calibration))
    FORMATS[name].write(content, folder)
    (folder / CARD).write_text(card_text(content, folder, name))
    return folder / FORMATS[name].files[0]


def main() -> None:
    """Export, measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, metavar="FILE")
    parser.add_argument("--data", required=True, type=Path, metavar="FOLDER", help="calibration, and the batch")
    parser.add_argument("--dataset", metavar="NAME", help="whose mAP is measured")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    flush_subnormals()
    values = {
        "MODEL.PRETRAIN_PATH": options.weights,
        **({"DATASETS.NAMES": options.dataset} if options.dataset else {}),
    }
    settings = Settings({}, values)
    model = load_model(settings)
    pixels = read_pixels(options.data, model.preprocessing, 256)
    batch = NetworkInput(model.preprocessing)(pixels[torch.arange(options.batch) % len(pixels)])
    with tempfile.TemporaryDirectory() as folder:
        files = {
            f"{name}, {precision}": export(model, name, calibration, Path(folder, name + precision))
            for name in ("onnx", "openvino")
            for precision, calibration in (("fp32", None), ("int8", pixels))
        }
        rows = measure(model, files, batch, options.rounds)
        for row in rows[1:]:
            for accuracy in compare_accuracy(model, files[str(row["file"])], settings):
                rows[0]["mAP"], row["mAP"] = accuracy.before, accuracy.after
    print(f"{options.weights}, batches of {options.batch}, {torch.get_num_threads()} threads")
    print(f"{'file':16} {'images/s':>9} {'x torch':>8} {'mAP':>7}")
    for row in rows:
        accuracy = f"{row['mAP']:7.2f}" if "mAP" in row else ""
        print(f"{row['file']:16} {row['images_per_second']:9.1f} {row['ratio']:8.2f} {accuracy}")
    print(json.dumps({"weights": options.weights, "batch": options.batch, "rows": rows}))


@torch.inference_mode()
def measure(model: TrainedModel, files: dict[str, Path], batch: torch.Tensor, rounds: int) -> list[Row]:
    """Medians over the rounds of images per second and of the ratio to torch in the same round."""
    settings = Settings({}, {})
    ways = {"torch, fp32": prepare(model, "cpu", "fp32", "torch")}
    ways |= {name: prepare(open_exported(path, settings), "cpu", "auto", None) for name, path in files.items()}
    embeds = {name: build(way.source, way.plans[0]) for name, way in ways.items()}
    times: list[dict[str, float]] = []
    for _ in range(rounds + 1):
        times.append({})
        for name, embed in embeds.items():
            begin = time.perf_counter()
            embed(batch)
            times[-1][name] = time.perf_counter() - begin
    del times[0]  # warm-up
    return [
        {
            "file": name,
            "images_per_second": len(batch) / statistics.median(row[name] for row in times),
            "ratio": statistics.median(row["torch, fp32"] / row[name] for row in times),
        }
        for name in embeds
    ]


if __name__ == "__main__":
    main()
