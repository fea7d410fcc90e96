import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import finetune_octuplet as octuplet_script
import finetune_octuplet_ctl as octuplet_ctl_script
import test as evaluation_script
import train as train_script
import train_ctl as train_ctl_script
from engine import run
from engine.cli import parse, run_script
from engine.methods import BASELINE, CTL, METHODS, OCTUPLET, OCTUPLET_CTL, Method
from engine.settings import Settings
from utils.errors import ReidError
from utils.signals import InterruptedRun

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [train_script, train_ctl_script, octuplet_script, octuplet_ctl_script, evaluation_script]


def settings_of(*argv: str) -> Settings:
    return parse(argv)


def test_options_may_stand_anywhere_and_be_shortened() -> None:
    words = ("DATASETS.NAMES", "PRW", "--scale", "4", "SOLVER.BASE_LR", "1e-4")
    settings = settings_of(*words)
    assert settings.overrides == {"DATASETS.NAMES": "PRW", "SOLVER.BASE_LR": 1e-4, "INPUT.SCALE": 4}
    assert settings_of("--config_fil", "configs/256_resnet50.yml").file["MODEL.NAME"] == "resnet50"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("SOLVER.BASE_LR",), "KEY VALUE pairs, got 'SOLVER.BASE_LR' without a value"),
        (("SOLVER.BASE_L",), "did you mean SOLVER.BASE_LR"),
        (("--scale", "0"), "INPUT.SCALE must be 1 or more, got 0"),
        (("--scale", "2", "INPUT.SCALE", "4"), "--scale is INPUT.SCALE, got 2 and 4; leave one out"),
    ],
)
def test_wrong_words_are_named(argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(ReidError, match=message):
        settings_of(*argv)


def test_an_error_is_one_line_whatever_a_name_in_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\n12:00:00 INFO forged\x1b[2J.yml"
    assert evaluation_script.main(["MODEL.PRETRAIN_PATH", name]) == 2
    assert train_script.main(["--config_file", name]) == 2
    with pytest.raises(SystemExit):
        train_script.main(["--\x1b[2J"])
    *_, of_path, of_config, of_option = capsys.readouterr().err.splitlines()
    assert r"got a 12:00:00 INFO forged\x1b[2J.yml" in of_path
    assert r"got a 12:00:00 INFO forged\x1b[2J.yml" in of_config
    assert r"--\x1b[2J" in of_option


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["SOLVER.MAX_EPOCH", "3"],
            "error: unknown configuration key SOLVER.MAX_EPOCH; did you mean SOLVER.MAX_EPOCHS?\n",
        ),
        (["--config_file", "no.yml"], "error: --config_file must be an existing YAML file, got no.yml"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    script: object, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(argv) == 2  # type: ignore[attr-defined]
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("script", "name"),
    [
        (train_script, "baseline"),
        (train_ctl_script, "ctl"),
        (octuplet_script, "octuplet"),
        (octuplet_ctl_script, "octuplet_ctl"),
    ],
)
def test_each_script_trains_its_method_with_its_arguments(
    script: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[tuple[Method, Settings]]()
    monkeypatch.setattr(run, "fit", lambda *arguments: calls.append(arguments))
    assert script.main(["SOLVER.MAX_EPOCHS", "3", "--scale", "2"]) == 0  # type: ignore[attr-defined]
    ((method, settings),) = calls
    assert method is METHODS[name]
    assert settings.overrides == {"SOLVER.MAX_EPOCHS": 3, "INPUT.SCALE": 2}


def test_a_method_is_a_row_under_its_own_name() -> None:
    assert METHODS == {method.name: method for method in (BASELINE, CTL, OCTUPLET, OCTUPLET_CTL)}
    assert [name for name, method in METHODS.items() if method.fine_tunes] == ["octuplet", "octuplet_ctl"]


def test_an_interruption_is_a_line_and_a_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    for stop, line in ((InterruptedRun("go on with x"), "WARNING go on with x\n"), (KeyboardInterrupt(), "")):

        def end(_: Settings, stop: BaseException = stop) -> None:
            raise stop

        assert run_script(end, "x", []) == 130
        assert capsys.readouterr().err.endswith(line)


def test_an_error_out_of_a_worker_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: Settings) -> None:
        raise ReidError(
            "Caught ReidError in DataLoader worker process 0.\nTraceback\nutils.errors.ReidError: cannot read x"
        )

    assert run_script(fail, "x", []) == 2
    assert capsys.readouterr().err == "error: cannot read x\n"


def test_a_worker_that_ended_says_how_by_the_cause(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: Settings) -> None:
        cause = RuntimeError("DataLoader worker (pid 7) exited unexpectedly with exit code 24. Details are lost")
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly") from cause

    assert run_script(fail, "x", []) == 2
    assert re.fullmatch(r"error: .*exit code 24.*ulimit -n.*NUM_WORKERS 0\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), r"lower SOLVER\.IMS_PER_BATCH, TEST\.IMS_PER_BATCH"),
        (RuntimeError("DataLoader worker (pid 7) is killed"), r"lower DATALOADER\.NUM_WORKERS"),
        (RuntimeError("[gloo/pair.cc:5] Connection closed by peer [::1]:9"), "another process of this run stopped"),
    ],
)
def test_limits_of_the_machine_are_one_line_with_a_remedy(
    error: RuntimeError, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Settings) -> None:
        raise error

    assert run_script(fail, "x", []) == 2
    assert re.fullmatch(f"error: {re.escape(str(error))}; .*{remedy}.*\n", capsys.readouterr().err)


