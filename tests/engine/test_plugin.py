"""A file of the user's own adds rows to our tables: by --plugin, or as a script, and by nothing else."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import test as evaluation_script
import train as train_script
from configs import SCHEMA
from datasets.readers import READERS
from engine.builders.objective import TERMS
from engine.builders.trainer import SCHEDULES
from engine.callbacks.epoch_log import read_metrics
from engine.cli import parse
from engine.cli import train_script as train_by
from engine.methods import METHODS, Method
from engine.weights import read_weights
from evaluation.protocols import PROTOCOLS
from evaluation.results import FIGURES
from modelling.backbones import BACKBONES
from modelling.heads import HEADS, POOLINGS
from modelling.optimization import OPTIMIZERS
from tests.engine.support import ONE_EPOCH, report_at
from utils.errors import ReidError

TABLES = (SCHEMA, READERS, TERMS, SCHEDULES, METHODS, PROTOCOLS, FIGURES, BACKBONES, HEADS, POOLINGS, OPTIMIZERS)

EVERYTHING = """
import numpy as np
import torch
from torch import nn

from configs import SCHEMA
from configs.schema import Key, at_least
from datasets.readers import READERS
from datasets.readers.market import MarketReader
from engine.builders.objective import TERMS, TermBuilder
from engine.builders.trainer import SCHEDULES
from evaluation.protocols import PROTOCOLS, instance
from evaluation.ranking import RankingResult
from evaluation.results import FIGURES
from modelling.backbones import BACKBONES, Backbone
from modelling.heads import HEADS, POOLINGS, BNNeck, MaxPooling, of_map
from modelling.optimization import OPTIMIZERS


