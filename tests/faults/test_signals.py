"""Ctrl-C and SIGTERM at any moment, once and twice: exit code 130, no traceback, nothing left behind, nothing lost."""

import signal
from pathlib import Path
from random import Random

import pytest

from tests.faults.jobs import JOBS, World, check_nothing_lost, check_whole, contents
from tests.faults.support import Ending, Strike, UsualOf, draw_strike, run

_STOPPED = {
    signal.SIGINT: {130},
    # SIGTERM ends a script that has no work to keep as it ends any program.
    signal.SIGTERM: {130, -signal.SIGTERM, 128 + signal.SIGTERM},
}
_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_AT_MOMENT = Path(__file__).with_name("at_moment.py")
_PLACES = {  # how often a job passes a place
    "train": {"training": 20, "validation": 3, "fork": 2},
    "test": {"test": 1, "fork": 1},
    "makelr": {"fork": 2},
    "convert": {"fork": 2},
}


def check_stopped(ending: Ending, number: signal.Signals) -> None:
    """It stopped as the signal wants, or had nothing left to do."""
    ending.check_quiet()
    assert ending.code in {0, *_STOPPED[number]}, str(ending)
    assert ending.mistakes == [], str(ending)


def go_on(name: str, world: World, folder: Path, result: object) -> None:
    """The command repeated ends as if nothing had been."""
    check_whole(folder)
    job = JOBS[name]
    if (words := job.repeat(world, folder)) is not None:
        run(words).check_success()
    assert job.result(folder) == result


@pytest.mark.parametrize("name", JOBS)
def test_signal(name: str, seed: int, world: World, usual: UsualOf, folder: Path) -> None:
    random, job, undisturbed = Random(f"signal {name} {seed}"), JOBS[name], usual(name)
    job.prepare(world, folder)
    before = contents(folder)
    number = random.choice(_NUMBERS)
    strike = draw_strike(random, number, undisturbed.ending)._replace(times=random.choice([1, 1, 2]))
    check_stopped(run(job.words(world, folder), strike=strike, watch=folder), number)
    check_nothing_lost(before, folder)
    go_on(name, world, folder, undisturbed.result)


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize(
    ("name", "place"),
    [pytest.param(name, place, id=f"{name}-{place}") for name in _PLACES for place in _PLACES[name]],
)
def test_signal_at(name: str, place: str, times: int, seed: int, world: World, usual: UsualOf, folder: Path) -> None:
    random, job, undisturbed = Random(f"signal {name} {place} {times} {seed}"), JOBS[name], usual(name)
    job.prepare(world, folder)
    number = random.choice(_NUMBERS)
    place_and_time = f"{place} {random.randrange(_PLACES[name][place])} {random.uniform(0, 0.01)}"
    moment = " ".join([place_and_time, *[number.name] * times])
    ending = run(job.words(world, folder), first=_AT_MOMENT, environment={"FAULT_MOMENT": moment})
    check_stopped(ending, number)
    go_on(name, world, folder, undisturbed.result)


@pytest.mark.parametrize("name", JOBS)
def test_signal_at_start(name: str, seed: int, world: World, usual: UsualOf, folder: Path) -> None:
    """While Python still imports what the script needs."""
    random, job, undisturbed = Random(f"start {name} {seed}"), JOBS[name], usual(name)
    job.prepare(world, folder)
    number = random.choice(_NUMBERS)
    # In the first tenth of a second Python itself begins, and no line of ours has run.
    strike = Strike(number, seconds=random.uniform(0.1, 4), times=random.choice([1, 2]))
    ending = run(job.words(world, folder), strike=strike, shell='exec "$@"')
    check_stopped(ending, number)
    go_on(name, world, folder, undisturbed.result)
