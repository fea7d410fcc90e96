import pytest
import yaml
from yacs.config import CfgNode

from configs import SCHEMA, get_cfg, read_config, to_yaml, with_values
from configs.schema import Key, at_least, checked_value, flatten
from engine.cli import parse
from utils.errors import ReidError


def test_every_default_obeys_its_own_rule_and_type() -> None:
    for name, key in SCHEMA.items():
        assert checked_value(SCHEMA, name, key.default) == key.default


def test_a_file_of_ones_own_adds_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEMA, "SOLVER.MY_LOSS_WEIGHT", Key(0.5, "My loss has this weight.", at_least(0)))
    monkeypatch.setitem(SCHEMA, "MINE.DEPTH", Key(3, "My network has this many layers."))
    assert (get_cfg().SOLVER.MY_LOSS_WEIGHT, get_cfg().MINE.DEPTH) == (0.5, 3)
    cfg = with_values(get_cfg(), {"SOLVER.MY_LOSS_WEIGHT": "2", "MINE.DEPTH": 4})
    assert read_config(to_yaml(cfg)) == flatten(cfg)
    with pytest.raises(ReidError, match=r"MY_LOSS; did you mean SOLVER\.MY_LOSS_WEIGHT\?"):
        with_values(cfg, {"SOLVER.MY_LOSS": 1})
    with pytest.raises(ReidError, match=r"MY_LOSS_WEIGHT must be 0 or more"):
        with_values(cfg, {"SOLVER.MY_LOSS_WEIGHT": -1})


def test_tree_survives_yaml() -> None:
    cfg = with_values(get_cfg(), {"SOLVER.BASE_LR": 1e-7, "INPUT.SIZE_TRAIN": [64, 32], "DATASETS.NAMES": "한글 x"})
    text = to_yaml(cfg)
    assert isinstance(cfg, CfgNode)
    assert with_values(get_cfg(), read_config(text)) == cfg
    assert flatten(yaml.safe_load(text)).keys() == SCHEMA.keys()


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
        ("SOLVER.TERMS", "['identity', 'triplet']", ["identity", "triplet"]),
        ("INPUT.LR_SCALES", "[2]", [2]),
    ],
)
def test_text_becomes_the_type_of_the_default(name: str, text: str, value: object) -> None:
    result = checked_value(SCHEMA, name, text)
    assert result == value
    assert type(result) is type(value)


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
        ("INPUT.INTERPOLATION", "Bicubic", r"must be one of bilinear.*got 'Bicubic'; did you mean bicubic\?"),
        ("INPUT.SIZE_TRAIN", "[256]", r"INPUT\.SIZE_TRAIN must be 2 numbers"),
        ("INPUT.SIZE_TRAIN", "['a', 'b']", r"must be 2 numbers, .*on a command line write \"\[256, 128\]\"$"),
        ("SOLVER.OCTUPLET_TERMS", "['hhh']", r"a list of hh, .*got \"\['hhh'\]\"; did you mean hh\?"),
        ("TEST.PROTOCOLS", "[]", r"must be a list of 1 or more names, each once, got '\[\]'$"),
        ("TEST.PROTOCOLS", "['instance', 'instance']", r"must be a list of 1 or more names, each once, got"),
        ("TEST.PROTOCOLS", "['instance', '']", r"must be a list of 1 or more names, each once, got"),
        ("TEST.PROTOCOLS", "centroid", r"a list of .*got 'centroid'; on a command line write \"\['centroid'\]\"$"),
        ("TEST.PROTOCOLS", "[centroid]", r"on a command line write \"\['instance'\]\"$"),
        ("SOLVER.LR_STEPS", "[40,x]", r"rising numbers .*, got '\[40,x\]'; .* write \"\[40, 70\]\"$"),
        ("SOLVER.LR_STEPS", "30", r"rising numbers .*, got '30'; .* write \"\[30\]\"$"),
        ("SOLVER.LR_STEPS", "{[]:1}", r"SOLVER\.LR_STEPS must be rising numbers"),
        ("INPUT.LR_SCALES", "two", r"a list of numbers, .* write \"\[2, 4\]\"$"),
        ("SOLVER.LR_STEPS", "[70, 40]", r"rising numbers"),
        ("SOLVER.TERMS", "center", r"a list of names, each once, .* write \"\['center'\]\"$"),
        ("SOLVER.TERMS", "[center]", r"a list of names, .* write \"\['identity', 'triplet'\]\"$"),
        ("SOLVER.TERMS", "['center', 'center']", r"SOLVER\.TERMS must be a list of names, each once, got"),
        ("REPRODUCIBLE_SEED", "5000000000", r"REPRODUCIBLE_SEED must be from 0 to"),
        ("SOLVER.BASE_LR", "1e999", r"SOLVER\.BASE_LR must be greater than 0"),
        ("SOLVER.BASE_LR", "9" * 400, r"SOLVER\.BASE_LR must be greater than 0, got '9{199}\.\.\.$"),
        ("SOLVER.MAX_EPOCHS", "0x" + "f" * 5000, r"SOLVER\.MAX_EPOCHS must be of type int"),
        ("INPUT.FLIP_PROB", "1.5", r"INPUT\.FLIP_PROB must be from 0 to 1"),
    ],
)
def test_wrong_keys_and_values_are_named_with_a_remedy(name: str, value: str, message: str) -> None:
    with pytest.raises(ReidError, match=message):
        with_values(get_cfg(), {name: value})


def test_a_change_leaves_the_original_tree_alone() -> None:
    cfg = get_cfg()
    with_values(cfg, {"SOLVER.MAX_EPOCHS": 1})
    assert cfg == get_cfg()


def test_the_original_name_of_a_key_goes_on_working() -> None:
    assert read_config("INPUT: {PROB: 0.25}") == {"INPUT.FLIP_PROB": 0.25}
    with pytest.raises(ReidError, match=r"INPUT\.FLIP_PROB must be set once, got 0\.25 and 0\.5; remove one"):
        read_config("INPUT: {PROB: 0.25, FLIP_PROB: 0.5}")
    assert parse(["INPUT.PROB", "0.25"]).explicit == {"INPUT.FLIP_PROB": 0.25}
