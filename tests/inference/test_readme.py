"""What the documentation tells people to run exists, and the Python in it runs."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs import SCHEMA
from inference import create_embeddings
from inference.indexes.milvus import MilvusIndex
from inference.indexes.milvus_server import Server

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")))


def commands(page: str) -> list[list[str]]:
    """The words of every command that begins with `python`, in blocks and in `code`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [
        line
        for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
        for line in block.replace("\\\n", "").splitlines()
    ]
    lines += re.findall(r"`(python [^`]*)`", text)
    return [shlex.split(line, comments=True) for line in lines if line.startswith("python ")]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_names_a_script_options_and_keys_that_exist(page: str) -> None:
    for words in commands(page):
        script = words[2].replace(".", "/") if words[1] == "-m" else words[1]
        path = ROOT / script
        path = next(
            p for p in (path, path.with_suffix(".py"), path / "__main__.py", path / "__init__.py") if p.is_file()
        )
        for word in words[2:]:
            if re.fullmatch(r"[A-Z]+\.[A-Z_0-9]+|LOGS_DIR|RUNS_DIR|OUTPUT_DIR", word):
                assert word in SCHEMA, (page, word)
            elif word.startswith("--"):
                sources = (path, ROOT / "engine/cli.py", ROOT / "inference/script.py")
                assert any(f'"{word}"' in source.read_text(encoding="utf-8") for source in sources), (page, word)


def test_the_readme_has_all_of_the_seeds_commands() -> None:
    scripts = {words[1] for words in commands("README.md")}
    inference = {f"inference/{name}.py" for name in ("create_embeddings", "get_similar", "infer")}
    tuning = {"finetune_octuplet.py", "makelr.py"}
    assert {"train.py", "train_ctl.py", "test.py"} | tuning | inference <= scripts


def test_the_python_of_the_readme_runs(
    write_checkpoint: Callable[..., Path],
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_checkpoint(tmp_path / "osnet_x1_0_msmt17.pth")
    shutil.copytree(images, tmp_path / "photos/of_a_day")
    (tmp_path / "who_is_this").symlink_to(images)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    found = names["gallery"].paths[names["rows"][:, 0]]
    assert len(found) == 6  # seven images, one of them junk
    assert [Path(path).name for path in found] == [Path(path).name for path in names["queries"].paths]
    assert names["distances"][:, 0].max() < 1e-3  # each finds itself


def test_the_python_of_the_package_runs(
    write_checkpoint: Callable[..., Path], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "best.pth")
    for name in ("gallery_photos", "query_photos"):
        (tmp_path / name).symlink_to(images)
    monkeypatch.chdir(tmp_path)
    block, _ = re.findall(r"```python\n(.*?)```", (ROOT / "docs/package.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/package.md", "exec"), names)
    assert names["rows"].shape == (6, 5)  # seven images, one of them junk


def test_the_python_of_the_page_runs(
    write_checkpoint: Callable[..., Path],
    images: Path,
    draw: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each block of docs/inference.md by itself: no name comes from another one."""
    monkeypatch.chdir(tmp_path)
    values = ["DATASETS.ROOT_DIR", str(images), "MODEL.PRETRAIN_PATH", str(write_checkpoint(tmp_path / "best.pth"))]
    assert create_embeddings.main(values) == 0
    for seed, name in enumerate(("a.jpg", "b.jpg", "0007_c1s1_000001_00.jpg", "0009_c2s1_000002_00.jpg")):
        draw(tmp_path / name, seed)
    text = (ROOT / "docs/inference.md").read_text(encoding="utf-8")
    search, milvus = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(search, "docs/inference.md", "exec"), names)
    assert names["rows"].shape == names["distances"].shape == (2, 5)
    pytest.importorskip("milvus_lite")
    names = {}
    capsys.readouterr()
    exec(compile(milvus, "docs/inference.md", "exec"), names)
    path, person, _ = capsys.readouterr().out.split()
    assert (path, person) == ("0009_c2s1_000002_00.jpg", "9")  # the only image of camera 2
    assert len(MilvusIndex(Server("people.db"), "shop", dim=512)) == 1
