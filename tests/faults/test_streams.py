"""Broken, full, closed and ASCII streams: the work is done and lies on the disk, and nobody sees a traceback."""

from pathlib import Path

import pytest

from tests.faults.jobs import JOBS, World, check_whole
from tests.faults.support import UsualOf, run

_EXIT = "; exit ${PIPESTATUS[0]}"
_STREAMS = {
    "out-to-head": f'"$@" | head -n 1{_EXIT}',
    "out-to-nobody": f'"$@" | true{_EXIT}',
    "out-closed": '"$@" >&-',
    "out-full": '"$@" >/dev/full',
    "err-closed": '"$@" 2>&-',
    "err-full": '"$@" 2>/dev/full',
    "err-to-nobody": f'("$@" 2>&1 >&3 | true{_EXIT}) 3>&1',
    "all-closed": '"$@" <&- >&- 2>&-',
}
_ASCII = {
    "streams": {"PYTHONIOENCODING": "ascii"},
    "locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
_TEXT = {
    "stats": ["-m", "datasets.stats", "{market}"],
    "keys": ["-m", "configs"],
    "help": ["train.py", "--help"],
    "mistake": ["train.py", "SOLVER.MAX_EPOCH", "3"],
}


@pytest.mark.parametrize("streams", _STREAMS)
@pytest.mark.parametrize("name", JOBS)
def test_broken_streams(name: str, streams: str, world: World, usual: UsualOf, folder: Path) -> None:
    job, undisturbed = JOBS[name], usual(name)
    job.prepare(world, folder)
    ending = run(job.words(world, folder), shell=_STREAMS[streams])
    ending.check_quiet()
    assert ending.code == 0 or (streams.startswith("out") and ending.code in (2, 141)), str(ending)
    check_whole(folder)
    assert job.result(folder) == undisturbed.result


@pytest.mark.parametrize("streams", _STREAMS)
@pytest.mark.parametrize("name", _TEXT)
def test_text_for_nobody(name: str, streams: str, world: World) -> None:
    words = [word.format(market=world.market) for word in _TEXT[name]]
    ending = run(words, shell=_STREAMS[streams])
    ending.check_quiet()
    if name == "mistake":
        assert ending.code == 2, str(ending)
    elif streams == "out-full" and name != "help":  # what was asked for is lost
        ending.check_refusal("No space left on device")
    else:
        assert ending.code in (0, 141), str(ending)


@pytest.mark.parametrize("encoding", _ASCII)
@pytest.mark.parametrize("name", JOBS)
def test_ascii_streams(name: str, encoding: str, world: World, usual: UsualOf, folder: Path) -> None:
    job, undisturbed = JOBS[name], usual(name)
    here = {field: folder / f"größe_데이터_{field}" for field in ("market", "release", "checkpoint")}
    for field, link in here.items():
        link.symlink_to(getattr(world, field))
    names, output = world._replace(**here), folder / "ausgabe_ß"
    job.prepare(names, output)
    ending = run(job.words(names, output), shell='"$@"', environment=_ASCII[encoding])
    if (name, encoding, ending.code) == ("train", "locale", 2):  # Python takes the folder for one that is not UTF-8
        ending.check_refusal("RUNS_DIR", "PYTHONUTF8=1")
        return
    ending.check_success()
    check_whole(output)
    if name in ("train", "convert", "tracks", "synthetic"):  # the others write or take the names of what they read
        assert job.result(output) == undisturbed.result
