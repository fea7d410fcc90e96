"""Export a trained model to a file that other programs compute, ONNX or OpenVINO, or its weights to hand on.

python inference/export.py --format onnx MODEL.PRETRAIN_PATH logs/market1501/resnet50/baseline/exp0/best.pth
    OUTPUT_DIR exported

OUTPUT_DIR gets model.onnx (or model.xml and model.bin) and model.json (preprocessing, hash of the checkpoint); an
earlier export is moved to earlier_1. The file has one input, images, of any number, and one output, embedding: the
vectors that retrieval compares. It is compared with torch before it gets its name. The other scripts of this folder
open it as MODEL.PRETRAIN_PATH. See docs/export.md.

--format safetensors writes model.safetensors, config.yml and README.md (a model card with the figures of the test),
which every script opens by their folder. See docs/weights_to_hand_on.md.
"""

import argparse
import logging
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a script: our packages come before any of the same names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from engine.cli import build_parser
from engine.settings import Settings
from inference.choices import INPUTS
from inference.script import run_with_options
from utils.command_line import show
from utils.errors import ReidError, lookup
from utils.files import keep_previous, scratch_folder

if TYPE_CHECKING:
    from engine.model import TrainedModel
    from inference.exports import Export, Format

logger = logging.getLogger(__name__)

_CALIBRATION, _CHECKED = 256, 256  # images that are read of a folder


def export_model(settings: Settings, options: argparse.Namespace) -> Path:
    """Write the file beside, compare it with torch, and give it its name.

    Args:
        settings: MODEL.PRETRAIN_PATH, OUTPUT_DIR; for --int8 DATASETS.NAMES or TEST_NAMES too.
        options: of the command line.

    Returns:
        The exported file.

    Raises:
        ReidError: for settings, images or libraries that do not fit, or if the vectors of the file differ.
    """
    from engine.model import load_model
    from inference.exports import CARD, FORMATS
    from inference.exports.opened import card_text

    row = lookup(FORMATS, options.format, "--format")
    output = Path(settings.cfg.OUTPUT_DIR)
    _check_options(row, options, output)
    row.check_libraries(options.format, in_8_bits=bool(options.int8))
    export, is_new = _export(_with_report(load_model(settings), options.report), options), not output.exists()
    try:
        with scratch_folder(output, ".export_") as scratch:
            row.write(export, scratch)
            earlier: Iterable[str] = row.files
            if row.engines:
                (scratch / CARD).write_text(card_text(export, scratch, options.format), encoding="utf-8")
                _check(export, scratch / row.files[0], settings, options.check)
                earlier = (CARD, *(name for other in FORMATS.values() if other.engines for name in other.files))
            _publish(row, scratch, output, [*dict.fromkeys(earlier)])
    finally:
        if is_new:
            with suppress(OSError):  # there are files in it
                output.rmdir()
    logger.info("%s: %s", output / row.files[0], _in_words(export) if row.engines else _tested(export))
    return output / row.files[0]


def _check_options(row: "Format", options: argparse.Namespace, output: Path) -> None:
    """Refuse folders that are none, and for weights what is about files of an engine, or files of others in the way.

    Raises:
        ReidError: if there are any.
    """
    if row.engines:
        for name, folder in (("--int8", options.int8), ("--check", options.check)):
            if folder is not None and not folder.is_dir():
                raise ReidError(f"{name} must be a folder of images, got {folder}, which is none; give another one")
        return
    names = {"--input or --pixels": options.input != "normalized", "--unit": options.unit}
    names |= {"--int8": options.int8, "--check": options.check}
    if wrong := ", ".join(name for name, is_set in names.items() if is_set):
        raise ReidError(f"--format {options.format} hands weights on as they are, got {wrong}; leave it out")
    others = [name for name in row.files[1:] if (output / name).exists() and not (output / row.files[0]).exists()]
    if others:
        raise ReidError(f"OUTPUT_DIR must be a folder for these weights alone, got {output}, which has a {others[0]}")


