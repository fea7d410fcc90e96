"""Training and test in several processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datasets.readers import read_dataset
from tests.engine.support import evaluate, report_at

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
