"""Plans of low-resolution twins of whole folders."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.low_resolution import (
    MARK,
    Job,
    Target,
    low_resolution_folder,
    low_resolution_sibling,
    make_images,
    make_plan,
    paired_paths,
)
from utils.errors import ReidError
from utils.files import write_text


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels)[: 3 if channels > 1 else 2]
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def save(folder: Path, name: str, image: Image.Image | np.ndarray, **options: object) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def made(source: Path, out: Path, scale: int = 2, quality: int = 95) -> Path:
    target = out / source.name
    assert make_images(Job(source, (Target(target, scale),)), quality) == ""
    return target


def market(tmp_path: Path) -> Path:
    folder = tmp_path / "market"
    for name in ("query/b.jpg", "query/a.JPG", "deep/er/c.png", "d.bmp"):
        save(folder, name, noise(40, 24))
    write_text(folder / "readme.txt", "text")
    write_text(folder / "query" / "Thumbs.db", "")
    return folder


def test_a_plan_is_recursive_sorted_and_leaves_out_finished_files(tmp_path: Path) -> None:
    source, low = market(tmp_path), tmp_path / "low"
    plan = make_plan(source, [Target(low, 2)], 95)
    names = [Path("d.bmp"), Path("deep/er/c.png"), Path("query/a.JPG"), Path("query/b.jpg")]
    assert sorted(job.source for job in plan.jobs) == sorted(source / name for name in names)
    assert plan.jobs == tuple(Job(source / n, (Target(low / n, 2),)) for n in sorted(names))
    assert plan.strangers == (Path("query/Thumbs.db"), Path("readme.txt"))
    assert plan.finished == 0
    assert not low.exists()

    write_text(low / MARK, plan.marks[low])
    made(source / "d.bmp", low)
    left = low / "query" / ".b.jpg.4711.part"
    write_text(left, "half")
    again = make_plan(source, [Target(low, 2), Target(tmp_path / "four", 4)], 95)
    assert again.finished == 1
    assert again.jobs[0] == Job(source / "d.bmp", (Target(tmp_path / "four" / "d.bmp", 4),))
    assert [len(job.targets) for job in again.jobs] == [1, 2, 2, 2]
    assert not left.exists()


def test_links_to_folders_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    source = market(tmp_path)
    save(tmp_path / "elsewhere", "e.jpg", noise(40, 24))
    (source / "gallery").symlink_to(tmp_path / "elsewhere")
    (source / "query" / "up").symlink_to(source)

    plan = make_plan(source, [Target(tmp_path / "low", 2)], 95)
    assert [job.source.name for job in plan.jobs] == ["d.bmp", "c.png", "e.jpg", "a.JPG", "b.jpg"]


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    source, low = market(tmp_path), tmp_path / "low"
    write_text(low / "thesis.tex", "years of work")
    with pytest.raises(ReidError, match=r"low must be new, empty, .* holds something else; remove it or choose"):
        make_plan(source, [Target(low, 2)], 95)
    assert [path.name for path in low.iterdir()] == ["thesis.tex"]
    with pytest.raises(ReidError, match=r"d\.bmp must be new, empty, .* something else"):
        make_plan(tmp_path / "market" / "query", [Target(source / "d.bmp", 2)], 95)


@pytest.mark.parametrize("change", ["scale", "quality", "source"])
def test_a_different_mark_is_refused(tmp_path: Path, change: str) -> None:
    source, low = market(tmp_path), tmp_path / "low"
    write_text(low / MARK, make_plan(source, [Target(low, 2)], 95).marks[low])
    make_plan(source, [Target(low, 2)], 95)
    changed = source / "query" if change == "source" else source
    scale, quality = 3 if change == "scale" else 2, 90 if change == "quality" else 95
    with pytest.raises(ReidError, match=r"begun by the same command .* but it holds \{.*makelr\.py.*\}; remove it"):
        make_plan(changed, [Target(low, scale)], quality)


def test_the_mark_holds_when_both_folders_move(tmp_path: Path) -> None:
    source = market(tmp_path / "here")
    low = low_resolution_sibling(source, 2)
    mark = make_plan(source, [Target(low, 2)], 95).marks[low]
    (tmp_path / "here").rename(tmp_path / "there")
    low = tmp_path / "there" / low.name
    assert make_plan(tmp_path / "there" / "market", [Target(low, 2)], 95).marks[low] == mark


def test_sources_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = market(tmp_path)
    with pytest.raises(ReidError, match=r"--data_dir must be the folder of a data set, but .*absent is no folder"):
        make_plan(tmp_path / "absent", [], 95)
    write_text(tmp_path / "texts" / "a.txt", "")
    with pytest.raises(ReidError, match=r"--data_dir must hold images, but .*texts has none \(1 other files\)"):
        make_plan(tmp_path / "texts", [], 95)
    for inside in (source, source / "low"):
        with pytest.raises(ReidError, match=r"--out_dir must lie outside of the data set .*market, got"):
            make_plan(source, [Target(inside, 2)], 95)

    def refuse(path: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ReidError, match=r"all folders in --data_dir must be readable, but .*Permission denied"):
        make_plan(source, [], 95)


def test_the_twin_lies_beside_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "market1501"
    folder.mkdir()
    link = tmp_path / "links" / "market"
    link.parent.mkdir()
    link.symlink_to(folder)
    assert low_resolution_sibling(link, 4) == tmp_path / "links" / "market_x4"
    monkeypatch.chdir(folder)
    assert low_resolution_sibling(Path(), 2) == tmp_path / "market1501_x2"
    with pytest.raises(ReidError, match=r'x4 must exist.* python makelr\.py --scale 4 --data_dir ".*market1501"$'):
        low_resolution_folder(folder, 4)
    (tmp_path / "market1501_x4").mkdir()
    assert low_resolution_folder(folder, 4) == tmp_path / "market1501_x4"


def test_pairs_have_the_same_relative_name(tmp_path: Path) -> None:
    source, low = market(tmp_path), tmp_path / "low"
    paths = [source / "query" / "b.jpg", source / "d.bmp"]
    for path in paths:
        made(path, low / path.relative_to(source).parent)
    assert paired_paths(paths, source, low) == [low / "query" / "b.jpg", low / "d.bmp"]
    missing = [*paths, source / "query" / "a.JPG", source / "deep" / "er" / "c.png"]
    with pytest.raises(ReidError, match=r"2 of 4 have none, first .*low/query/a\.JPG; run makelr\.py"):
        paired_paths(missing, source, low)
    with pytest.raises(ReidError, match="images with a twin must lie in the data set's folder, but "):
        paired_paths([tmp_path / "elsewhere.jpg"], source, low)
