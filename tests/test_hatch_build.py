"""What the build of the wheel rewrites, and what it refuses."""

import re
import subprocess
from pathlib import Path

import pytest

import hatch_build
from hatch_build import PACKAGES, PAGES, SCRIPTS, rewrite_imports, rewrite_page, rewrite_prose, shipped_files
from snu_reid.commands import COMMANDS
from utils.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
NAMES = (*PACKAGES, *SCRIPTS)
BY_MODULE = {command.module: name for name, command in COMMANDS.items()}


@pytest.mark.parametrize(
    ("source", "rewritten"),
    [
        ("from datasets import readers", "from snu_reid.datasets import readers"),
        ("from datasets.sample import (\n    A,\n    B,\n)", "from snu_reid.datasets.sample import (\n    A,\n    B,\n)"),
        ("import datasets", "import snu_reid.datasets as datasets"),
        ("import os, datasets, utils.log as log", "import os, snu_reid.datasets as datasets, snu_reid.utils.log as log"),
        ("def f():\n    from  utils import log", "def f():\n    from  snu_reid.utils import log"),
        ("é = 1; from utils import é", "é = 1; from snu_reid.utils import é"),
        ("from utils import a; from utils import b\r\n", "from snu_reid.utils import a; from snu_reid.utils import b\r\n"),
        ("from .utils import a", "from .utils import a"),
        ("from . import utils", "from . import utils"),
        ("from torch.utils import data", "from torch.utils import data"),
        ("import dataset, datasets_of", "import dataset, datasets_of"),
        ("datasets = 'from datasets import x'", "datasets = 'from datasets import x'"),
        ("import_module(home + 'engine')", "import_module(home + 'engine')"),
        ("import_module('json')", "import_module('json')"),
    ],
)  # fmt: skip
def test_imports_of_ours_go_through_the_package(source: str, rewritten: str) -> None:
    assert rewrite_imports(source, NAMES) == rewritten


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\nimport engine.run", "line 2: write 'from ... import ...' for 'import engine.run'"),
        ("from \\\n  engine import run", "line 1: write the module of an import on the line of its 'from'"),
        ("importlib.import_module('engine.run')", "line 1: import engine.run by a statement, or compute its name"),
        ("__import__('utils')", "line 1: import utils by a statement, or compute its name"),
        ("logging.getLogger('engine')", "line 1: import engine by a statement, or compute its name"),
    ],
)
def test_what_cannot_be_rewritten_is_refused(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        rewrite_imports(source, NAMES)


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        ("python train.py DATASETS.NAMES x", "snu-reid train DATASETS.NAMES x"),
        ("python train_ctl.py", "snu-reid train-ctl"),
        ("`python finetune_octuplet_ctl.py`", "`snu-reid finetune-octuplet-ctl`"),
        ("python inference/get_similar.py --topk 3", "snu-reid search --topk 3"),
        ("made by create_embeddings.py, not test.py.", "made by snu-reid embed, not snu-reid test."),
        ("python -m datasets.convert prw A B", "snu-reid convert prw A B"),
        ('prog="python -m datasets.stats",', 'prog="snu-reid stats",'),
        ("python -m modelling.weights F", "snu-reid weights F"),
        ("torchrun --nproc_per_node 4 inference/create_embeddings.py A", "torchrun --nproc_per_node 4 -m snu_reid embed A"),
        ("torchrun --nnodes 2\n  --standalone train.py", "torchrun --nnodes 2\n  --standalone -m snu_reid train"),
        ('Key("", "test.py uses these.")', 'Key("", "snu-reid test uses these.")'),
        ("'run makelr.py'", "'run snu-reid makelr'"),
        ('{"made_by": "makelr.py"}', '{"made_by": "makelr.py"}'),
        ('{"made_by": f"datasets.convert {x}"}', '{"made_by": f"datasets.convert {x}"}'),
        ("tests/test.py my_test.py train.pyc stats.py", "tests/test.py my_test.py train.pyc stats.py"),
        ("python -m datasets.converted", "python -m datasets.converted"),
        (":func:`engine.run.fit` :mod:`~utils` :class:`Engine`", ":func:`snu_reid.engine.run.fit` :mod:`~snu_reid.utils` :class:`Engine`"),
    ],
)  # fmt: skip
def test_messages_name_the_command(text: str, rewritten: str) -> None:
    assert rewrite_prose(text, BY_MODULE, NAMES) == rewritten


def test_blocks_of_python_in_a_page_import_from_the_package() -> None:
    page = "from utils import a\n```python\nfrom utils import a\n```\n```\nfrom utils import a\n```\n"
    rewritten = page.replace("python\nfrom utils", "python\nfrom snu_reid.utils")
    assert rewrite_page(page, NAMES) == rewritten


def test_the_wheel_holds_what_the_repository_has() -> None:
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        files = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"git does not list the repository: {error}")
    aside = ("tests", "benchmarks", "docs", ".ci")
    code = {
        Path(name)
        for name in files
        if name.count("/") and name.partition("/")[0] not in aside and (ROOT / name).exists()
    }
    scripts = {Path(name) for name in files if re.fullmatch(r"\w+\.py", name)} - {Path("hatch_build.py")}
    pages = {path.relative_to(ROOT) for pattern in PAGES for path in ROOT.glob(pattern)}
    assert {path.relative_to(ROOT) for path in shipped_files(ROOT).values()} == code | scripts | pages


def test_the_container_is_built_of_the_same_files() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"
    assert {f"!{name}" for name in (*PACKAGES, "snu_reid")} | {f"!{name}.py" for name in SCRIPTS} <= set(lines)


def test_a_file_that_cannot_be_rewritten_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PACKAGES, "snu_reid"):
        (tmp_path / name).mkdir()
    (tmp_path / "snu_reid/commands.py").write_text("COMMANDS = {}")
    (tmp_path / "engine/run.py").write_text("import utils.log")
    monkeypatch.setattr(hatch_build, "SCRIPTS", ())
    with pytest.raises(ValueError, match=r"^engine/run\.py, line 1: "):
        hatch_build.write_package(tmp_path, tmp_path / "target")


def test_the_version_is_the_same_everywhere() -> None:
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heading is not None
    assert heading[1] == VERSION
