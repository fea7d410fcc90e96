"""The wheel in a fresh environment beside Hugging Face's `datasets`: what a user of `pip install snu-reid` gets.

The environment sees the libraries of the one that runs the tests, so that nothing large is installed.
"""

import ast
import csv
import json
import os
import subprocess
import sys
from email import message_from_bytes
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from hatch_build import PACKAGES, SCRIPTS
from inference.extract import Extractor
from tests.packaging.support import ROOT, Environment
from utils.version import VERSION

pytestmark = pytest.mark.slow
requirements = pytest.importorskip("packaging.requirements")
pytest.importorskip("build", reason="the wheel is built by the package build")
pytest.importorskip("hatchling")

IMPORT_ALL = """
import pkgutil, importlib, snu_reid
for module in pkgutil.walk_packages(snu_reid.__path__, "snu_reid."):
    importlib.import_module(module.name)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "wheel"
    folder.mkdir(exist_ok=True)
    environment = Environment(folder)
    environment.once(environment.build)
    return environment


@pytest.fixture(scope="module")
def wheel(built: Environment) -> Path:
    return built.wheel


@pytest.fixture(scope="module")
def environment(built: Environment) -> Environment:
    built.once(built.install)
    return built


@pytest.fixture(scope="module")
def session(environment: Environment) -> dict[str, Any]:
    """What the installed package has done; the messages of the training and of the rest with it."""
    environment.once(environment.train)
    result: dict[str, Any] = json.loads((environment.work / "session.json").read_text())
    return result


def texts_of(wheel: Path, ending: str) -> dict[str, str]:
    with ZipFile(wheel) as file:
        return {name: file.read(name).decode() for name in file.namelist() if name.endswith(ending)}


def trees(wheel: Path) -> dict[str, ast.Module]:
    return {name: ast.parse(text) for name, text in texts_of(wheel, ".py").items()}


def test_everything_lies_in_one_package(wheel: Path) -> None:
    with ZipFile(wheel) as file:
        names = file.namelist()
    assert {name.split("/")[0] for name in names} == {"snu_reid", f"snu_reid-{VERSION}.dist-info"}
    wanted = (
        "py.typed configs/demo.yml evaluation/report/report.html.j2 docs/inference.md train.py datasets/sample.py"
    )
    assert {f"snu_reid/{name}" for name in wanted.split()} <= set(names)
    assert not [name for name in names if "__pycache__" in name]


def test_no_module_imports_ours_from_the_top(wheel: Path) -> None:
    ours, imports = {*PACKAGES, *SCRIPTS}, []
    for name, tree in trees(wheel).items():
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            imports += [(name, module) for module in modules]
    assert [(name, module) for name, module in imports if module.partition(".")[0] in ours] == []
    assert ("snu_reid/train.py", "snu_reid.engine.cli") in imports


def test_no_text_names_a_script_of_the_checkout(wheel: Path) -> None:
    names = {f"{script}.py" for script in SCRIPTS} | {"create_embeddings.py", "get_similar.py", "python -m"}
    for file, tree in trees(wheel).items():
        values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        texts = [text.replace("python -m snu_reid", "") for text in values if isinstance(text, str)]
        assert [(text, name) for text in texts for name in names if name in text and text != name] == [], file
    templates = texts_of(wheel, ".j2")
    assert [(file, name) for file, text in templates.items() for name in names if name in text] == []
    card = templates["snu_reid/inference/exports/model_card.md.j2"]
    assert "\nsnu-reid embed DATASETS.ROOT_DIR photos " in card
    assert "\nfrom snu_reid.inference.extract import Extractor\n" in card


def test_the_same_checkout_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_requirements_are_those_of_the_checkout(wheel: Path) -> None:
    def read(lines: list[str]) -> dict[str, str]:
        parsed = [requirements.Requirement(line.partition("#")[0]) for line in lines if line[:1].isalpha()]
        return {each.name.lower(): str(each.specifier) for each in parsed}

    with ZipFile(wheel) as file:
        metadata = message_from_bytes(file.read(f"snu_reid-{VERSION}.dist-info/METADATA"))
    parts = [line.partition(";") for line in metadata.get_all("Requires-Dist", [])]
    core = read([text for text, _, marker in parts if not marker])
    extras = read([text for text, _, marker in parts if marker])
    assert core == read((ROOT / "requirements.txt").read_text().splitlines())
    tested = read((ROOT / "requirements-dev.txt").read_text().splitlines())
    assert extras | tested == tested | extras  # they agree where both have one
    assert set(metadata.get_all("Provides-Extra", [])) == {
        "faiss",
        "milvus",
        "timm",
        "onnx",
        "openvino",
        "serve",
        "all",
    }
    everything = {text.strip() for text, _, marker in parts if "'all'" in marker}
    assert everything == {text.strip() for text, _, marker in parts if marker}
    assert metadata["Requires-Python"] == ">=3.10"


def test_an_editable_installation_is_refused(tmp_path: Path) -> None:
    code = f"from hatchling.build import build_editable; build_editable({str(tmp_path)!r})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "the checkout runs as it is and cannot be installed as editable" in run.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_of_the_environment(environment: Environment) -> None:
    text = environment.run("snu-reid", "--help").stdout
    pages = Path(text.rpartition("Pages:")[2].strip())
    assert (pages / "inference.md").is_file()
    assert pages.is_relative_to(environment.home.resolve())
    assert environment.run("snu-reid", "--version").stdout == f"snu-reid {VERSION}\n"
    assert environment.run("python", "-m", "snu_reid", "train", "--help").stdout.startswith(
        "usage: snu-reid train [-h]"
    )
    assert environment.run("snu-reid", "stats", "--help").stdout.startswith("usage: snu-reid stats [-h]")
    message = environment.run("snu-reid", "train", "--config_file", "nowhere.yml", code=2).stderr
    assert message.startswith(
        "error: --config_file must be an existing YAML file, got nowhere.yml; at hand: configs/"
    )


def test_every_module_can_be_imported(environment: Environment) -> None:
    environment.run("python", "-c", IMPORT_ALL)


def test_training_with_a_configuration_of_the_package(session: dict[str, Any], environment: Environment) -> None:
    folder = environment.work / "logs/synthetic/osnet_x0_25/baseline/exp0"
    assert {"0_last.pth", "best.pth", "metrics.csv"} <= {path.name for path in folder.iterdir()}
    assert "--config_file configs/demo.yml is not here: the one of the code counts" in session["training"]
    content = torch.load(folder / "best.pth", weights_only=True)["reid"]
    assert content["versions"]["snu_reid"] == VERSION


def test_test_embed_and_search(session: dict[str, Any], environment: Environment) -> None:
    assert session["codes"] == [0, 0, 0, 2]
    (error,) = [line for line in session["rest"].splitlines() if line.startswith("error: ")]
    assert "make it with snu-reid embed" in error
    report = json.loads((environment.work / "tested/report.json").read_text())
    assert 0 < report["results"][0]["mAP"] <= 1
    assert "<html" in (environment.work / "tested/report.html").read_text()
    with (environment.work / "found/results.csv").open() as file:
        queries = {row["query"] for row in csv.DictReader(file)}
    assert len(queries) == len(list((environment.work / "demo_data/synthetic/query").glob("*.jpg")))
    assert session["shape"] == [len(queries), 3]  # of `from snu_reid import Extractor, build_index`


@pytest.mark.skipif(not find_spec("inference.export"), reason="inference/export.py is not there")
@pytest.mark.usefixtures("session")
def test_export(environment: Environment) -> None:
    assert (environment.work / "exported/model.onnx").is_file()


@pytest.mark.usefixtures("session")
def test_a_model_of_the_wheel_opens_in_the_checkout(environment: Environment) -> None:
    best = next(environment.work.glob("logs/**/best.pth"))
    ours = Extractor(best, device="cpu")(environment.work / "demo_data/synthetic/bounding_box_test")
    np.testing.assert_allclose(ours.vectors, np.load(environment.work / "gallery/embeddings.npy"), atol=1e-5)


def test_ours_and_the_others_datasets_live_side_by_side(session: dict[str, Any], environment: Environment) -> None:
    assert session["places"] == ["snu_reid.datasets.readers.market", "snu_reid.engine.builders.objective"]
    assert Path(session["datasets"]).is_relative_to(environment.home)
    assert not set(PACKAGES) - {"datasets"} & set(session["modules"])


def test_import_datasets_is_hugging_faces(environment: Environment) -> None:
    if environment.stand_in.exists():
        pytest.skip("the registry gives no `datasets`: a stand-in had its name")
    code = "import datasets; import snu_reid.datasets; print(datasets.Dataset.from_dict({'a': [1, 2]}).num_rows)"
    assert environment.run("python", "-c", code).stdout == "2\n"
