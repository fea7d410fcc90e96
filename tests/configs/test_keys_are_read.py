"""Whether a training, a fine-tuning and a test read every key."""

from typing import ClassVar

import pytest
from yacs.config import CfgNode

from configs import SCHEMA
from configs.schema import Key
from engine import run
from engine.cli import parse
from engine.methods import CTL, OCTUPLET
from tests.support import fit


class RecordingNode(CfgNode):
    """A tree that remembers the dotted names of the values that are read."""

    names: ClassVar[set[str]] = set()

    def __getitem__(self, name: str) -> object:
        value = super().__getitem__(name)
        path = self.__dict__.get("path", "") + name
        if isinstance(value, CfgNode):
            value.__dict__["path"] = f"{path}."
        else:
            self.names.add(path)
        return value


def test_every_key_is_read(tiny_arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("configs.schema.CfgNode", RecordingNode)
    monkeypatch.setitem(SCHEMA, "SOLVER.NOBODY_READS_THIS", Key(1.0, "So the test can fail."))
    arguments = [*tiny_arguments, "SOLVER.MAX_EPOCHS", "1"]
    terms = [f"SOLVER.{name}_WEIGHT" for name in ("WEIGHTED_TRIPLET", "CIRCLE", "MULTI_SIMILARITY")]
    losses = [*(word for name in terms for word in (name, "1")), "SOLVER.CLASSIFIER", "circle"]
    schedule = ("SOLVER.LR_SCHEDULER_NAME", "cosine_annealing")
    path = str(fit(arguments, *schedule, *losses, method=CTL).folder / "best.pth")
    fit(arguments, "--scale", "2", "MODEL.PRETRAIN_PATH", path, method=OCTUPLET)
    rows = ("TEST.RERANK", "True", "TEST.QUERY_EXPANSION", "1", "TEST.VISUALIZE", "True")
    run.evaluate(parse([*arguments, "MODEL.PRETRAIN_PATH", path, *rows]))
    assert SCHEMA.keys() - RecordingNode.names == {"SOLVER.NOBODY_READS_THIS"}
