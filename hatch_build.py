"""Build the wheel: the packages and scripts of this checkout as one package, ``snu_reid``.

In site-packages, names such as ``datasets`` and ``utils`` would stand in the way of other projects, such as Hugging
Face's ``datasets``. So the wheel holds ``snu_reid/datasets`` and so on, and this hook of hatchling rewrites in copies
of the files

- absolute imports of ours, by their positions in the syntax tree: ``from datasets.sample import Sample`` becomes
  ``from snu_reid.datasets.sample import Sample``;
- names of our scripts in messages, help texts and pages: ``python train.py`` becomes ``snu-reid train``.

It refuses what it could not rewrite faithfully: ``import engine.run``, which binds ``engine``, and the name of one of
our modules as text in a call that imports it.
"""

import ast
import re
import runpy
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

PACKAGE = "snu_reid"
PACKAGES = ("configs", "datasets", "engine", "evaluation", "inference", "losses", "modelling", "utils")
SCRIPTS = ("train", "train_ctl", "finetune_octuplet", "finetune_octuplet_ctl", "test", "makelr")
PAGES = ("CONTRIBUTING.md", "docs/*.md")  # messages name them
_MARKDOWN = (".md", ".md.j2")  # a page, and the template of one

_IMPORTERS = ("import_module", "__import__", "find_spec", "getLogger")


class Edit(NamedTuple):
    """A piece of a line that another text replaces.

    Attributes:
        line: from 0 on.
        first: byte of the line at which the piece begins.
        last: byte after it.
        text: what stands there instead.
    """

    line: int
    first: int
    last: int
    text: str


def rewrite_imports(source: str, names: Collection[str], package: str = PACKAGE) -> str:
    """Python source in which imports of our modules go through a package.

    Args:
        source: of one module, or of one block of a page.
        names: of our top-level packages and modules.
        package: that holds them.

    Raises:
        ValueError: if the source has an import that cannot be rewritten, with its line.
    """
    lines, edits = source.encode().splitlines(keepends=True), list[Edit]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level and _top(node.module) in names:
            edits.append(_in_from(node, lines[node.lineno - 1], package))
        elif isinstance(node, ast.Import):
            edits += [_in_import(alias, package) for alias in node.names if _top(alias.name) in names]
        elif isinstance(node, ast.Call) and _name(node.func) in _IMPORTERS:
            _check_call(node, names)
    for line, first, last, text in sorted(edits, reverse=True):
        lines[line] = lines[line][:first] + text.encode() + lines[line][last:]
    return b"".join(lines).decode()


def _in_from(node: ast.ImportFrom, line: bytes, package: str) -> Edit:
    match = re.compile(rb"from[ \t]+(?=\w)").match(line, node.col_offset)
    if match is None:
        raise ValueError(f"line {node.lineno}: write the module of an import on the line of its 'from'")
    return Edit(node.lineno - 1, match.end(), match.end(), f"{package}.")


def _in_import(alias: ast.alias, package: str) -> Edit:
    if "." in alias.name and alias.asname is None:
        raise ValueError(f"line {alias.lineno}: write 'from ... import ...' for 'import {alias.name}'")
    assert alias.end_col_offset is not None
    text = f"{package}.{alias.name} as {alias.asname or alias.name}"
    return Edit(alias.lineno - 1, alias.col_offset, alias.end_col_offset, text)


def _check_call(node: ast.Call, names: Collection[str]) -> None:
    texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    if ours := [text for text in texts if _top(text) in names]:
        raise ValueError(f"line {node.lineno}: import {ours[0]} by a statement, or compute its name")


