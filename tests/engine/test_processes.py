"""Training and test in several processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from datasets.readers import read_dataset
from engine.builders.data import read_training_data
from engine.builders.model import build_network
from engine.callbacks.epoch_log import read_metrics
from engine.processes import check_processes
from engine.settings import Settings
from tests.engine.support import assert_same_weights, checkpoint_at, evaluate, report_at
from utils.errors import ReidError

ROOT = Path(__file__).resolve().parents[2]


def run_script(name: str, *arguments: str) -> None:
    command = [sys.executable, name, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert process.returncode == 0, process.stderr[-2000:]


@pytest.mark.slow
def test_no_process_waits_for_a_gradient_that_never_comes(tiny_arguments: list[str], tmp_path: Path) -> None:
    """No term looks at the features after the BNNeck here, so its weights get none."""
    raw = ("SOLVER.QUERY_XENT_WEIGHT", "0", "SOLVER.MAX_EPOCHS", "1", "TRAINER.DEVICES", "2")
    run_script("train.py", *tiny_arguments, *raw)
    assert (tmp_path / "logs/tiny/osnet_x0_25/baseline/exp0/0_last.pth").exists()


@pytest.mark.slow
def test_two_processes_with_unequal_shares_train_test_and_agree(
    tiny_arguments: list[str], tiny_market: Path, tmp_path: Path
) -> None:
    """An odd number of images, of which one process has a batch more than the other."""
    data = tmp_path / "data" / "tiny"
    shutil.copytree(tiny_market, data)
    count = len(list((data / "query").iterdir())) + len(read_dataset(str(data), Path()).gallery)
    if count % 2 == 0:
        next(path for path in sorted((data / "bounding_box_test").iterdir()) if path.name.startswith("0000")).unlink()
        count -= 1
    share = -(-count // 2)
    two = ["DATASETS.NAMES", str(data), "TRAINER.DEVICES", "2", "TEST.IMS_PER_BATCH", str(share - 1)]

    run_script("train_ctl.py", *tiny_arguments, *two)
    folder = tmp_path / "logs/tiny/osnet_x0_25/ctl/exp0"
    assert not folder.with_name("exp1").exists()
    validation = report_at(folder / "report_1.json")["results"]
    use = ["MODEL.PRETRAIN_PATH", str(folder / "1_last.pth"), "TRAINER.ACCELERATOR", "cpu"]
    alone = evaluate([*use, "DATASETS.NAMES", str(data), "OUTPUT_DIR", str(tmp_path / "one")])
    shutil.copytree(data, tmp_path / "data" / "again")
    both = ["DATASETS.TEST_NAMES", repr((str(data), str(tmp_path / "data/again")))]
    run_script("test.py", *use, *two, *both, "OUTPUT_DIR", str(tmp_path / "two"))
    assert {file.name for file in (tmp_path / "two").iterdir()} == {"report.json", "report.md", "tiny", "again"}
    test = report_at(tmp_path / "two/report.json")["results"]
    count = len(alone.entries)
    for entry, *others in zip(alone.entries, validation, test[:count], test[count:], strict=True):
        for other in others:
            assert other["num_gallery"] == entry.result.num_gallery
            assert other["mAP"] == pytest.approx(entry.result.mAP, abs=1e-5)


def place(kind: str, rank: int) -> dict[str, str]:
    """The environment of one process on each of two machines, as a launcher sets it."""
    if kind == "torchrun":
        ranks = {"RANK": rank, "GROUP_RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1}
        return {"TORCHELASTIC_RUN_ID": "7"} | {name: str(number) for name, number in ranks.items()}
    if kind == "slurm":
        counts = {"NTASKS": 2, "NTASKS_PER_NODE": 1, "NNODES": 2, "PROCID": rank, "NODEID": rank, "LOCALID": 0}
        return {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "reid", "SLURM_NODELIST": "node[1-2]"} | {
            f"SLURM_{name}": str(number) for name, number in counts.items()
        }
    return {"NODE_RANK": str(rank)}


def run_on_two_machines(kind: str, command: Sequence[str]) -> list[str]:
    """Run one process on each of two machines, which are this one; return what they print."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=common | place(kind, rank), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(error[-1500:] for _, error in outputs)
    return [output for output, _ in outputs]


