"""What the trials work on, how many there are, and the table of their outcomes."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults.jobs import JOBS, World, check_clean, check_whole
from tests.faults.support import Usual, UsualOf, run
from tests.support import run_arguments

SHORT_FORM = {
    *("test_killed[0-train]", "test_killed[0-embed]", "test_killed[0-makelr]", "test_killed[0-convert]"),
    *("test_killed[0-search]", "test_killed[0-test]", "test_full_disk[0-embed]", "test_quota[0-test]"),
    *("test_broken_streams[test-out-to-head]", "test_signal_at[0-train-validation-once]"),
    *("test_signal_at[0-train-fork-once]", "test_signal_at_start[0-test]", "test_damaged_images[0-train]"),
}
"""The trials of a plain test run."""

_FRAMES, _HEIGHT, _WIDTH = 12, 120, 160


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``seed`` is the number of a trial."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(max(1, metafunc.config.getoption("--trials"))))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without ``--trials`` only the short form runs."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        item.add_marker(pytest.mark.slow)
    if not config.getoption("--trials"):
        rest = {item for item in here if item.name not in SHORT_FORM}
        config.hook.pytest_deselected(items=list(rest))
        items[:] = [item for item in items if item not in rest]


@pytest.fixture(scope="session")
def world(tiny_market: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A data set, a release of MOT17, a trained network, and a gallery."""
    folder = tmp_path_factory.mktemp("world")
    run(["train.py", *run_arguments(tiny_market, folder), "SOLVER.MAX_EPOCHS", "1"]).check_success()
    (checkpoint,) = folder.glob("logs/**/0_last.pth")
    _draw_release(folder / "MOT17")
    world = World(tiny_market, folder / "MOT17", checkpoint, folder / "gallery")
    run(JOBS["embed"].words(world, world.gallery)).check_success()
    return world


@pytest.fixture(scope="session")
def usual(world: World, tmp_path_factory: pytest.TempPathFactory) -> UsualOf:
    """Name of a job -> the job without a fault, which is run once."""
    known: dict[str, Usual] = {}

    def run_once(name: str) -> Usual:
        if name not in known:
            folder = tmp_path_factory.mktemp("usual") / name
            job = JOBS[name]
            job.prepare(world, folder)
            ending = run(job.words(world, folder), watch=folder)
            ending.check_success()
            check_whole(folder)
            check_clean(folder)
            known[name] = Usual(ending, folder, job.result(folder))
        return known[name]

    return run_once


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of one trial."""
    path = tmp_path / "trial"
    path.mkdir()
    return path


def _draw_release(raw: Path) -> None:
    """Two sequences with two people each."""
    for number in (2, 4):
        sequence = raw / "train" / f"MOT17-{number:02d}-FRCNN"
        (sequence / "img1").mkdir(parents=True)
        (sequence / "gt").mkdir()
        pixels = np.random.default_rng(number).integers(0, 256, (_FRAMES, _HEIGHT, _WIDTH, 3), dtype=np.uint8)
        rows = []
        for frame in range(1, _FRAMES + 1):
            Image.fromarray(pixels[frame - 1]).save(sequence / "img1" / f"{frame:06d}.jpg")
            rows += [f"{frame},{person},{person * 30 + frame},21,30,80,1,1,1\n" for person in (1, 2)]
        (sequence / "gt" / "gt.txt").write_text("".join(rows))
        sizes = f"imDir=img1\nimWidth={_WIDTH}\nimHeight={_HEIGHT}\nimExt=.jpg\n"
        (sequence / "seqinfo.ini").write_text(f"[Sequence]\n{sizes}")


_OUTCOMES: Counter[tuple[str, str, str]] = Counter()
_FAULTS: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a trial by its kind."""
    match = re.search(r"tests/faults/test_\w+\.py::test_(\w+)(?:\[(.*)\])?", report.nodeid)
    if match is None or not (report.when == "call" or report.failed or (report.skipped and report.when == "setup")):
        return
    parameters = " ".join(word for word in (match[2] or "").split("-") if not word.isdecimal())
    _OUTCOMES[match[1], parameters, "fault" if report.failed else report.outcome] += 1
    if report.failed:
        reason = getattr(getattr(report.longrepr, "reprcrash", None), "message", str(report.longrepr))
        _FAULTS.append(f"{report.nodeid}\n{reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table of trials by kind and outcome, and write it where ``--trials-table`` says."""
    if not _OUTCOMES or not config.getoption("--trials"):
        return
    outcomes = ("passed", "fault", "skipped")
    table: dict[str, dict[str, Counter[str]]] = {}
    for (kind, parameters, outcome), count in sorted(_OUTCOMES.items()):
        table.setdefault(kind, {}).setdefault(parameters, Counter())[outcome] = count
    sums = {kind: sum(rows.values(), Counter()) for kind, rows in table.items()}
    sums["all"] = sum(sums.values(), Counter())
    terminalreporter.section("trials")
    terminalreporter.write_line(f"{'kind':24}" + "".join(f"{outcome:>9}" for outcome in outcomes))
    for kind, row in sums.items():
        terminalreporter.write_line(f"{kind:24}" + "".join(f"{row[outcome]:9}" for outcome in outcomes))
    if path := config.getoption("--trials-table"):
        text = json.dumps({"kinds": sums, "parameters": table, "faults": _FAULTS}, indent=2)
        Path(path).write_text(text + "\n", encoding="utf-8")
