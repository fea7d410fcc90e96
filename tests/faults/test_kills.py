"""``kill -9`` at a random moment: what lies on the disk is whole, and the command repeated ends as if nothing had been."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from tests.faults.jobs import JOBS, World, check_clean, check_nothing_lost, check_whole, contents
from tests.faults.support import UsualOf, draw_strike, run

_LITTLE = 100_000  # bytes: no checkpoint


@pytest.fixture
def other_disk(folder: Path) -> Iterator[Path]:
    """Temporary files may lie on another disk, as they do on clusters: a move from there is no move but a copy."""
    places = [Path(name) for name in ("/dev/shm", "/var/tmp") if Path(name).is_dir()]
    others = [place for place in places if place.stat().st_dev != folder.stat().st_dev]
    with TemporaryDirectory(dir=(others or [folder.parent])[0]) as name:
        yield Path(name)


@pytest.mark.parametrize("name", JOBS)
def test_killed(name: str, seed: int, world: World, usual: UsualOf, folder: Path, other_disk: Path) -> None:
    random, job, undisturbed = Random(f"kill {name} {seed}"), JOBS[name], usual(name)
    if job.replaces and random.random() < 0.5:  # results of an earlier run must survive
        shutil.copytree(undisturbed.folder, folder, dirs_exist_ok=True)
    else:
        job.prepare(world, folder)
    before = contents(folder)
    environment = {"TMPDIR": str(other_disk)}
    for _ in range(random.choice([1, 1, 2])):
        words = job.repeat(world, folder)
        if words is not None:
            strike = draw_strike(random, signal.SIGKILL, undisturbed.ending)
            run(words, strike=strike, watch=folder, environment=environment)
        check_whole(folder)
        check_nothing_lost(before, folder)
    if (words := job.repeat(world, folder)) is not None:
        run(words, environment=environment).check_success()
    check_whole(folder)
    check_clean(folder)
    check_nothing_lost(before, folder)
    assert job.result(folder) == undisturbed.result
    assert sum(path.stat().st_size for path in other_disk.rglob("*")) < _LITTLE
