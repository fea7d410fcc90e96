"""The choice by measuring: what wins, what is stored, and that a damaged or unwritable file is no error."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from utils import fastest as module
from utils.fastest import cache_file, fastest


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_SECONDS", 0.1)


class Work:
    """Steps that take some time, and count their calls."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.calls = seconds, 0

    def __call__(self) -> None:
        """Do one step."""
        self.calls += 1
        time.sleep(self.seconds)


def test_faster_candidate_wins() -> None:
    assert fastest("sleep", {"slow": Work(0.01), "quick": Work(0.001)}, "slow") == "quick"


def test_default_wins_where_the_gain_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, choice in ((0.95, "plain"), (0.9, "other")):
        monkeypatch.setattr(module, "_time", lambda _, seconds=seconds: {"plain": 1.0, "other": seconds})
        assert fastest(f"sleep {seconds}", {"plain": Work(0), "other": Work(0)}, "plain") == choice


def test_single_candidate_is_not_timed() -> None:
    only = Work(0)
    assert fastest("sleep", {"only": only}, "only") == "only"
    assert only.calls == 0
    assert not cache_file().exists()


def test_second_call_reads_the_choice(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    candidates = {"slow": Work(0.01), "quick": Work(0.001)}
    fastest("sleep", candidates, "slow")
    calls = [work.calls for work in candidates.values()]
    assert fastest("sleep", candidates, "slow") == "quick"
    assert [work.calls for work in candidates.values()] == calls
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("sleep: quick (measured: slow ")
    assert second == first.replace("measured", "measured earlier")


@pytest.mark.parametrize("change", ["subject", "candidate", "threads", "torch"])
def test_other_work_or_machine_is_measured_again(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates: dict[str, Callable[[], object]] = {"slow": Work(0.002), "quick": (quick := Work(0.001))}
    fastest("sleep", candidates, "slow")
    calls, subject = quick.calls, "sleep"
    if change == "subject":
        subject = "sleep more"
    elif change == "candidate":
        candidates["third"] = Work(0.002)
    elif change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    else:
        monkeypatch.setattr(torch, "__version__", "99.0")
    fastest(subject, candidates, "slow")
    assert quick.calls > calls


def test_time_is_bounded() -> None:
    candidates = {"slow": Work(0.03), "quick": Work(0.001)}
    start = time.perf_counter()
    fastest("sleep", candidates, "slow")
    assert time.perf_counter() - start < 0.5
    assert [work.calls for work in candidates.values()] == [candidates["slow"].calls] * 2  # in turn


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"null"])
def test_damaged_file_is_no_error(content: bytes) -> None:
    cache_file().parent.mkdir(parents=True)
    cache_file().write_bytes(content)
    assert fastest("sleep", {"slow": Work(0.01), "quick": Work(0.001)}, "slow") == "quick"
    assert len(json.loads(cache_file().read_text())) == 1


@pytest.mark.parametrize("value", [1, {"name": "gone", "ms": {}}, {"name": "quick"}, {"name": [], "ms": {"a": "b"}}])
def test_damaged_choice_is_measured_again(value: object) -> None:
    candidates = {"slow": Work(0.01), "quick": Work(0.001)}
    fastest("sleep", candidates, "slow")
    cache_file().write_text(json.dumps(dict.fromkeys(json.loads(cache_file().read_text()), value)))
    assert fastest("sleep", candidates, "slow") == "quick"


def test_unwritable_folder_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert fastest("sleep", {"slow": Work(0.01), "quick": Work(0.001)}, "slow") == "quick"


def test_choices_of_others_stay() -> None:
    for subject in ("sleep", "doze"):
        fastest(subject, {"slow": Work(0.002), "quick": Work(0.001)}, "slow")
    assert [key.split(" | ")[0] for key in json.loads(cache_file().read_text())] == ["sleep", "doze"]
