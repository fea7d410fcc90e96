"""From a command line to settings, and from an exception to one clear line and an exit code."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from yacs.config import CfgNode

from configs import SCHEMA, get_cfg, read_config, with_values
from configs.schema import checked_value
from utils.command_line import EXIT_USER_ERROR, OneLineParser
from utils.errors import ReidError, did_you_mean, one_line
from utils.log import setup_logging

logger = logging.getLogger(__name__)

EXIT_INTERRUPTED = 130

# As gloo (the first two) and NCCL say it.
_LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "remote process exited")

_EPILOG = """\
KEY VALUE pairs override the configuration, e.g.  DATASETS.NAMES market1501 SOLVER.MAX_EPOCHS 60
All keys with their meaning, unit and allowed values:  python -m configs
"""


class InterruptedRun(Exception):  # noqa: N818 (an interruption is no error)
    """The user, or the cluster, asked a run to stop; what it had reached is saved."""


@dataclass(frozen=True)
class Settings:
    """What the user asked for, in the two layers that may override one another differently.

    Attributes:
        file: values of ``--config_file`` by key.
        overrides: values of the command line by key.
    """

    file: dict[str, Any]
    overrides: dict[str, Any]

    @classmethod
    def parse(cls, argv: Sequence[str]) -> "Settings":
        """Settings from the arguments of a training or test script, without the program's name."""
        return read_settings(build_parser("").parse_intermixed_args(argv))

    def resolve(self, *below: dict[str, Any], above_file: dict[str, Any] | None = None) -> CfgNode:
        """The frozen tree: defaults, ``below``, the file, ``above_file``, then the command line."""
        cfg = get_cfg()
        for layer in (*below, self.file, above_file or {}, self.overrides):
            cfg = with_values(cfg, layer)
        cfg.freeze()
        return cfg

    def get(self, name: str) -> Any:  # noqa: ANN401 (a key may hold any plain type)
        """The value of one key where no checkpoint has a say."""
        return self.overrides.get(name, self.file.get(name, SCHEMA[name].default))


def build_parser(description: str) -> argparse.ArgumentParser:
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
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="overrides of the configuration")
    return parser


def read_settings(options: argparse.Namespace) -> Settings:
    """Settings from parsed options.

    Raises:
        ReidError: for an unknown key, a value of the wrong type, a key without value or a missing file.
    """
    words: list[str] = options.overrides
    if len(words) % 2:
        hint = did_you_mean(words[-1], SCHEMA) if words[-1] not in SCHEMA else ""
        raise ReidError(f"overrides must come as KEY VALUE pairs, got {words[-1]!r} without a value{hint}")
    overrides = {name: checked_value(SCHEMA, name, text) for name, text in zip(words[::2], words[1::2], strict=True)}
    if options.scale is not None:
        scale = checked_value(SCHEMA, "INPUT.SCALE", options.scale)
        if overrides.setdefault("INPUT.SCALE", scale) != scale:
            raise ReidError(f"--scale is INPUT.SCALE, got {scale} and {overrides['INPUT.SCALE']}; leave one out")
    return Settings(read_config(options.config_file) if options.config_file else {}, overrides)


def run_script(action: Callable[[Settings], object], description: str, argv: Sequence[str] | None) -> int:
    """Parse, run, and turn a user's mistake into one line and an exit code.

    Args:
        action: what the script does with its settings.
        description: for ``--help``.
        argv: arguments without the program's name; None = those of the process.

    Returns:
        See :func:`exit_code`.
    """
    options = build_parser(description).parse_intermixed_args(argv)
    setup_logging()
    return exit_code(lambda: action(read_settings(options)))


def exit_code(work: Callable[[], object]) -> int:
    """Do the work of a script.

    Returns:
        0; 2 after a user's mistake, an error of the file system, or a loss of memory or of a process (told in one
        line); 130 after an interruption.
    """
    try:
        work()
    except InterruptedRun as stop:
        logger.warning("%s", stop)
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as error:  # a folder that cannot be written, a full disk: named by the system
        _tell(f"{error.strerror or error}: {error.filename or 'no file named'}")
        return EXIT_USER_ERROR
    except ReidError as error:
        _tell(_one_line(error))
        return EXIT_USER_ERROR
    except RuntimeError as error:
        if (remedy := _remedy(error)) is None:
            raise
        _tell(f"{one_line(error)[:200]}; {remedy}")
        return EXIT_USER_ERROR
    return 0


def _tell(mistake: str) -> None:
    tqdm.write(f"error: {mistake}", file=sys.stderr)  # beside a progress bar, not at its end


def _remedy(error: RuntimeError) -> str | None:
    """What helps where torch reports the machine's limits or the end of a process, and not a fault of ours."""
    if isinstance(error, torch.OutOfMemoryError):
        return "lower SOLVER.IMS_PER_BATCH or TEST.IMS_PER_BATCH, or set TRAINER.PRECISION bf16-mixed"
    if str(error).startswith("DataLoader worker"):
        return "if memory ran out, lower DATALOADER.NUM_WORKERS or the batch size"
    if any(words in str(error) for words in _LOST_PEER):
        return "another process of this run stopped: its message is above"
    return None


def _one_line(error: ReidError) -> str:
    """The message; an error out of a loader's worker carries it at the end of a printed traceback."""
    text = str(error).strip()
    if text.startswith("Caught "):
        return text.splitlines()[-1].partition("ReidError: ")[2] or text
    return text
