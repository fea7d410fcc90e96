"""How the scripts stop."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cli import exit_code
from inference.options import own_options, run_with_options

ROOT = Path(__file__).resolve().parents[2]


def test_sigterm_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    code = run_with_options(lambda *_: os.kill(os.getpid(), signal.SIGTERM), own_options(), "x", [], "stopped here")
    assert code == 130
    assert capsys.readouterr().err.strip().endswith("WARNING stopped here")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID"])
def test_each_process_of_several_warns(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "1")
    assert run_with_options(lambda *_: logging.warning("unreadable"), own_options(), "x", []) == 0
    assert capsys.readouterr().err.strip().endswith("WARNING unreadable")


def test_a_killed_decoder_takes_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    assert exit_code(work) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: DataLoader worker (pid 7) is killed by signal: Killed.; if memory ran out, lower")

    def fault() -> None:
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="of ours"):
        exit_code(fault)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["create_embeddings", "infer"])
def test_a_process_group_that_is_terminated(
    script: str, checkpoint: Path, draw: Callable[..., Path], tmp_path: Path
) -> None:
    """Decoders get the signal too; the log has one line, and no temporary file is left."""
    image, output = draw(tmp_path / "image.jpg", 1, 400, 200), tmp_path / "out"
    (tmp_path / "many").mkdir()
    for number in range(8_000):
        (tmp_path / "many" / f"{number}.jpg").hardlink_to(image)
    values = ["DATASETS.ROOT_DIR", str(tmp_path / "many"), "MODEL.PRETRAIN_PATH", str(checkpoint)]
    values += ["OUTPUT_DIR", str(output), "TRAINER.ACCELERATOR", "cpu", "DATALOADER.NUM_WORKERS", "2"]
    query = ["--query_dir", str(tmp_path / "many")] if script == "infer" else []
    command = [sys.executable, str(ROOT / f"inference/{script}.py"), *query, *values]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stderr=file, stdout=file, start_new_session=True)
        deadline = time.monotonic() + 120
        while "embed:" not in log.read_text() or "128/8000" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(30) == 130
    text = log.read_text()
    assert "Traceback" not in text
    assert "Error" not in text
    last = text.strip().splitlines()[-1]
    if script == "infer":
        assert last.endswith("WARNING stopped; no results were written")
        assert not list(output.iterdir())
    else:
        assert last.endswith("WARNING stopped; what is done is kept: repeat the command to go on")
        assert [path.name for path in output.iterdir()] == ["embeddings.part"]
