"""Damaged inputs: they work, or one line says what is damaged; never a traceback, and results of before stay."""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.engine.support import resume
from tests.faults.jobs import JOBS, World, check_nothing_lost, check_whole, contents, runs_below
from tests.faults.support import UsualOf, run


def _flip(random: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice([1, 8, 64])):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _zero(random: Random, content: bytes) -> bytes:
    """A block that a disk has lost."""
    start = random.randint(0, len(content))
    length = random.randint(1, max(1, len(content) // 4))
    return content[:start] + bytes(len(content[start : start + length])) + content[start + length :]


def _cut_out(random: Random, content: bytes) -> bytes:
    start = random.randint(0, len(content))
    return content[:start] + content[start + random.randint(1, 16) :]


DAMAGES: dict[str, Callable[[Random, bytes], bytes]] = {
    "truncated": lambda random, content: content[: random.randrange(max(1, len(content)))],
    "flipped": _flip,
    "zeroed": _zero,
    "cut": _cut_out,
    "empty": lambda *_: b"",
    "noise": lambda random, content: random.randbytes(len(content)),
    "doubled": lambda _, content: content * 2,
    "text": lambda *_: b"<html>404 not found</html>\n",
    "numbers": lambda *_: b"[1, 2, 3]\n",
}
"""Kind -> the content of a file after it."""


def damage(random: Random, path: Path) -> None:
    """Replace a file by a damaged one; what else has a link to it keeps its content."""
    content = DAMAGES[random.choice(list(DAMAGES))](random, path.read_bytes())
    path.unlink()
    path.write_bytes(content)


def check_said(words: list[str], folder: Path, *, goes_on: bool = False) -> None:
    """Run a command on something damaged; only where it goes on with earlier work may it change files of that."""
    before = contents(folder)
    ending = run(words)
    if ending.code == 0:
        ending.check_quiet()
    else:
        ending.check_refusal()
    if ending.code or not goes_on:
        check_nothing_lost(before, folder)


@pytest.mark.parametrize("name", ["train", "test", "embed", "search", "infer", "makelr"])
def test_damaged_images(name: str, seed: int, world: World, folder: Path) -> None:
    random = Random(f"images {name} {seed}")
    market = Path(shutil.copytree(world.market, folder.with_name("market")))
    images = sorted(market.rglob("*.jpg"))
    for path in random.sample(images, random.choice([1, 3, len(images) // 2])):
        damage(random, path)
    here = world._replace(market=market)
    JOBS[name].prepare(here, folder)
    check_said(JOBS[name].words(here, folder), folder)
    check_whole(folder)


@pytest.mark.parametrize("name", ["train", "test", "embed", "search"])
def test_damaged_checkpoint(name: str, seed: int, world: World, folder: Path) -> None:
    random = Random(f"checkpoint {name} {seed}")
    here = world._replace(checkpoint=Path(shutil.copy(world.checkpoint, folder.with_name("damaged.pth"))))
    damage(random, here.checkpoint)
    JOBS[name].prepare(here, folder)
    weights = ["MODEL.PRETRAIN_PATH", str(here.checkpoint)] if name == "train" else []
    check_said([*JOBS[name].words(here, folder), *weights], folder)


def test_damaged_gallery(seed: int, world: World, usual: UsualOf, folder: Path) -> None:
    random = Random(f"gallery {seed}")
    shutil.copytree(usual("search").folder, folder, dirs_exist_ok=True)  # with its index
    files = ["embeddings.npy", "paths.npy", "meta.json", *(path.name for path in folder.glob("index_*"))]
    damage(random, folder / random.choice(sorted(files)))
    check_said(JOBS["search"].words(world, folder), folder)


def test_damaged_run(seed: int, usual: UsualOf, folder: Path) -> None:
    """Resume a run beside files of it that are damaged."""
    random = Random(f"run {seed}")
    shutil.copytree(usual("train").folder, folder, dirs_exist_ok=True)
    (place,) = runs_below(folder)
    damage(random, place / random.choice(["metrics.csv", "config.yml", "best.pth", "report_0.json"]))
    folders = ("LOGS_DIR", str(folder / "logs"), "RUNS_DIR", str(folder / "runs"))
    checkpoint = random.choice(["1.pth", "2_last.pth"])
    check_said(["train.py", *resume(place / checkpoint), "SOLVER.MAX_EPOCHS", "4", *folders], folder, goes_on=True)


@pytest.mark.parametrize("name", ["embed", "makelr", "convert", "tracks", "synthetic"])
def test_damaged_work(name: str, seed: int, world: World, usual: UsualOf, folder: Path) -> None:
    """Go on beside files that tell how far a command came."""
    random = Random(f"work {name} {seed}")
    job = JOBS[name]
    if name == "embed":
        run([*job.words(world, folder), "--shard", "1/3"]).check_success()
        files = [*folder.rglob("*.npz"), *folder.rglob("job.json")]
    else:
        shutil.copytree(usual(name).folder, folder, dirs_exist_ok=True)
        files = list(folder.rglob("*.json"))
        image = random.choice(sorted(folder.rglob("*.jpg")))
        image.unlink()
    damage(random, random.choice(sorted(files)))
    check_said(job.words(world, folder), folder, goes_on=True)


def test_damaged_release(seed: int, world: World, folder: Path) -> None:
    random = Random(f"release {seed}")
    here = world._replace(release=Path(shutil.copytree(world.release, folder.with_name("MOT17"))))
    files = sorted(path for path in here.release.rglob("*") if path.is_file())
    annotations = [path for path in files if path.suffix != ".jpg"]
    damage(random, random.choice(random.choice([files, annotations])))
    check_said(JOBS["convert"].words(here, folder), folder)
    check_whole(folder)


@pytest.mark.parametrize("kind", ["yaml", "csv"])
def test_damaged_text(kind: str, seed: int, world: World, folder: Path) -> None:
    random = Random(f"text {kind} {seed}")
    path = folder.with_name(f"input.{kind}")
    if kind == "yaml":
        path.write_text("MODEL:\n  POOLING: avg\nSOLVER:\n  LR_STEPS: [1, 2]\n  GAMMA: 0.1\n")
        more = ["--config_file", str(path)]
    else:
        images = enumerate(sorted(world.market.rglob("0*.jpg")))
        lines = [f"{image},{image.name[:4]},{number % 2}\n" for number, image in images]
        path.write_text("".join(["path,person_id,camera_id\n", *lines]))
        more = ["DATASETS.NAMES", str(path)]
    damage(random, path)
    check_said([*JOBS["train"].words(world, folder), "SOLVER.MAX_EPOCHS", "1", *more], folder)