def _top(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def rewrite_prose(text: str, commands: Mapping[str, str], names: Collection[str], package: str = PACKAGE) -> str:
    """Text, or source with its messages and docstrings, that speaks of the command instead of scripts.

    A string that is nothing but the name of a script stays: it is data, such as the mark of a folder.

    Args:
        text: of a file.
        commands: name of the command by module; a module that is no script runs as ``python -m``.
        names: of our top-level packages and modules.
        package: that holds them.
    """
    for module, command in commands.items():
        name = f"snu-reid {command}"
        if _is_script(module):
            *folders, stem = module.split(".")
            file = rf"(?<![\w/.])(?:{''.join(rf'{folder}/' for folder in folders)})?{stem}\.py(?!\w)"
            text = re.sub(rf"(torchrun(?:\s+-\S+(?:\s+[^\s-]\S*)?)*?\s+){file}", rf"\1-m {package} {command}", text)
            text = re.sub(rf"(?:python )?{file}(?![\"'])|(?<![\"'])(?:python )?{file}", name, text)
        else:
            tool = re.escape(module.removesuffix(".__main__"))
            text = re.sub(rf"python -m {tool}(?!\.?\w)", name, text)
    return re.sub(rf"(:\w+:`~?)(?=(?:{'|'.join(names)})[.`])", rf"\1{package}.", text)


def _is_script(module: str) -> bool:
    return module in SCRIPTS or module.startswith("inference.")


def rewrite_page(text: str, names: Collection[str]) -> str:
    """A page of Markdown whose blocks of Python import from the package."""
    return re.sub(
        r"(?<=^```python\n).*?(?=^```)",
        lambda block: rewrite_imports(block[0], names),
        text,
        flags=re.MULTILINE | re.DOTALL,
    )


def shipped_files(root: Path) -> dict[Path, Path]:
    """The files of the wheel: path within the package -> path in the checkout."""
    files = [path for name in (*PACKAGES, PACKAGE) for path in (root / name).rglob("*") if path.is_file()]
    files = [path for path in files if not any(part == "__pycache__" or part[0] == "." for part in path.parts)]
    files += [root / f"{name}.py" for name in SCRIPTS]
    files += [path for pattern in PAGES for path in root.glob(pattern)]
    relative = ((path.relative_to(root), path) for path in files)
    return {path.relative_to(PACKAGE) if path.parts[0] == PACKAGE else path: source for path, source in relative}


def write_package(root: Path, target: Path) -> None:
    """Write the package.

    Args:
        root: of the checkout.
        target: folder that becomes ``snu_reid``.

    Raises:
        ValueError: as :func:`rewrite_imports`, with the file.
    """
    names = (*PACKAGES, *SCRIPTS)
    table = runpy.run_path(str(root / PACKAGE / "commands.py"))["COMMANDS"]
    commands = {command.module: name for name, command in table.items()}
    for relative, source in shipped_files(root).items():
        path = target / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.name.endswith((".py", *_MARKDOWN)):
            shutil.copyfile(source, path)
            continue
        text = source.read_text(encoding="utf-8")
        try:
            text = rewrite_page(text, names) if path.name.endswith(_MARKDOWN) else rewrite_imports(text, names)
        except ValueError as error:
            raise ValueError(f"{relative}, {error}") from error
        path.write_text(rewrite_prose(text, commands, names), encoding="utf-8")


class PackageHook(BuildHookInterface):
    """Gives hatchling the rewritten copy."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the copy.

        Raises:
            ValueError: for an editable installation, or as :func:`write_package`.
        """
        if version == "editable":
            raise ValueError("the checkout runs as it is and cannot be installed as editable; run its scripts")
        self._folder = Path(tempfile.mkdtemp())
        write_package(Path(self.root), self._folder)
        build_data["force_include"][str(self._folder)] = PACKAGE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the copy."""
        shutil.rmtree(self._folder)


class RequirementsHook(MetadataHookInterface):
    """Takes the dependencies from requirements.txt."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies."""
        lines = (Path(self.root) / "requirements.txt").read_text(encoding="utf-8").splitlines()
        metadata["dependencies"] = [text for line in lines if (text := line.partition("#")[0].strip())]