def _publish(row: "Format", scratch: Path, output: Path, earlier: list[str]) -> None:
    """Move an earlier export away and the new one in, so that the same command works after a crash in the middle.

    A file for engines appears when what belongs to it is there. Weights are whole without the files beside them, and
    go last and come first: a folder that has the others alone is not taken for one of weights.
    """
    opened = row.files[0]
    keep_previous(output, sorted(earlier, key=lambda name: name == opened))
    files = sorted(scratch.iterdir(), key=lambda path: path.name == opened)
    for path in files if row.engines else reversed(files):
        path.replace(output / path.name)


def _with_report(model: "TrainedModel", path: Path | None) -> "TrainedModel":
    """The model with the report of its test that the user names.

    Raises:
        ReidError: if it is damaged, or of other weights or other vectors.
    """
    from configs import read_config
    from engine.preprocessing import vectors_of
    from engine.reports import differences_in_vectors
    from evaluation.report.read import read_report

    if path is None:
        return model
    report = read_report(path)
    if report.get("sha256") != model.sha256:
        other = report.get("checkpoint")
        raise ReidError(f"--report must be of {model.path} as it is now, got one of {other}; test it again")
    assert model.card is not None
    if differences := differences_in_vectors(report, vectors_of(read_config(model.card.config, lenient=True))):
        raise ReidError(
            f"--report must be of the vectors that are exported, got {path}, which differs: {differences}; test "
            "again with the settings of the export"
        )
    return replace(model, report=report)


def _export(model: "TrainedModel", options: argparse.Namespace) -> "Export":
    """What becomes a file, by the options of the command line."""
    from inference.exports import FORMATS, Export, ExportOptions
    from inference.exports.check import read_pixels

    cameras = model.network.num_cameras
    if cameras and FORMATS[options.format].engines:
        logger.info("the cameras of all images count as unknown in the file: the mean of %d camera vectors", cameras)
    calibration = read_pixels(options.int8, model.preprocessing, _CALIBRATION) if options.int8 else None
    return Export(model, ExportOptions(options.input, options.unit, calibration))


def _check(export: "Export", path: Path, settings: Settings, folder: Path | None) -> None:
    """Refuse a file whose vectors are not those of torch, and say what 8 bits cost."""
    from inference.exports.accuracy import compare_accuracy
    from inference.exports.check import check_export, read_pixels

    logger.info("%s", check_export(path, export, export.options.calibration))
    if folder is not None:
        pixels = read_pixels(folder, export.model.preprocessing, _CHECKED)
        logger.info("%s: %s", folder, check_export(path, export, pixels))
    if export.options.calibration is not None:
        for row in compare_accuracy(export.model, path, settings):
            show(f"{row}\n")


def _in_words(export: "Export") -> str:
    height, width = export.model.preprocessing.size
    shape = f"N x {height} x {width} x 3 uint8" if export.input.in_bytes else f"N x 3 x {height} x {width} float32"
    unit = " of length 1" if export.options.unit else ""
    kind = f"{shape} {export.options.input} -> N x {export.model.network.dim} float32{unit}"
    return f"{kind}, computed in {export.options.precision}"


def _tested(export: "Export") -> str:
    return "weights, with the figures of their test" if export.model.report else "weights, which were not tested"


def main(argv: Sequence[str] | None = None) -> int:
    """Export; return the exit code."""
    parser = build_parser(__doc__ or "")
    add = parser.add_argument
    formats = "onnx (default), openvino, or safetensors: weights to hand on"
    add("--format", default="onnx", metavar="NAME", help=formats)
    add("--report", type=Path, metavar="FILE", help="of a test of these weights (default: report.json beside them)")
    takes = "the file takes images normalized as the network wants (default), bytes (N x H x W x 3, RGB), values in "
    takes += "[0, 1], or images normalized as for ImageNet"
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--input", choices=INPUTS, default="normalized", help=takes)
    group.add_argument("--pixels", dest="input", action="store_const", const="pixels", help="--input pixels")
    add("--unit", action="store_true", help="vectors of length 1")
    calibration = "compute in 8 bits; images like those that the file will embed, to measure the range of each value"
    add("--int8", type=Path, metavar="FOLDER", help=calibration)
    add("--check", type=Path, metavar="FOLDER", help="compare with torch on these images too, beside random ones")
    return run_with_options(export_model, parser, argv, "stopped; no file was written")


if __name__ == "__main__":
    sys.exit(main())
