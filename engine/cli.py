"""From a command line to settings.

Scripts import torch, which takes seconds, when their command line is understood and not before.
"""

import argparse
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from configs import SCHEMA, read_config
from configs.defaults import OLD_NAMES
from configs.schema import checked_value, with_new_names
from engine.settings import Settings
from utils.command_line import OneLineParser, exit_code
from utils.errors import ReidError, did_you_mean, one_line
from utils.log import setup_logging
from utils.processes import check_ranks

logger = logging.getLogger(__name__)

_EPILOG = """\
KEY VALUE pairs override the configuration, e.g.  DATASETS.NAMES market1501 SOLVER.MAX_EPOCHS 60
All keys with their meaning, unit and allowed values:  python -m configs
"""


def build_parser(description: str = "") -> argparse.ArgumentParser:
    """The options that all training and test scripts share."""
    parser = OneLineParser(
        description=description, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config_file", type=Path, metavar="FILE", help="YAML file, e.g. configs/256_resnet50.yml")
    parser.add_argument(
        "--scale",
        type=int,
        metavar="N",
        help="low resolution: bicubic-downsample the images by N and upsample them again (= INPUT.SCALE N)",
    )
    plugin = "Python file of your own that adds backbones, losses, data sets, ...: see CONTRIBUTING.md"
    parser.add_argument("--plugin", type=Path, action="append", default=[], metavar="FILE.py", help=plugin)
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="overrides of the configuration")
    return parser


def parse(argv: Sequence[str]) -> Settings:
    """Settings from the arguments of a training or test script, without the program's name.

    Raises:
        ReidError: as :func:`read_settings`.
    """
    return read_settings(build_parser().parse_intermixed_args(argv))


def read_settings(options: argparse.Namespace) -> Settings:
    """Settings from parsed options; plugins are imported first, because they may add keys.

    Raises:
        ReidError: for an unknown key, a value of the wrong type, a key without value or a missing file.
    """
    for path in options.plugin:
        import_plugin(path)
    words: list[str] = options.overrides
    if len(words) % 2:
        hint = did_you_mean(words[-1], SCHEMA) if words[-1] not in SCHEMA else ""
        raise ReidError(f"overrides must come as KEY VALUE pairs, got {words[-1]!r} without a value{hint}")
    texts = with_new_names(zip(words[::2], words[1::2], strict=True), OLD_NAMES)
    overrides = {name: checked_value(SCHEMA, name, text) for name, text in texts.items()}
    if options.scale is not None:
        scale = checked_value(SCHEMA, "INPUT.SCALE", options.scale)
        if overrides.setdefault("INPUT.SCALE", scale) != scale:
            raise ReidError(f"--scale is INPUT.SCALE, got {scale} and {overrides['INPUT.SCALE']}; leave one out")
    return Settings(read_config(options.config_file) if options.config_file else {}, overrides)


def import_plugin(path: Path) -> None:
    """Run a Python file of the user that adds rows to our tables; each file is run once.

    Only the command line names such files: a file of weights must not run code.

    Raises:
        ReidError: if the file does not exist, is not a Python file, or fails.
    """
    name = f"reid_plugin_{path.stem}"
    if getattr(sys.modules.get(name), "__file__", None) == str(path.resolve()):
        return
    spec = importlib.util.spec_from_file_location(name, path.resolve()) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise ReidError(f"--plugin must be an existing Python file, got {path}")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        del sys.modules[name]
        raise ReidError(f"--plugin {path} fails: {type(error).__name__}: {one_line(error)}") from error
    logger.info("plugin %s", path)


def run_script(action: Callable[[Settings], object], description: str, argv: Sequence[str] | None) -> int:
    """Parse, run, and turn a user's mistake into one line and an exit code.

    Args:
        action: the work of the script, a function of its settings.
        description: for ``--help``.
        argv: arguments without the program's name; None = those of the process.

    Returns:
        See :func:`utils.command_line.exit_code`.
    """
    options = build_parser(description).parse_intermixed_args(argv)
    setup_logging()
    return exit_code(lambda: action(begin(options)))


def train_script(method: str, description: str, argv: Sequence[str] | None) -> int:
    """:func:`run_script` for a training by one of :data:`engine.methods.METHODS`."""

    def fit(settings: Settings) -> None:
        from engine import methods, run

        run.fit(methods.METHODS[method], settings)

    return run_script(fit, description, argv)


def evaluation_script(description: str, argv: Sequence[str] | None) -> int:
    """:func:`run_script` for the evaluation of a checkpoint."""

    def evaluate(settings: Settings) -> None:
        from engine import run

        run.evaluate(settings)

    return run_script(evaluate, description, argv)


def begin(options: argparse.Namespace) -> Settings:
    """Settings from parsed options, and a process that is ready to compute.

    Raises:
        ReidError: as :func:`read_settings`, or if the environment has a rank that is no number.
    """
    settings = read_settings(options)
    check_ranks()  # Lightning reads them when it is imported
    from engine.hardware import prepare_process

    prepare_process(settings.cfg)
    return settings
