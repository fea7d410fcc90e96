import logging
import subprocess
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from utils.errors import ReidError
from utils.log import log_file, setup_logging


def test_a_line_does_not_break_a_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging()
    with tqdm(total=10, file=sys.stderr, mininterval=0) as bar:
        bar.update(3)
        logging.getLogger("somebody").info("in between")
        bar.update(7)
    lines = capsys.readouterr().err.replace("\r", "\n").split("\n")
    (line,) = [line for line in lines if "in between" in line]
    assert line[8:] == " INFO in between"  # a line of its own after the time


def test_a_file_name_neither_forges_a_line_nor_commands_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging()
    name = "a.jpg\n12:00:00 ERROR forged\x1b[2J\u202e"
    logging.getLogger("somebody").warning("cannot read %s", name)
    (line,) = capsys.readouterr().err.splitlines()
    assert line[8:] == r" WARNING cannot read a.jpg\n12:00:00 ERROR forged\x1b[2J\u202e"


def test_a_traceback_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging()
    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger("somebody").exception("it failed")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("ERROR it failed")
    assert lines[-1] == "ValueError: inside"


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "1"}, True),
        ({"RANK": "4", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "0", "SLURM_PROCID": "3"}, True),  # SLURM need not be what started the processes
        ({"LOCAL_RANK": "1"}, False),
        ({"SLURM_PROCID": "2"}, False),
    ],
)
def test_the_first_process_speaks_and_with_work_of_its_own_each_does(
    environment: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    from lightning_fabric.utilities.rank_zero import _get_rank  # whose order it is

    assert ((_get_rank() or 0) == 0) == first
    for every_process in (False, True):
        setup_logging(every_process)
        logger = logging.getLogger("somebody")
        for say in (logger.info, logger.warning, logger.error):
            say("to all" if every_process else "to one")
    err = capsys.readouterr().err
    assert [err.count(f"{level} to one") for level in ("INFO", "WARNING", "ERROR")] == [int(first), int(first), 1]
    assert [err.count(f"{level} to all") for level in ("INFO", "WARNING", "ERROR")] == [1, 1, 1]


def test_lightnings_hints_are_silent_and_it_is_not_imported_for_that() -> None:
    code = (
        "import sys, logging; from utils.log import setup_logging\n"
        "setup_logging(); assert 'pytorch_lightning' not in sys.modules; import pytorch_lightning\n"
        "for say in (logging.getLogger('pytorch_lightning.x').info, logging.getLogger('pytorch_lightning').warning,\n"
        "            logging.getLogger('ours').info): say('told by %s', say.__self__.name)"
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    names = [line.partition("told by ")[2] for line in run.stderr.splitlines() if "told by" in line]
    assert names == ["pytorch_lightning", "ours"]


def test_a_run_has_a_file_of_all_messages_and_of_its_end(tmp_path: Path) -> None:
    setup_logging()
    say = logging.getLogger("somebody").info
    say("before there was a folder")

    def run(error: BaseException) -> None:
        with log_file(tmp_path / "log.txt"):
            say("of the run \udcc3")  # of a name that is no text
            logging.getLogger("pytorch_lightning.x").info("a hint for programmers")
            raise error

    for error in (ReidError("the end;\nrepair it"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            run(error)
    say("after it")
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "INFO before there was a folder",
        "INFO of the run \\udcc3",
        "ERROR the end; repair it",
        "INFO of the run \\udcc3",
        "WARNING KeyboardInterrupt",
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_stderr_that_cannot_be_written_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 (it cannot be closed either)
    monkeypatch.setattr(sys, "stderr", stream)
    setup_logging()
    logging.getLogger("somebody").warning("lost")
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space"):
        stream.close()