class Small(nn.Module):
    def __init__(self, input_size: tuple[int, int], depth: int) -> None:
        super().__init__()
        self.out_channels = 8
        self.base = nn.Sequential(nn.Conv2d(3, 8, 4, 4), *(nn.Conv2d(8, 8, 1) for _ in range(depth)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.base(images)


class Norm(nn.Module):
    def forward(self, embeddings: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return embeddings.norm(dim=1).mean()


SCHEMA["MODEL.DEPTH"] = Key(1, "The small network has this many layers.", at_least(1))
SCHEMA["SOLVER.NORM_WEIGHT"] = Key(0.0, "The norm loss has this weight.", at_least(0))
READERS["people"] = MarketReader("people", ("tiny",))
BACKBONES["small"] = Backbone(build=Small, options=("depth",))
HEADS["own_neck"] = of_map(type("OwnNeck", (BNNeck,), {}))
POOLINGS["own_max"] = MaxPooling
OPTIMIZERS["Plain"] = lambda parameters, config: torch.optim.SGD(parameters, config.base_lr)
SCHEDULES["constant"] = lambda solver: lambda epoch: 1.0
TERMS["norm"] = TermBuilder(lambda *_: Norm(), "SOLVER.NORM_WEIGHT", "raw")
PROTOCOLS["own-protocol"] = instance
FIGURES["median AP"] = lambda result: float(np.nanmedian(result.average_precision))
"""


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    """What a file adds stays in its test."""
    before = [dict(table) for table in TABLES]
    yield
    for table, rows in zip(TABLES, before, strict=True):
        table.clear()
        table.update(rows)
    for name in [name for name in sys.modules if name.startswith("reid_plugin_")]:
        del sys.modules[name]


def write(folder: Path, text: str) -> str:
    (folder / "mine.py").write_text(text)
    return str(folder / "mine.py")


def test_all_that_a_file_adds_is_trained_and_tested(
    tiny_arguments: list[str], tiny_market: Path, tmp_path: Path
) -> None:
    plugin = ["--plugin", write(tmp_path, EVERYTHING)]
    place = {"DATASETS.NAMES": "people", "DATASETS.ROOT_DIR": str(tiny_market.parent), "MODEL.NAME": "small"}
    model = {"MODEL.DEPTH": "2", "MODEL.HEAD": "own_neck", "MODEL.POOLING": "own_max"}
    solver = {"SOLVER.OPTIMIZER_NAME": "Plain", "SOLVER.LR_SCHEDULER_NAME": "constant", "SOLVER.NORM_WEIGHT": "0.1"}
    pairs = dict(zip(tiny_arguments[::2], tiny_arguments[1::2], strict=True))
    pairs |= {**place, **model, **solver, "TEST.PROTOCOLS": "['own-protocol', 'instance']", "SOLVER.MAX_EPOCHS": "1"}
    assert train_script.main([*plugin, *(word for pair in pairs.items() for word in pair)]) == 0
    folder = tmp_path / "logs/people/small/baseline/exp0"
    (row,) = read_metrics(folder / "metrics.csv")
    assert float(row["train/norm"]) > 0
    assert float(row["val/median AP"]) > 0

    use = ["MODEL.PRETRAIN_PATH", str(folder / "best.pth"), "OUTPUT_DIR", str(tmp_path / "output")]
    assert evaluation_script.main([*plugin, *use, "TEST.PROTOCOLS", "['instance', 'own-protocol']"]) == 0
    assert "| median AP |" in (tmp_path / "output/report.md").read_text()
    first, second = report_at(tmp_path / "output/report.json")["results"]
    assert (first["protocol"], second["protocol"]) == ("instance", "own-protocol")
    assert first["mAP"] == second["mAP"]
    assert first["median AP"] == pytest.approx(float(row["val/median AP"]), rel=1e-5)


def test_a_checkpoint_needs_the_file_that_its_network_is_of(
    tiny_arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = ["--plugin", write(tmp_path, EVERYTHING)]
    assert train_script.main([*plugin, *tiny_arguments, "MODEL.NAME", "small", *ONE_EPOCH]) == 0
    del BACKBONES["small"], SCHEMA["MODEL.DEPTH"]  # as in another process
    capsys.readouterr()
    path = tmp_path / "logs/tiny/small/baseline/exp0/best.pth"
    assert evaluation_script.main(["MODEL.PRETRAIN_PATH", str(path)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line.startswith("error: MODEL.NAME must be one of resnet18, ")
    assert "or a network that a --plugin adds, got 'small'" in line


def test_a_method_of_ones_own_is_a_row_and_a_script(tiny_arguments: list[str], tmp_path: Path) -> None:
    METHODS["mine"] = Method("mine", ("triplet",), defaults={"SOLVER.MARGIN": 0.7})
    assert train_by("mine", "Train by my method.", [*tiny_arguments, *ONE_EPOCH]) == 0
    (path,) = tmp_path.glob("logs/tiny/osnet_x0_25/mine/exp0/0_last.pth")
    config = read_weights(path).config
    assert (config["SOLVER.TERMS"], config["SOLVER.MARGIN"]) == (["triplet"], 0.7)


LEAVES_A_TRACE = (
    "from pathlib import Path\nwith Path(__file__).with_name('trace').open('a') as file: file.write('x')\n"
)


def test_a_file_is_run_once(tmp_path: Path) -> None:
    path = write(tmp_path, LEAVES_A_TRACE)
    for _ in range(2):
        parse(["--plugin", path, "--plugin", path])
    assert (tmp_path / "trace").read_text() == "x"


@pytest.mark.parametrize("key", ["PLUGIN", "plugin", "MODEL.PLUGINS", "--plugin"])
def test_neither_yaml_nor_a_checkpoint_runs_a_file(key: str, tmp_path: Path) -> None:
    path = write(tmp_path, LEAVES_A_TRACE)
    (tmp_path / "own.yml").write_text(f"{key}: {path}\n")
    with pytest.raises(ReidError, match=f"unknown configuration key {key}"):
        parse(["--config_file", str(tmp_path / "own.yml")])
    card = {
        "config": f"{key}: {path}\n",
        "dataset": "x",
        "num_ids": 1,
        "scale": 1,
        "method": "baseline",
        "plugin": path,
    }
    content = {"reid": {**card, "epoch": 0, "position": [1, 0], key: [path]}, "state_dict": {}}
    torch.save(content, tmp_path / "theirs.pth")
    assert key not in read_weights(tmp_path / "theirs.pth").config
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("def f(:", "SyntaxError: "),
        ("import there_is_no_such_module", "ModuleNotFoundError: No module named 'there_is_no_such_module'"),
    ],
)
def test_a_file_that_fails_is_one_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, text)
    for _ in range(2):  # and again: a file that has failed is not taken for one that was run
        assert train_script.main(["--plugin", path]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: --plugin {path} fails: {message}")


@pytest.mark.parametrize("name", ["nowhere.py", "folder", "notes.txt"])
def test_what_is_no_python_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ReidError, match=rf"--plugin must be an existing Python file, got .*{name}"):
        parse(["--plugin", str(tmp_path / name)])
