"""Mistakes on a command line, and how a script ends."""

import errno
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from utils.command_line import OneLineParser, exit_code, number
from utils.signals import InterruptedRun

ROOT = Path(__file__).resolve().parents[2]

# A script that writes a table and a line to stdout and one to stderr, and says by a file that it came to its end.
SCRIPT = r"""
import logging, sys
from pathlib import Path
from rich.table import Table
from utils.command_line import exit_code, show, show_tables

def work():
    table = Table("t\u00eate")
    table.add_row("\udcc3")
    show_tables(table)
    show("caf\u00e9\n")
    logging.warning("caf\u00e9")
    Path(sys.argv[1]).touch()

sys.exit(exit_code(work))
"""


@pytest.mark.parametrize(
    ("redirection", "code", "error"),
    [
        ("", 0, None),
        (">&-", 0, None),
        ("2>&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("| true", 0, None),
        (">/dev/full", 2, "error: No space left on device: stdout\n"),
    ],
)
def test_streams_that_cannot_be_written_cost_no_work(
    redirection: str, code: int, error: str | None, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    command = f"set -o pipefail; '{sys.executable}' -c '{SCRIPT}' '{done}' {redirection}"
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    shell = ["bash", "-c", command]
    run = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == code, run.stderr
    assert done.exists() == (code == 0)
    assert "Traceback" not in run.stderr
    assert "Exception ignored" not in run.stderr
    assert error is None or run.stderr == error


@pytest.mark.parametrize("number_", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_one_line_and_exit_code_130(number_: signal.Signals, caplog: pytest.LogCaptureFixture) -> None:
    assert exit_code(lambda: signal.raise_signal(number_), "stopped; repeat the command") == 130
    assert caplog.messages == ["stopped; repeat the command"]
    signal.raise_signal(number_)  # after the work, while Python ends


def test_an_interruption_passes_code_that_takes_any_error() -> None:
    def work() -> None:
        try:
            raise InterruptedRun("stopped")
        except Exception:
            pytest.fail("taken for a damaged file")

    assert exit_code(work) == 130


def allocate() -> None:
    torch.empty(2**50)


def allocate_array() -> None:
    np.zeros(2**50)


def system_error(number_: int) -> OSError:
    return OSError(number_, "as the system says it")


@pytest.mark.parametrize(
    ("work", "remedy"),
    [
        (allocate, r"allocate.*lower SOLVER\.IMS_PER_BATCH, TEST\.IMS_PER_BATCH or DATALOADER\.NUM_WORKERS"),
        (allocate_array, r"PiB.*lower SOLVER\.IMS_PER_BATCH"),
        (system_error(errno.ENOMEM), r"lower SOLVER\.IMS_PER_BATCH"),
        (system_error(errno.EMFILE), r"ulimit -n"),
        (system_error(errno.EAGAIN), r"no more processes: lower DATALOADER\.NUM_WORKERS"),
        (RuntimeError("x is killed by signal: Bus error. ... out of shared memory."), "--shm-size"),
        (
            MemoryError("Caught MemoryError in worker 0.\nTraceback ...\nMemoryError: 9 GB"),
            "error: 9 GB; memory ran out",
        ),
    ],
)
def test_limits_of_the_machine_are_one_line_with_a_remedy(
    work: object, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise work  # type: ignore[misc]

    assert exit_code(work if callable(work) else fail) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(remedy, line), line


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2> >(true)"])
def test_a_mistake_without_a_stderr_is_told_by_the_exit_code(redirection: str) -> None:
    script = (
        "import sys\n"
        "from utils.command_line import exit_code\n"
        "from utils.errors import ReidError\n"
        "def work(): raise ReidError(1)\n"
        "sys.exit(exit_code(work))"
    )
    command = f"'{sys.executable}' -c '{script}' {redirection}"
    run = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2


def test_mistakes_take_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    parser = OneLineParser(prog="x")
    parser.add_argument("--share", type=number(float, 0, 1))
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--share", "2"])
    with pytest.raises(SystemExit, match="2"):
        parser.fail("a file\nof two lines")
    assert capsys.readouterr().err.splitlines() == [
        "error: argument --share: must be a number from 0 to 1, got '2'; see --help",
        "error: a file of two lines",
    ]


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("9" * 30, int("9" * 30))])
def test_whole_numbers(text: str, value: int) -> None:
    assert number(int, 1)(text) == value


@pytest.mark.parametrize("text", ["0", "1.5", "-1", "nan", "", "one"])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(Exception, match=f"must be a whole number of 1 or more, got '{text}'"):
        number(int, 1)(text)


@pytest.mark.parametrize("text", ["nan", "inf", "1.01"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(Exception, match=f"must be a number from 0 to 1, got '{text}'"):
        number(float, 0, 1)(text)
