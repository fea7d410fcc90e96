import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from inference.npy_writer import save_rows, write_npy
from tests.support import largest_file
from utils.files import written_aside


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(4, 3),
        np.array(["a", "가나", ""]),
        np.arange(5),
        np.zeros((0, 2), "f4"),
    ],
)
def test_the_file_is_that_of_numpy(array: np.ndarray, tmp_path: Path) -> None:
    with write_npy(tmp_path / "ours.npy") as file:
        for part in (array[:1], array[1:]):
            file.append(part)
        assert len(file) == len(array)
    np.save(tmp_path / "theirs.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()
    np.testing.assert_array_equal(np.load(tmp_path / "ours.npy", mmap_mode="r"), array)


def test_a_file_that_was_not_finished_is_removed(tmp_path: Path) -> None:
    def stop() -> None:
        with write_npy(tmp_path / "a.npy") as file:
            file.append(np.arange(9))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert not list(tmp_path.iterdir())


def save_whole(path: Path, array: np.ndarray) -> None:
    with write_npy(path) as file:
        file.append(array)


def save_aside(path: Path, array: np.ndarray) -> None:
    with written_aside(path) as aside, aside.open("wb") as file:
        save_rows(file, array)


@pytest.mark.parametrize("save", [save_whole, save_aside])
@pytest.mark.parametrize("missing", [1, 2**17])
def test_a_full_disk_is_an_error(save: Callable[[Path, np.ndarray], None], missing: int, tmp_path: Path) -> None:
    """Stores into a memory map would end the process without a word (SIGBUS), and a last byte would be lost."""
    array = np.zeros((100, 512), np.float32)
    with largest_file(array.nbytes + 128 - missing), pytest.raises(OSError, match="File too large") as error:
        save(tmp_path / "a.npy", array)
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(tmp_path / "a.npy"))
    assert not list(tmp_path.iterdir())
