"""How the scripts stop."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from engine.cli import exit_code
from engine.settings import Settings
from inference import create_embeddings, get_similar, infer
from inference.script import build_options, extractor_for, run_with_options

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("create_embeddings", "get_similar", "infer")


def test_sigterm_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_with_options(lambda *_: os.kill(os.getpid(), signal.SIGTERM), build_options("x"), [], "stopped here")
    assert code == 130
    assert capsys.readouterr().err.strip().endswith("WARNING stopped here")
    os.kill(os.getpid(), signal.SIGTERM)  # while Python ends, it does nothing more


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID"])
def test_each_process_of_several_warns(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "1")
    assert run_with_options(lambda *_: logging.warning("unreadable"), build_options("x"), []) == 0
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


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("--precission", 2), ("--precision=int8", 2)])
def test_help_and_typos_do_not_wait_for_torch(script: str, argument: str, code: int) -> None:
    """In a process of its own: half a second instead of six."""
    program = (
        "import sys\n"
        f"from inference import {script}\n"
        "try:\n"
        f"    {script}.main([{argument!r}])\n"
        "finally:\n"
        "    print('imported:', sorted({'torch', 'torchvision', 'pytorch_lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout.endswith("imported: []\n")
    if argument == "--help":
        usage, _, explanations = done.stdout.partition("\n\n")
        for option in ("--config_file", "--precision", "--strict", "KEY VALUE"):
            assert option in usage
            assert option in explanations
    else:
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


def test_each_process_of_torchrun_has_a_device_of_its_own(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current, used = list[str](), list[str]()

    def record(_: object, device: str, *__: object) -> None:
        used.append(device)

    monkeypatch.setattr("inference.extract.Extractor", record)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    settings, options = {"MODEL.PRETRAIN_PATH": str(checkpoint)}, build_options(None).parse_args([])
    for rank in ("0", "1", "3"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        extractor_for(Settings({}, settings), options)
    assert used == current == ["cuda:0", "cuda:1", "cuda:1"]
    extractor_for(Settings({}, {**settings, "TRAINER.ACCELERATOR": "cpu"}), options)
    monkeypatch.delenv("LOCAL_RANK")
    extractor_for(Settings({}, settings), options)
    assert used[3:] == ["cpu", "auto"]
    assert len(current) == 3


@pytest.mark.parametrize("option", ["--query", "--camera"])
@pytest.mark.parametrize(
    ("key", "nearest"),
    [("MODEL.PRETRAIN_PAHT", "MODEL.PRETRAIN_PATH"), ("OUTPUT_DRI", "OUTPUT_DIR"), ("DATASET.ROOT", "DATASETS.ROOT")],
)
def test_a_misspelled_key_is_no_word_of_an_option_before_it(
    option: str, key: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get_similar.main([option, "1", "2", key, "x", "--topk", "3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: unknown configuration key {key}; did you mean {nearest}")


def test_words_of_an_option_that_are_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images by their endings, whether they exist or not; files that exist; names and numbers of cameras."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "UPLOADED.FILE").touch()
    words = ["SUSPECT.JPG", "IMG_1.PNG", "UPLOADED.FILE", "photos/A.B", "3", "HALL.2", "HALL_NORTH", "hall.door"]
    parser = build_options(None)
    parser.add_argument("--query", nargs="+", default=[])
    queries = list[list[str]]()
    code = run_with_options(
        lambda _, options: queries.append(options.query), parser, ["--query", *words, "INPUT.SCALE", "2"]
    )
    assert (code, queries) == (0, [words])


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
        while not list(output.glob("*/*.npz")) and not list(output.glob(".embedded_*/.vectors.npy.*")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(30) == 130, log.read_text()
    text = log.read_text()
    assert "Traceback" not in text
    assert "Error" not in text
    last = text.strip().splitlines()[-1]
    if script == "infer":
        assert last.endswith("WARNING stopped; results are written whole or not at all")
        assert not list(output.iterdir())
    else:
        assert last.endswith("WARNING stopped; what is done is kept: repeat the command to go on")
        assert [path.name for path in output.iterdir()] == ["embeddings.part"]


@pytest.mark.parametrize(
    ("script", "options"),
    [
        (create_embeddings, ("--shard", "--images_in_subfolders")),
        (get_similar, ("--gallery_data", "--topk", "--index", "--visualize", "--other_cameras")),
        (infer, ("--query_dir", "--max_distance")),
    ],
)
def test_the_usage_line_has_the_options_of_the_script(
    script: ModuleType, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        script.main(["--help"])
    usage = capsys.readouterr().out.partition("\n\n")[0]
    for option in (*options, "--config_file", "--precision", "KEY VALUE"):
        assert option in usage
