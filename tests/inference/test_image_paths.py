import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datasets.preprocessing import Preprocessing
from datasets.readers.market import labels_of
from inference.gallery.fingerprint import Fingerprint
from inference.gallery.store import ModelCard, meta_text, open_gallery
from inference.image_paths import ImagePaths, sorted_names, write_paths
from inference.images import list_images
from tests.support import memory_budget

NAMES = ["b.jpg", "sub/0007_c2s1.jpg", "가.jpg", "a.jpg", os.fsdecode(b"caf\xe9.jpg")]


@pytest.fixture
def paths() -> ImagePaths:
    return ImagePaths("/root", sorted_names(NAMES))


def test_rows_are_paths_in_the_order_of_their_bytes(paths: ImagePaths) -> None:
    expected = ["/root/" + name for name in sorted(NAMES, key=os.fsencode)]
    assert (len(paths), paths.tolist(), [paths[row] for row in range(5)]) == (5, expected, expected)
    assert paths[np.array([3, 0])].tolist() == [expected[3], expected[0]]
    assert paths[1:3].tolist() == expected[1:3]
    assert paths.without(np.arange(5) == 2).tolist() == expected[:2] + expected[3:]
    assert sorted_names([]).shape == (0,)


def test_blocks_change_nothing(paths: ImagePaths, tmp_path: Path) -> None:
    rows = np.array([4, 1, 0, 3])
    one = (paths.digest_of_names(), paths.tolist(), [part.tolist() for part in labels_of(paths)])
    write_paths(tmp_path / "one.npy", paths, rows)
    with memory_budget(1):  # one path at a time
        again = ImagePaths("/root", sorted_names(NAMES))
        assert one == (again.digest_of_names(), again.tolist(), [part.tolist() for part in labels_of(again)])
        assert write_paths(tmp_path / "two.npy", again, rows).tolist() == [paths[int(row)] for row in rows]
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "two.npy").read_bytes()
    loaded = np.load(tmp_path / "two.npy", allow_pickle=False)
    assert (loaded.dtype.kind, loaded.tolist()) == ("U", [paths[int(row)] for row in rows])


def test_the_digest_is_of_the_names_alone(paths: ImagePaths) -> None:
    assert ImagePaths("/elsewhere", sorted_names(NAMES)).digest_of_names() == paths.digest_of_names()
    assert ImagePaths("/root", sorted_names([*NAMES[1:], "c.jpg"])).digest_of_names() != paths.digest_of_names()


def test_a_name_that_is_not_utf8_opens(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(name)).write_text("text")
    (path,) = list_images(tmp_path).paths
    assert os.fsencode(path) == name
    assert Path(path).read_text() == "text"


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_for_each_name(tmp_path: Path) -> None:
    """Names in a compact array and labels in blocks: strings of all paths at once would take 200 bytes and more each."""
    count = 20_000
    for row in range(count):
        (tmp_path / f"{row:04d}_c1s1_{row:07d}_00.jpg").touch()
    with memory_budget(2**22):
        assert peak_bytes(lambda: list_images(tmp_path)) < 120 * count
        write_paths(tmp_path / "paths.npy", list_images(tmp_path).paths, np.arange(count))
        np.save(tmp_path / "embeddings.npy", np.zeros((count, 1), np.float32))
        card = ModelCard("a.pth", "ab", 1, Preprocessing())
        text = meta_text(card, Fingerprint(count, 1, "cd"), centroids=False, origin={})
        (tmp_path / "meta.json").write_text(text)
        assert peak_bytes(lambda: open_gallery(tmp_path)) < 40 * count