TWO_MACHINES = ("TRAINER.NUM_NODES", "2")


@pytest.mark.slow
def test_a_process_that_is_stopped_stops_all_and_they_go_on_exactly(
    tiny_arguments: list[str], tmp_path: Path
) -> None:
    """A signal comes to one of them during the first step; all ask one another after the second."""
    program = ["-m", "tests.engine.one_of_several", *tiny_arguments, *TWO_MACHINES, "SOLVER.LOG_PERIOD", "2"]
    outputs = run_on_two_machines("nodes", program)
    results = [json.loads(output.splitlines()[-1]) for output in outputs]
    assert [(result["rank"], result["size"]) for result in results] == [(0, 2), (1, 2)]
    folder = tmp_path / "logs/tiny/osnet_x0_25/baseline"
    assert {path.name for path in folder.iterdir()} == {"exp0", "exp1"}
    path = folder / "exp1/0_interrupted.pth"
    assert checkpoint_at(path).position == (0, 2)
    first, last = torch.load(path, weights_only=True)["rng"]["cpu"]
    assert not torch.equal(first, last)
    assert_same_weights(folder / "exp0/1_last.pth", folder / "exp1/1_last.pth")
    losses = [result["loss"] for result in results]
    assert losses[0] != losses[1]
    row = read_metrics(folder / "exp0/metrics.csv")[-1]
    assert float(row["train/loss"]) == pytest.approx(sum(losses) / 2, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torchrun", "slurm"])
def test_the_first_process_of_a_cluster_writes_the_files(
    kind: str, tiny_arguments: list[str], tmp_path: Path
) -> None:
    options = ["SOLVER.MAX_EPOCHS", "1", "SOLVER.GATHER_EMBEDDINGS", "True"]
    run_on_two_machines(kind, ["train.py", *tiny_arguments, *TWO_MACHINES, *options])
    (folder,) = (tmp_path / "logs/tiny/osnet_x0_25/baseline").iterdir()
    assert checkpoint_at(folder / "0_last.pth").world_size == 2
    assert (folder / "log.txt").read_text().count("files in") == 1


@pytest.mark.slow
def test_sigterm_to_the_process_that_started_the_others_ends_all(tiny_arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "train.py", *tiny_arguments, "TRAINER.DEVICES", "2", "SOLVER.MAX_EPOCHS", "500"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, text=True, env=environment, **pipes) as process:
        folder = tmp_path / "logs/tiny/osnet_x0_25/baseline/exp0"
        deadline = time.monotonic() + 120
        while not (folder / "0.pth").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)  # until the last process has closed the pipe
    assert process.returncode == 130, error[-2000:]
    (path,) = folder.glob("*_interrupted.pth")
    assert str(path) in error
    assert "Traceback" not in error


