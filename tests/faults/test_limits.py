"""Too little room: one clear line and exit code 2, nothing half-written, earlier results untouched."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.faults.jobs import JOBS, World, check_nothing_lost, check_whole, contents
from tests.faults.support import Ending, UsualOf, run

_SIZE = 64  # MB of the small disk
_PAGE = 4096


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """A small disk."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here; try `unshare --map-root-user --mount make test-faults`")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def check_short_of_room(ending: Ending, fact: str, folder: Path) -> None:
    """It either had enough room, or said what it lacked."""
    if ending.code != 0:
        ending.check_refusal(fact)
    ending.check_quiet()
    check_whole(folder)


@pytest.mark.parametrize("name", JOBS)
def test_full_disk(name: str, seed: int, world: World, usual: UsualOf, disk: Path) -> None:
    random, job, undisturbed = Random(f"disk {name} {seed}"), JOBS[name], usual(name)
    place = disk / "work"
    if job.replaces:
        shutil.copytree(undisturbed.folder, place)
    else:
        job.prepare(world, place)
    before = contents(place)
    used = sum(path.stat().st_size for path in undisturbed.folder.rglob("*") if path.is_file())
    filler = disk / "filler"
    free = random.randint(0, used) // _PAGE * _PAGE
    with filler.open("wb") as file:
        room = os.statvfs(disk)
        file.write(bytes(max(0, room.f_bavail * room.f_frsize - free)))
    ending = run(job.words(world, place))
    check_short_of_room(ending, "No space left on device", place)
    check_nothing_lost(before, place)
    filler.unlink()
    if ending.code != 0:
        run(job.words(world, place)).check_success()
    check_whole(place)
    check_nothing_lost(before, place)
    assert job.result(place) == undisturbed.result


@pytest.mark.parametrize("name", JOBS)
def test_quota(name: str, seed: int, world: World, usual: UsualOf, folder: Path) -> None:
    random, job, undisturbed = Random(f"quota {name} {seed}"), JOBS[name], usual(name)
    job.prepare(world, folder)
    before = contents(folder)
    largest = max(path.stat().st_size for path in undisturbed.folder.rglob("*") if path.is_file())
    # The limit holds for the memory that workers share too, and so there are none.
    no_workers = ["DATALOADER.NUM_WORKERS", "0"] if name in ("train", "test") else []
    ending = run([*job.words(world, folder), *no_workers], file_size=random.randint(1, largest))
    check_short_of_room(ending, "File too large", folder)
    check_nothing_lost(before, folder)
    if ending.code != 0:
        run(job.words(world, folder)).check_success()
    check_whole(folder)
    assert job.result(folder) == undisturbed.result


@pytest.mark.parametrize("name", ["train", "test", "embed", "search"])
@pytest.mark.parametrize(
    "limit",
    [
        pytest.param("mount -t tmpfs -o size=64k tmpfs /dev/shm", id="shared-memory"),
        pytest.param("ulimit -n 24", id="descriptors"),
        pytest.param("ulimit -n 64", id="more-descriptors"),
    ],
)
def test_small_machine(name: str, limit: str, seed: int, world: World, usual: UsualOf, folder: Path) -> None:
    job, undisturbed = JOBS[name], usual(name)
    job.prepare(world, folder)
    before = contents(folder)
    shell = f'{limit} && exec "$@"'
    if limit.startswith("mount"):
        if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
            pytest.skip("a mount namespace of its own is not allowed here")
        shell = f"""unshare --mount bash -c '{limit} && exec "$@"' bash "$@\""""
    workers = ["DATALOADER.NUM_WORKERS", str(1 + seed % 3)]
    ending = run([*job.words(world, folder), *workers], shell=shell)
    if ending.code != 0:
        ending.check_refusal()
    ending.check_quiet()
    check_whole(folder)
    check_nothing_lost(before, folder)
    if ending.code == 0:
        assert job.result(folder) == undisturbed.result