def test_a_fault_of_ours_is_not_hidden() -> None:
    def fail(_: Settings) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        run_script(fail, "x", [])


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_teaches(script: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])  # type: ignore[attr-defined]
    text = capsys.readouterr().out
    for word in ("--config_file", "--scale", "KEY VALUE", "python -m configs", "MODEL.PRETRAIN_PATH"):
        assert word in text


def test_what_the_system_refuses_is_one_line_with_the_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(_: Settings) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "file" / "below").mkdir()

    assert run_script(write, "x", []) == 2
    assert capsys.readouterr().err == f"error: Not a directory: {tmp_path / 'file' / 'below'}\n"


def test_unknown_options_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        train_script.main(["--nonsense", "1"])
    error = capsys.readouterr().err
    assert "--nonsense" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("script", [f"{script.__name__}.py" for script in SCRIPTS])
def test_scripts_stay_thin(script: str) -> None:
    lines = (ROOT / script).read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 20


@pytest.mark.parametrize("module", ["stats", "convert", "synthetic"])
@pytest.mark.parametrize(("option", "code"), [("--help", 0), ("--nonsense", 2)])
def test_tools_of_data_sets_do_not_wait_for_torch(module: str, option: str, code: int) -> None:
    command = [sys.executable, "-X", "importtime", "-m", f"datasets.{module}", option]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert re.search(r"\|\s+datasets$", done.stderr, re.MULTILINE)
    assert not re.search(r"\|\s+torch$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize("script", ["train", "finetune_octuplet_ctl", "test"])
@pytest.mark.parametrize(
    ("argv", "code"),
    [(["--help"], 0), (["--nonsense"], 2), (["SOLVER.MAX_EPOCH", "3"], 2), (["DATALOADER.NUM_WORKERS", "5000"], 2)],
)
def test_help_and_typos_do_not_wait_for_torch(script: str, argv: list[str], code: int) -> None:
    """In a process of its own: a tenth of a second instead of six."""
    program = (
        f"import atexit, sys, {script}\n"
        "slow = {'torch', 'torchvision', 'pytorch_lightning', 'numpy', 'rich'}\n"
        "atexit.register(lambda: print('imported:', sorted(slow & set(sys.modules)), len(sys.modules)))\n"
        f"sys.exit({script}.main({argv!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    slow, _, count = done.stdout.splitlines()[-1].rpartition(" ")
    assert slow == "imported: []"
    assert int(count) < 400  # torch alone has a thousand


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "one"}, "RANK must be a whole number"),
        (
            {"WORLD_SIZE": "4", "RANK": "1"},
            "WORLD_SIZE must be 1 with TRAINER.DEVICES 1 and TRAINER.NUM_NODES 1, got 4",
        ),
        ({"RANK": "3"}, "RANK must be 0 with TRAINER.DEVICES 1 and TRAINER.NUM_NODES 1, got 3; unset it"),
    ],
)
def test_an_environment_of_other_processes_is_refused(
    environment: dict[str, str],
    message: str,
    tiny_arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    assert train_script.main(tiny_arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("error: ") == 1