NODES = {"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("environment", "devices", "nodes", "message"),
    [
        ({"WORLD_SIZE": "4"}, 2, 1, r"WORLD_SIZE must be 2 with TRAINER.DEVICES 2 and TRAINER.NUM_NODES 1, got 4; unset"),
        ({}, 1, 2, r"NUM_NODES 2 needs an environment .* got no MASTER_ADDR, MASTER_PORT, NODE_RANK; start with torchrun"),
        ({**NODES, "NODE_RANK": "2"}, 1, 2, "NODE_RANK must be from 0 to 1 with .* got 2"),
        ({**NODES, "LOCAL_RANK": "3"}, 2, 2, "LOCAL_RANK must be from 0 to 1 with .* got 3"),
        ({**NODES, "RANK": "1"}, 2, 2, "RANK must be 2 with .* got 1"),
        (place("torchrun", 1), 2, 1, "LOCAL_WORLD_SIZE must be 2 with .* got 1; start with torchrun --nnodes 1 --nproc"),
        (place("torchrun", 1), 1, 1, "WORLD_SIZE must be 1 with .* got 2; start with torchrun"),
        (place("slurm", 1), 2, 1, "SLURM_NNODES must be 1 with .* got 2; start with srun --nodes 1 --ntasks-per-node 2"),
        (place("slurm", 1), 1, 1, "SLURM_NTASKS must be 1 with .* got 2; .* or unset SLURM_NTASKS"),
        (place("slurm", 1) | {"SLURM_NTASKS_PER_NODE": "4"}, 1, 2, "SLURM_NTASKS_PER_NODE must be 1 with .* got 4"),
    ],
)  # fmt: skip
def test_an_environment_of_other_processes_says_so(
    environment: dict[str, str], devices: int, nodes: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ReidError, match=message):
        check_processes(Settings({}, {"TRAINER.DEVICES": devices, "TRAINER.NUM_NODES": nodes}).cfg)


@pytest.mark.parametrize(
    ("environment", "devices", "nodes"),
    [
        ({}, 4, 1),
        (NODES, 1, 2),
        ({**NODES, "LOCAL_RANK": "1", "WORLD_SIZE": "4"}, 2, 2),
        (place("torchrun", 1), 1, 2),
        (place("slurm", 1), 1, 2),
        ({"SLURM_NTASKS": "1"}, 1, 1),
        (place("slurm", 0) | {"SLURM_JOB_NAME": "interactive"}, 1, 1),
        (place("slurm", 1) | place("torchrun", 1), 1, 2),
    ],
)
def test_an_environment_of_these_processes_is_accepted(
    environment: dict[str, str], devices: int, nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    check_processes(Settings({}, {"TRAINER.DEVICES": devices, "TRAINER.NUM_NODES": nodes}).cfg)


def test_a_joint_batch_needs_batches_of_one_size() -> None:
    cfg = Settings({}, {"SOLVER.GATHER_EMBEDDINGS": True, "DATALOADER.USE_RESAMPLING": False}).cfg
    with pytest.raises(
        ReidError, match=r"GATHER_EMBEDDINGS True needs .*USE_RESAMPLING must be True, got False; set"
    ):
        read_training_data(cfg)


def test_normalization_of_another_kind_is_not_synchronized() -> None:
    """torch would replace timm's, which holds the activation too, by its own, which does not."""
    pytest.importorskip("timm")
    keys = {"TRAINER.SYNC_BATCHNORM": True, "MODEL.PRETRAINED": False, "MODEL.NAME": "resnet18"}
    build_network(Settings({}, keys).cfg)
    with pytest.raises(ReidError, match="but timm:mnasnet_small has BatchNormAct2d; set it False"):
        build_network(Settings({}, keys | {"MODEL.NAME": "timm:mnasnet_small"}).cfg)


@pytest.mark.gpu
def test_synchronized_normalization_trains_where_there_are_two_gpus(
    tiny_arguments: list[str], tmp_path: Path
) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    cuda = ("TRAINER.ACCELERATOR", "cuda", "TRAINER.DEVICES", "2", "TRAINER.SYNC_BATCHNORM", "True")
    run_script("train.py", *tiny_arguments, "SOLVER.MAX_EPOCHS", "1", *cuda)
    state = checkpoint_at(tmp_path / "logs/tiny/osnet_x0_25/baseline/exp0/0_last.pth").state
    assert any(name.endswith("running_mean") for name in state)


def test_synchronized_normalization_is_refused_on_the_cpu() -> None:
    keys = {"TRAINER.SYNC_BATCHNORM": True, "TRAINER.ACCELERATOR": "cpu"}
    check_processes(Settings({}, keys).cfg)  # one process has nothing to synchronize
    with pytest.raises(ReidError, match=r"SYNC_BATCHNORM True needs GPUs.*; set it False"):
        check_processes(Settings({}, keys | {"TRAINER.DEVICES": 2}).cfg)
