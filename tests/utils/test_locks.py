import multiprocessing
from pathlib import Path

import pytest

from utils.errors import ReidError
from utils.files import only_process, scratch_folder


def test_two_processes_do_not_do_the_same(tmp_path: Path) -> None:
    path = tmp_path / "1-of-2.lock"
    message = r"another process is at work on .*1-of-2; wait for it"
    with only_process(path, wait=False), pytest.raises(ReidError, match=message), only_process(path, wait=False):
        pass
    with only_process(path, wait=True):
        pass


def test_a_forked_process_does_not_hold_it(tmp_path: Path) -> None:
    """Decoders outlive a killed parent by seconds."""
    context = multiprocessing.get_context("fork")
    is_running, go_on = context.Event(), context.Event()

    def decode() -> None:
        is_running.set()
        go_on.wait(30)

    with only_process(tmp_path / "lock", wait=False):
        child = context.Process(target=decode)
        child.start()
        assert is_running.wait(30)
        with pytest.raises(ReidError, match="another process"), only_process(tmp_path / "lock", wait=False):
            pass
    with only_process(tmp_path / "lock", wait=False):
        assert child.is_alive()
    go_on.set()
    child.join()


def test_folders_of_killed_processes_go_and_those_in_use_stay(tmp_path: Path) -> None:
    for name in (".embedded_killed", ".results_killed", "photos"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.lock").touch()
    stay = {".results_killed", ".results_killed.lock", "photos", "photos.lock"}
    with scratch_folder(tmp_path, ".embedded_") as first:
        (first / "vectors.npy").write_text("x")
        with scratch_folder(tmp_path, ".embedded_") as second:
            assert (first / "vectors.npy").is_file()
            assert second != first
            assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
                first.name,
                second.name,
                ".results_killed",
                "photos",
            }
    assert {path.name for path in tmp_path.iterdir()} == stay


def test_a_folder_goes_after_an_error_too(tmp_path: Path) -> None:
    def fill() -> None:
        with scratch_folder(tmp_path, ".x_") as folder:
            (folder / "vectors.npy").write_text("x")
            raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        fill()
    assert not list(tmp_path.iterdir())
