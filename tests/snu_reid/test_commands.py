"""The command ``snu-reid``, from the checkout."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import snu_reid
from inference.extract import Extractor
from inference.index import build_index
from snu_reid import commands
from snu_reid.__main__ import main
from snu_reid.commands import COMMANDS, SCRIPTS, Command
from utils.command_line import OneLineParser
from utils.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
AT_HAND = [name for name, command in COMMANDS.items() if find_spec(command.module)]
CONTRACT = "train train-ctl finetune-octuplet finetune-octuplet-ctl test makelr embed search infer export serve"


def test_the_commands_are_those_of_the_contract() -> None:
    assert list(SCRIPTS) == CONTRACT.split()


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if arguments:
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
    else:
        assert main(arguments) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: snu-reid COMMAND ...\n")
    for name, command in COMMANDS.items():
        assert f"  {name} " in text
        assert command.summary in text
    assert f"Pages:  {ROOT / 'docs'}\n" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"snu-reid {VERSION}\n"
    assert snu_reid.__version__ == VERSION


@pytest.mark.parametrize("name", AT_HAND)
def test_help_of_a_command_names_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    usage = (
        f"python -m {COMMANDS[name].module.removesuffix('.__main__')}" if name not in SCRIPTS else f"snu-reid {name}"
    )
    assert capsys.readouterr().out.startswith(f"usage: {usage} [-h]")
    assert OneLineParser().prog == Path(sys.argv[0]).name  # the name is that of the one command only


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["search", "--help"], ["--version"]])
def test_help_answers_before_torch_is_imported(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom snu_reid.__main__ import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit as end:\n    sys.exit(end.code or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian", "--config_file", "x"], r"error: COMMAND must be one of train, .*, got 'trian'; did you mean train\?"),
        (["--verbose", "train"], r"error: unrecognized arguments: --verbose; did you mean --version\?"),
        (["train", "--confg_file=x"], r"error: unrecognized arguments: --confg_file=x; did you mean --config_file\?"),
        (["train", "--nothing"], r"error: unrecognized arguments: --nothing; see --help"),
        (["train", "SOLVER.MAX_EPOCH", "3"], r"error: .*did you mean SOLVER.MAX_EPOCHS\?"),
        (["configs", "SOLVERS"], r"error: PREFIX must begin a key, got 'SOLVERS'; did you mean SOLVER\?"),
        (["stats", "nowhere"], r"error: .*'nowhere'"),
        (["absent"], rf"error: COMMAND absent is not part of snu-reid {VERSION}; see snu-reid --help"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if arguments == ["absent"]:
        monkeypatch.setitem(COMMANDS, "absent", Command("inference.absent", ""))
        monkeypatch.setitem(SCRIPTS, "absent", COMMANDS["absent"])
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    lines = capsys.readouterr().err.splitlines()
    assert (code, len(lines)) == (2, 1)
    assert re.fullmatch(message, lines[0])


def test_a_module_that_fails_to_import_is_no_missing_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "needs_more.py").write_text("import a_library_that_is_absent")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(commands.SCRIPTS, "broken", Command("needs_more", ""))
    monkeypatch.setitem(commands.COMMANDS, "broken", Command("needs_more", ""))
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_absent"):
        main(["broken"])


def test_a_tool_returns_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs", "SOLVER.GAMMA"]) == 0
    assert "`SOLVER.GAMMA`" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["README.md", "docs/package.md", "snu_reid/__main__.py", "Dockerfile"])
def test_pages_name_commands_that_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    names = set(re.findall(r"(?:^|`| )snu-reid(?::cuda)? ([a-z][a-z-]*)(?=[ `.,]|$)", text, re.MULTILINE))
    assert names & COMMANDS.keys()
    assert names - COMMANDS.keys() <= {"in", "is", "says", "of"}  # sentences


def test_the_public_names_in_python() -> None:
    assert snu_reid.Extractor is Extractor
    assert snu_reid.build_index is build_index
    assert set(snu_reid.__all__) == {"Extractor", "build_index", "__version__"}
    with pytest.raises(AttributeError, match="module 'snu_reid' has no attribute 'Extracter'"):
        _ = snu_reid.Extracter
