import re
from pathlib import Path

import pytest
import yaml
from yacs.config import CfgNode

from configs import KEYS, get_cfg, read_config, to_yaml, with_values
from configs.__main__ import markdown_table
from configs.schema import checked_value, flatten
from utils.errors import ReidError

ROOT = Path(__file__).resolve().parents[2]


def test_every_default_obeys_its_own_rule_and_type() -> None:
    for name, key in KEYS.items():
        assert checked_value(KEYS, name, key.default) == key.default


def test_every_key_is_read_by_the_builder() -> None:
    source = "".join(path.read_text() for path in sorted((ROOT / "engine").rglob("*.py")))
    unread = []
    for name in KEYS:
        section, _, leaf = name.rpartition(".")
        alias = {"SOLVER": r"(cfg\.SOLVER|solver)", "TEST": r"(cfg\.TEST|test)"}.get(
            section, re.escape(f"cfg.{section}" if section else "cfg")
        )
        if not re.search(rf'{alias}\.{leaf}\b|"{re.escape(name)}"', source):
            unread.append(name)
    assert unread == []


def test_the_documentation_lists_exactly_the_schema() -> None:
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    header = "Every key of `configs/defaults.py`. This table is what `python -m configs` prints."
    assert text == f"# Configuration\n\n{header}\n\n{markdown_table()}"


def test_tree_survives_yaml() -> None:
    cfg = with_values(get_cfg(), {"SOLVER.BASE_LR": 1e-7, "INPUT.SIZE_TRAIN": [64, 32], "DATASETS.NAMES": "한글 x"})
    text = to_yaml(cfg)
    assert isinstance(cfg, CfgNode)
    assert with_values(get_cfg(), read_config(text)) == cfg
    assert flatten(yaml.safe_load(text)).keys() == KEYS.keys()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("SOLVER.BASE_LR", "1e-3", 1e-3),
        ("SOLVER.BASE_LR", "1", 1.0),
        ("SOLVER.MAX_EPOCHS", "7", 7),
        ("MODEL.PRETRAINED", "False", False),
        ("MODEL.PRETRAINED", "true", True),
        ("INPUT.SIZE_TRAIN", "(128, 64)", [128, 64]),
        ("INPUT.PIXEL_MEAN", "[0, 0.5, 1]", [0.0, 0.5, 1.0]),
        ("DATASETS.NAMES", "2024", "2024"),
    ],
)
def test_text_becomes_the_type_of_the_default(name: str, text: str, value: object) -> None:
    got = checked_value(KEYS, name, text)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SOLVER.BASELR", "1", r"unknown configuration key SOLVER\.BASELR; did you mean SOLVER\.BASE_LR\?"),
        ("solver.base_lr", "1", r"did you mean SOLVER\.BASE_LR"),
        ("ZZZZZZ", "1", r"unknown configuration key ZZZZZZ$"),
        ("SOLVER.MAX_EPOCHS", "2.5", r"SOLVER\.MAX_EPOCHS must be of type int.*got '2\.5'"),
        ("SOLVER.MAX_EPOCHS", "True", r"must be of type int"),
        ("MODEL.PRETRAINED", "1", r"MODEL\.PRETRAINED must be of type bool.*got '1'"),
        ("SOLVER.BASE_LR", "fast", r"must be of type float"),
        ("SOLVER.BASE_LR", "0", r"SOLVER\.BASE_LR must be greater than 0, got '0'"),
        ("SOLVER.OPTIMIZER_NAME", "adamw", r"must be one of Adam.*got 'adamw'; did you mean AdamW\?"),
        ("INPUT.SIZE_TRAIN", "[256]", r"INPUT\.SIZE_TRAIN must be 2 numbers"),
        ("INPUT.SIZE_TRAIN", "['a', 'b']", r"must be 2 numbers, .*on a command line write \"\[256, 128\]\"$"),
        ("TEST.PROTOCOLS", "['instanc']", r"a list of instance, .*got \"\['instanc'\]\"; did you mean instance\?"),
        ("TEST.PROTOCOLS", "['instance', 'centroids']", r"did you mean centroid\?"),
        ("TEST.PROTOCOLS", "[]", r"must be a list of instance, .*got '\[\]'$"),
        ("TEST.PROTOCOLS", "['instance', 'instance']", r"must be a list of instance"),
        ("TEST.PROTOCOLS", "centroid", r"a list of .*got 'centroid'; on a command line write \"\['centroid'\]\"$"),
        ("TEST.PROTOCOLS", "[centroid]", r"on a command line write \"\['instance'\]\"$"),
        ("SOLVER.LR_STEPS", "[40,x]", r"rising numbers .*, got '\[40,x\]'; .* write \"\[40, 70\]\"$"),
        ("SOLVER.LR_STEPS", "30", r"rising numbers .*, got '30'; .* write \"\[30\]\"$"),
        ("SOLVER.LR_STEPS", "{[]:1}", r"SOLVER\.LR_STEPS must be rising numbers"),
        ("INPUT.LR_SCALES", "two", r"a list of numbers, .* write \"\[2, 4\]\"$"),
        ("SOLVER.LR_STEPS", "[70, 40]", r"rising numbers"),
        ("REPRODUCIBLE_SEED", "5000000000", r"REPRODUCIBLE_SEED must be from 0 to"),
        ("SOLVER.BASE_LR", "1e999", r"SOLVER\.BASE_LR must be greater than 0"),
        ("INPUT.PROB", "1.5", r"INPUT\.PROB must be from 0 to 1"),
    ],
)
def test_wrong_keys_and_values_are_named_with_a_remedy(name: str, value: str, message: str) -> None:
    with pytest.raises(ReidError, match=message):
        with_values(get_cfg(), {name: value})


def test_a_change_leaves_the_original_tree_alone() -> None:
    cfg = get_cfg()
    with_values(cfg, {"SOLVER.MAX_EPOCHS": 1})
    assert cfg == get_cfg()


def test_an_empty_section_sets_nothing_and_a_key_set_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "some.yml"
    file.write_text("MODEL:\nSOLVER:\n  MAX_EPOCHS: 3\n")
    assert read_config(file) == {"SOLVER.MAX_EPOCHS": 3}
    file.write_text("SOLVER.BASE_LR: 1\nSOLVER: {BASE_LR: 2}\n")
    with pytest.raises(ReidError, match=r"some\.yml: SOLVER\.BASE_LR must be set once, got 1 and 2$"):
        read_config(file)
    file.write_text("MODEL:\n  NAME:\n")
    with pytest.raises(ReidError, match=r"MODEL\.NAME must be of type str .*got None"):
        read_config(file)


def test_config_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"nowhere\.yml; at hand: "):
        read_config(tmp_path / "nowhere.yml")
    broken = tmp_path / "broken.yml"
    broken.write_text("MODEL: [")
    with pytest.raises(ReidError, match=r"broken\.yml must be YAML"):
        read_config(broken)
    broken.write_text("just words")
    with pytest.raises(ReidError, match=r"must hold sections of keys, got str"):
        read_config(broken)
    broken.write_text("MODEL:\n  NAMES: x\n")
    with pytest.raises(
        ReidError, match=r"broken\.yml: unknown configuration key MODEL\.NAMES; did you mean MODEL\.NAME"
    ):
        read_config(broken)
