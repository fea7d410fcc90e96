"""``python -m configs``, and the page it writes."""

import re
from pathlib import Path

import pytest

from configs import SCHEMA
from configs.__main__ import main
from configs.schema import Key

PAGE = Path(__file__).resolve().parents[2] / "docs/configuration.md"


def test_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    text = capsys.readouterr().out
    assert text == PAGE.read_text(encoding="utf-8")
    sections = list(dict.fromkeys(name.rpartition(".")[0] or "Without a section" for name in SCHEMA))
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == sections
    assert text.count("| key | default | allowed | meaning |") == len(sections)
    assert re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE) == list(SCHEMA)


def test_every_meaning_is_one_sentence() -> None:
    for name, key in SCHEMA.items():
        assert re.fullmatch(r"[A-Z]\w*\b.* .*\.|(test\.py|multistep_lr|cosine_annealing) .*\.", key.meaning), name


def test_a_prefix_prints_its_keys(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEMA, "TEST.RERANK_MINE", Key("a|b", "It is a or b: a|b."))
    main(["TEST.RERANK_"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "## TEST"
    names = ["TEST.RERANK_K1", "TEST.RERANK_K2", "TEST.RERANK_LAMBDA", "TEST.RERANK_MINE"]
    assert [line.split("`")[1] for line in lines if "`" in line] == names
    assert lines[-1] == r"| `TEST.RERANK_MINE` | `a\|b` | str | It is a or b: a\|b. |"


def test_help_and_wrong_prefixes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "python -m configs > docs/configuration.md" in " ".join(capsys.readouterr().out.split())
    for prefix, nearest in (("solver", "SOLVER"), ("SOLVER.BASELR", "SOLVER.BASE_LR")):
        with pytest.raises(SystemExit, match="2"):
            main([prefix])
        assert capsys.readouterr().err == f"error: PREFIX must begin a key, got {prefix!r}; did you mean {nearest}?\n"
