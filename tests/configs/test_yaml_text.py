"""YAML from a user's file and from a checkpoint."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import SCHEMA, get_cfg, read_config, to_yaml, with_values
from utils.errors import ReidError

FRAGMENTS = [
    *("MODEL", "NAME", "SOLVER.GAMMA", "a", "1", "0x" + "f" * 5000, "2024-13-01", "1:2.5", "~", "''", '"', "#", "%"),
    *(": ", ", ", "\n", "  ", "\t", "- ", "? ", "[", "]", "{", "}", "|", "---\n", "&a ", "*a", "&b ", "*b", "<<: "),
    *("!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!binary ", "!!omap ", "!!pairs ", "!!set ", "!!str "),
]


def grow(first: str, form: str) -> str:
    """Ten lines, each of which stands for nine of the line before: the last one for 3 billion values."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{i}: &a{i} {form.format(', '.join([f'*a{i - 1}'] * 9))}" for i in range(1, 11)]
    return "\n".join(lines)


@settings(deadline=5000)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join) | st.text(max_size=200), st.booleans())
def test_any_text_gives_keys_or_one_clear_line(text: str, lenient: bool) -> None:
    try:
        values, message = read_config(text, lenient=lenient), ""
    except ReidError as error:
        values, message = {}, str(error)
    assert values.keys() <= SCHEMA.keys()
    assert len(message.splitlines()) <= 1


@settings(deadline=5000)
@given(st.data())
def test_a_configuration_with_one_piece_replaced_is_read_or_one_clear_line(data: st.DataObject) -> None:
    whole = to_yaml(get_cfg())
    first = data.draw(st.integers(0, len(whole)))
    last = data.draw(st.integers(first, min(len(whole), first + 20)))
    piece = data.draw(st.lists(st.sampled_from(FRAGMENTS), max_size=3).map("".join) | st.text(max_size=5))
    message = ""
    try:
        with_values(get_cfg(), read_config(whole[:first] + piece + whole[last:]))
    except ReidError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (grow("[x]", "[{}]"), r"at most 10000 values in 20 levels, aliases written out, got more in line \d+$"),
        (grow("{x: 1}", "{{<<: [{}]}}"), r"at most 10000 values in 20 levels, aliases written out, got more in line \d+$"),
        ("[" * 5_000, r"at most 20 levels, got hundreds$"),
        ("\n".join(" " * level + "a:" for level in range(25)), r"at most .* in 20 levels, .*got more in line 21$"),
        ("MODEL: &a [*a]", r"20 levels"),
        ("MODEL: &a {NAME: *a}", r"20 levels"),
        ("MODEL: &a {<<: *a}", r"20 levels"),
        ("a" * 100_001, r"at most 100000 characters, got 100001$"),
        ("MODEL: {NAME: !!bool maybe}", r"must be YAML, but does not parse"),
        (f"SOLVER: {{MAX_EPOCHS: 0x{'f' * 5000}}}", r"4300 digits"),
        (f"SOLVER: {{LR_STEPS: [{'9, ' * 900}]}}", r"must be rising numbers .*got \[9, [9, ]*\.\.\.$"),
        ('"MODEL\\nNAME": 1', r"unknown configuration key MODEL NAME"),
        ("MODEL: {NAME: a}\nSOLVER:\n  GAMMA: 1\nMODEL: {POOLING: gem}\n", r"MODEL must be set once, got lines 1 and 4; "),
        ("SOLVER:\n  GAMMA: 0.1\n  GAMMA: 0.1\n", r"GAMMA must be set once, got lines 2 and 3; remove one$"),
        ("SOLVER: {GAMMA: 0.1, GAMMA: 0.2}", r"GAMMA must be set once, got lines 1 and 1; remove one$"),
        ("SOLVER.BASE_LR: 1\nSOLVER: {BASE_LR: 2}\n", r"SOLVER\.BASE_LR must be set once, got 1 and 2; remove one$"),
        ("MODEL: [", r"the text must be YAML, but does not parse: .*line 1"),
        ("just words", r"must hold sections of keys, got str$"),
        ("[]", r"must hold sections of keys, got list$"),
        ("MODEL:\n  NAME:\n", r"MODEL\.NAME must be of type str .*got None$"),
        ("MODEL:\n  NAMES: x\n", r"unknown configuration key MODEL\.NAMES; did you mean MODEL\.NAME\?$"),
    ],
)  # fmt: skip
def test_text_that_sets_no_keys_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=rf"^the checkpoint's configuration: .*{message}"):
        read_config(text)
    (tmp_path / "some.yml").write_text(text)
    with pytest.raises(ReidError, match=rf"some\.yml: .*{message}"):
        read_config(tmp_path / "some.yml")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("# nothing\n---\n", {}),
        ("MODEL:\nSOLVER:\n  MAX_EPOCHS: 3\n", {"SOLVER.MAX_EPOCHS": 3}),
        ("INPUT: {SIZE_TRAIN: &s [64, 32], SIZE_TEST: *s}", {"INPUT.SIZE_TRAIN": [64, 32], "INPUT.SIZE_TEST": [64, 32]}),
        ("MODEL: {<<: {NAME: a, POOLING: max}, NAME: b}", {"MODEL.NAME": "b", "MODEL.POOLING": "max"}),
    ],
)  # fmt: skip
def test_text_that_sets_keys(text: str, values: dict[str, object]) -> None:
    assert read_config(text) == values


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"nowhere\.yml; at hand: "):
        read_config(tmp_path / "nowhere.yml")
    (tmp_path / "best.pth").write_bytes(b"PK\x80")
    with pytest.raises(ReidError, match=r"best\.pth: the text must be YAML, but does not parse: 'utf-8' codec"):
        read_config(tmp_path / "best.pth")


def test_a_configuration_of_the_code_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")
    assert read_config(Path("configs/demo.yml"))["MODEL.NAME"] == "resnet18"
    assert "--config_file configs/demo.yml is not here: the one of the code counts, /" in caplog.text
    for name in ("demo.yml", "configs/schema.py", "configs/none.yml"):
        with pytest.raises(ReidError, match=rf"got {name}; at hand: .*configs/demo\.yml"):
            read_config(Path(name))
    Path("configs").mkdir()
    Path("configs/demo.yml").write_text("MODEL: {NAME: mine}")
    assert read_config(Path("configs/demo.yml")) == {"MODEL.NAME": "mine"}


def test_unknown_keys_of_a_checkpoint_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert read_config("MODEL: {OLD: 1, NAME: x}\nGONE: {A: 1}", lenient=True) == {"MODEL.NAME": "x"}
    assert "MODEL.OLD" in caplog.text
    assert "GONE.A" in caplog.text
