"""Every recipe of CONTRIBUTING.md as a plugin, its block and its commands; and what the pages point to."""

import csv
import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import yaml
from torchvision.models import mobilenet_v3_small

import test
import train
from configs import SCHEMA
from datasets.readers import READERS
from engine.builders.objective import TERMS
from engine.builders.trainer import SCHEDULES
from engine.methods import METHODS
from evaluation.protocols import PROTOCOLS
from evaluation.report.tables import NOTES
from evaluation.results import FIGURES
from inference import create_embeddings
from inference.engines import ENGINES
from modelling.backbones import BACKBONES
from modelling.heads import HEADS
from modelling.optimization import OPTIMIZERS
from tests.support import fit

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TABLES = (
    SCHEMA,
    READERS,
    TERMS,
    SCHEDULES,
    METHODS,
    PROTOCOLS,
    NOTES,
    FIGURES,
    BACKBONES,
    HEADS,
    OPTIMIZERS,
    ENGINES,
)
SCRIPTS = {"train.py": train, "test.py": test, "inference/create_embeddings.py": create_embeddings}
RECIPES = {  # title -> Python block, commands
    title: (block, commands.splitlines())
    for title, block, commands in re.findall(
        r"^### (.*?)\n(?:(?!^###).)*?^```python\n(.*?)^```\n\n```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
}
NETWORK = ["MODEL.NAME", "osnet_x0_25"]
Run = Callable[[str], Path]


@pytest.fixture(scope="module")
def checkpoint(tiny_market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one epoch, for the commands that only test."""
    folder = tmp_path_factory.mktemp("model")
    return fit(_arguments(tiny_market, folder)).folder / "best.pth"


@pytest.fixture
def run(tiny_market: Path, tmp_path: Path, checkpoint: Path) -> Iterator[Run]:
    """Run the commands of a recipe with its block as `my_reid.py`; give the folder they wrote into."""
    arguments = _arguments(tiny_market, tmp_path)

    def run_recipe(title: str) -> Path:
        block, commands = RECIPES[title]
        plugin = tmp_path / "my_reid.py"
        plugin.write_text(block)
        for command in commands:
            python, script, *words = shlex.split(command)
            assert python == "python"
            newest = max(tmp_path.glob("logs/**/best.pth"), default=checkpoint, key=lambda path: path.stat().st_mtime)
            photos = str(tiny_market / "query")
            replacements = {"my_reid.py": str(plugin), "best.pth": str(newest), "photos": photos}
            argv = [*arguments, *(replacements.get(word, word) for word in words)]
            if script not in ("train.py", "my_reid.py"):
                argv = argv[len(NETWORK) :]  # a checkpoint knows its network
            if script == "my_reid.py":
                monkeypatch.setattr(sys, "argv", [script, *argv])
                with pytest.raises(SystemExit, match="0"):
                    runpy.run_path(str(plugin), run_name="__main__")
            else:
                assert SCRIPTS[script].main(argv) == 0, command
        return tmp_path

    with ExitStack() as stack, pytest.MonkeyPatch.context() as monkeypatch:
        for table in TABLES:
            stack.enter_context(patch.dict(table))  # restores the rows
        yield run_recipe


def _arguments(market: Path, folder: Path) -> list[str]:
    values = {
        "MODEL.PRETRAINED": "False", "DATASETS.NAMES": market,
        "DATASETS.ROOT_DIR": folder, "INPUT.SIZE_TRAIN": "[32,16]", "INPUT.SIZE_TEST": "[32,16]", "INPUT.PADDING": 2,
        "DATALOADER.NUM_WORKERS": 0, "DATALOADER.NUM_INSTANCE": 2, "SOLVER.IMS_PER_BATCH": 8, "SOLVER.MAX_EPOCHS": 1,
        "SOLVER.WARMUP_EPOCHS": 0, "SOLVER.LOG_PERIOD": 1, "TRAINER.ACCELERATOR": "cpu",
        "LOGS_DIR": folder / "logs", "RUNS_DIR": folder / "runs", "OUTPUT_DIR": folder / "output",
    }  # fmt: skip
    return NETWORK + [str(word) for pair in values.items() for word in pair]


def _last_row(folder: Path) -> dict[str, str]:
    """The last row of metrics.csv of the newest run."""
    path = max(folder.glob("logs/**/metrics.csv"), key=lambda path: path.stat().st_mtime)
    with path.open() as file:
        return list(csv.DictReader(file))[-1]


def _config(folder: Path) -> dict[str, dict[str, object]]:
    config: dict[str, dict[str, object]] = yaml.safe_load(next(folder.glob("logs/**/config.yml")).read_text())
    return config


def test_every_recipe_has_a_test() -> None:
    titles = re.findall(r"^### (.*)", PAGE, re.MULTILINE)
    assert list(RECIPES) == titles
    assert PAGE.count("```python") == len(titles)
    assert [
        title for title in titles if f"test_{title.lower().replace(',', '').replace(' ', '_')}" not in globals()
    ] == []


def test_a_data_set(run: Run, tiny_market: Path, tmp_path: Path) -> None:
    names = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
    for number, file in enumerate(sorted(tiny_market.glob("*/[0-9]*.jpg"))):
        person, camera = file.name[:4], int(file.name[6])
        target = tmp_path / "yard" / ("gate", "door")[camera - 1] / f"{names[file.parent.name]}-{person}-{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    run("A data set")
    report = json.loads(next(tmp_path.glob("logs/yard/**/report_0.json")).read_text())
    assert report["results"][0]["num_valid_queries"] == len(list(tiny_market.glob("query/*.jpg")))


def test_a_loss(run: Run) -> None:
    row = _last_row(run("A loss"))
    assert float(row["train/uniformity"]) < 0
    assert "train/triplet" not in row


def test_a_loss_with_its_own_optimizer(run: Run) -> None:
    row = _last_row(run("A loss with its own optimizer"))
    assert float(row["train/lr_proxy"]) == 0.01
    assert float(row["train/proxy"]) > 0


def test_a_backbone(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = mobilenet_v3_small().state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    block, commands = RECIPES["A backbone"]
    monkeypatch.setitem(RECIPES, "A backbone", (block, [f"{commands[0]} MODEL.PRETRAINED True", *commands[1:]]))
    run("A backbone")
    assert list(tmp_path.glob("logs/tiny/mobilenet_v3_small/baseline/exp0/best.pth"))
    assert (tmp_path / "output/report.json").exists()


def test_a_head(run: Run, tmp_path: Path) -> None:
    run("A head")
    assert _config(tmp_path)["MODEL"]["HEAD"] == "stripes"
    assert (tmp_path / "output/report.json").exists()


def test_a_method(run: Run, tmp_path: Path) -> None:
    run("A method")
    solver = _config(tmp_path)["SOLVER"]
    assert (solver["TERMS"], solver["CENTER_LOSS_WEIGHT"]) == (["identity", "center"], 1e-3)
    assert list(tmp_path.glob("logs/tiny/osnet_x0_25/id_center/exp0/best.pth"))


def test_a_protocol(run: Run, tmp_path: Path) -> None:
    run("A protocol")
    results = json.loads((tmp_path / "output/report.json").read_text())["results"]
    assert [result["protocol"] for result in results] == ["instance", "euclidean"]
    assert results[0]["mAP"] != results[1]["mAP"]


def test_a_figure_of_the_report(run: Run, tmp_path: Path) -> None:
    run("A figure of the report")
    assert "| rank-20 | median AP |" in (tmp_path / "output/report.md").read_text()
    assert 0 < json.loads((tmp_path / "output/report.json").read_text())["results"][0]["median AP"] < 1


def test_an_optimizer_a_schedule(run: Run, tmp_path: Path) -> None:
    row = _last_row(run("An optimizer, a schedule"))
    solver = _config(tmp_path)["SOLVER"]
    assert (solver["OPTIMIZER_NAME"], solver["LR_SCHEDULER_NAME"]) == ("NAdam", "polynomial")
    assert float(row["train/lr"]) < 3.5e-4


def test_an_engine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    # A compiler is not on every machine.
    monkeypatch.setattr(torch, "compile", lambda network, **_: compiled.append(network) or network)
    folder = run("An engine")
    assert np.load(folder / "output/embeddings.npy").any()
    assert len(compiled) == 1


def test_a_checkpoint_opens_without_the_plugin_of_its_optimizer(run: Run, tiny_market: Path, tmp_path: Path) -> None:
    run("An optimizer, a schedule")
    del OPTIMIZERS["NAdam"], SCHEDULES["polynomial"]
    path = next(tmp_path.glob("logs/**/best.pth"))
    assert test.main([*_arguments(tiny_market, tmp_path), "MODEL.PRETRAIN_PATH", str(path)]) == 0


@pytest.mark.parametrize(
    ("key", "value", "nearest"),
    [
        ("MODEL.HEAD", "bneck", "bnneck"),
        ("MODEL.POOLING", "gemm", "gem"),
        ("SOLVER.OPTIMIZER_NAME", "adamw", "AdamW"),
        ("SOLVER.LR_SCHEDULER_NAME", "cosine", "cosine_annealing"),
        ("TEST.PROTOCOLS", "['instanc']", "instance"),
    ],
)
def test_a_wrong_name_is_refused_with_and_without_a_plugin(
    key: str, value: str, nearest: str, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "adds_nothing.py"
    plugin.write_text("")
    for options in ((), ("--plugin", str(plugin))):
        assert train.main([*options, *_arguments(tiny_market, tmp_path), key, value]) == 2
        message = capsys.readouterr().err.splitlines()[-1]
        assert re.fullmatch(rf"error: {key} must be one of .*; did you mean {nearest}\?", message)
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("package", ["engine", "modelling", "datasets", "losses", "evaluation"])
def test_the_architecture_lists_every_module_and_folder(package: str) -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    (part,) = re.findall(rf"^(?:floor \d|       )  {package}/\n((?: {{11}}.*\n)+)", page, re.MULTILINE)
    modules = {path.name for path in (ROOT / package).glob("*.py") if path.name != "__init__.py"}
    folders = {f"{path.name}/" for path in (ROOT / package).iterdir() if (path / "__init__.py").exists()}
    assert set(re.findall(r"[a-z0-9_]+(?:\.py|/)", part)) == modules | folders
