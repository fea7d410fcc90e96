"""Run a command of a user in a process group of its own, strike it at a moment, and let nothing of it survive."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from tests.faults.start import Process, WarmStart, start_cold

LIMIT = 180.0
"""Seconds after which a command hangs."""

_GRACE = 20.0  # seconds in which workers may notice that their parent is gone; torch's look every five
_NOISE = re.compile(r"Traceback|Exception ignored|Fatal Python error|Segmentation fault|core dumped|Bus error")


class Strike(NamedTuple):
    """A signal at a moment.

    Attributes:
        number: of the signal.
        everyone: send it to the whole group, as a terminal does, and not to the first process alone.
        changes: wait until so many files have appeared or grown in the folder,
        seconds: and so long after that.
        times: how often it is sent, a tenth of a second apart.
    """

    number: int
    everyone: bool = True
    changes: int = 0
    seconds: float = 0.0
    times: int = 1

    def send(self, group: int) -> None:
        """Send it; what has ended in the meantime does not get it."""
        for _ in range(self.times):
            with suppress(ProcessLookupError):
                (os.killpg if self.everyone else os.kill)(group, self.number)
            time.sleep(0.1 if self.times > 1 else 0)


class Ending(NamedTuple):
    """How a command ended.

    Attributes:
        command: as a user would type it.
        code: exit code; negative: the number of the signal that killed it.
        out, err: its streams.
        seconds: that it took.
        changes: files that appeared or grew in the folder while it ran.
    """

    command: str
    code: int
    out: str
    err: str
    seconds: float
    changes: int

    def __str__(self) -> str:
        return f"{self.command}\nexit code {self.code} after {self.seconds:.1f} s\n{self.out[-1000:]}\n{self.err[-3000:]}"

    @property
    def mistakes(self) -> list[str]:
        """The lines that begin with ``error:``."""
        return [line for line in re.split(r"[\r\n]+", self.err) if line.startswith("error: ")]

    def check_quiet(self) -> None:
        """No traceback, nor what Python says of an error that nobody caught."""
        noise = _NOISE.search(self.err) or _NOISE.search(self.out)
        assert noise is None, f"{noise and noise[0]}: {self}"

    def check_success(self) -> None:
        """Exit code 0, without noise."""
        self.check_quiet()
        assert self.code == 0, str(self)

    def check_refusal(self, *facts: str) -> None:
        """Exit code 2 and one line that tells these facts."""
        self.check_quiet()
        assert self.code == 2, str(self)
        assert len(self.mistakes) == 1, f"{len(self.mistakes)} lines of errors: {self}"
        assert [fact for fact in facts if fact not in self.mistakes[0]] == [], str(self)


class Usual(NamedTuple):
    """A command that nothing happened to.

    Attributes:
        ending: of the command.
        folder: what it wrote; only to be copied.
        result: what the files say.
    """

    ending: Ending
    folder: Path
    result: object


UsualOf = Callable[[str], Usual]
"""Name of a job -> the job undisturbed."""


def run(
    words: Sequence[str],
    *,
    strike: Strike | None = None,
    watch: Path | None = None,
    first: Path | None = None,
    environment: Mapping[str, str] | None = None,
    file_size: int = 0,
    shell: str = "",
    limit: float = LIMIT,
) -> Ending:
    """Run a command; fail if it hangs or leaves a process behind, and kill that.

    Args:
        words: script and arguments, or ``-m``, a module and its arguments.
        strike: what happens to it on the way.
        watch: the folder whose changes are counted.
        first: a Python file that runs before the script.
        environment: variables on top of those of this process.
        file_size: of the largest file that it may write, in bytes; 0 = any.
        shell: a line for bash in which ``"$@"`` is the command; it starts a new Python, not a fork of a warm one.
        limit: seconds after which it hangs.
    """
    command = shlex.join(["python", *words])
    reading, writing = zip(os.pipe(), os.pipe(), strict=True)
    streams = [_Reader(end) for end in reading]
    start = time.monotonic()
    if shell:
        command = shell.replace('"$@"', command)
        line = ["bash", "-c", shell, "bash", sys.executable, *words]
        process: Process = start_cold(line, environment or {}, *writing)
    else:
        order = {"words": list(words), "environment": dict(environment or {}), "file_size": file_size}
        process = WarmStart.get().start({**order, "first": str(first or "")}, writing)
    for end in writing:
        os.close(end)
    remains: list[str] = []
    try:
        code, changes = _follow(process, strike, watch, start + limit)
        seconds = time.monotonic() - start
        remains = _survivors(process.pid, time.monotonic() + _GRACE)
    except subprocess.TimeoutExpired:
        stacks = _survivors(process.pid, 0)
        _kill(process)
        pytest.fail(f"hangs after {limit:g} s: {command}\n{stacks}\n{streams[1].text()[-3000:]}")
    finally:
        _kill(process)
    out, err = (stream.text() for stream in streams)
    assert not remains, f"processes are left behind: {remains}\n{command}\n{err[-3000:]}"
    return Ending(command, code, out, err, seconds, changes)


def draw_strike(random: Random, number: int, usual: Ending) -> Strike:
    """A signal at any time of a command, or soon after any change that it makes on the disk.

    Args:
        random: the trial's own.
        number: of the signal.
        usual: how the command ends when nothing happens to it.
    """
    everyone = random.random() < 0.5
    if random.random() < 0.3 or not usual.changes:
        return Strike(number, everyone, seconds=random.uniform(0, usual.seconds))
    return Strike(number, everyone, random.randint(1, usual.changes), random.choice([0, random.uniform(0, 0.1)]))


def _follow(process: Process, strike: Strike | None, watch: Path | None, deadline: float) -> tuple[int, int]:
    """Wait for the end; exit code and number of changes."""
    seen: set[tuple[str, int]] = set(_entries(watch))
    before = len(seen)
    begin = time.monotonic()
    while True:
        changes = len(seen) - before
        if (
            strike is not None
            and changes >= strike.changes
            and (strike.changes or time.monotonic() - begin >= strike.seconds)
        ):
            time.sleep(strike.seconds if strike.changes else 0)
            strike.send(process.pid)
            strike = None
        try:
            return process.wait(timeout=0.004 if watch or strike else deadline - time.monotonic()), changes
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise
        seen.update(_entries(watch))


def _entries(folder: Path | None) -> list[tuple[str, int]]:
    entries = []
    for place, _, names in os.walk(folder) if folder else ():
        for name in names:
            path = os.path.join(place, name)  # noqa: PTH118 (in a loop of milliseconds)
            with suppress(OSError):
                entries.append((path, os.stat(path).st_size))  # noqa: PTH116
    return entries


def _survivors(group: int, deadline: float) -> list[str]:
    """Command lines of the processes of a group that still run at the deadline."""
    while True:
        alive = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it ends just now
                state, _, number = status.read_text().rpartition(")")[2].split()[:3]
                if int(number) == group and state not in "ZX":
                    alive.append(f"{status.parent.name} {status.with_name('cmdline').read_text()[:200]}")
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.1)


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


class _Reader:
    """Reads a pipe to its end, so that nobody waits for room in it."""

    def __init__(self, end: int) -> None:
        self._bytes = b""
        self._thread = threading.Thread(target=self._read, args=(end,), daemon=True)
        self._thread.start()

    def _read(self, end: int) -> None:
        with os.fdopen(end, "rb", buffering=0) as pipe:
            while part := pipe.read(1 << 16):
                self._bytes += part

    def text(self) -> str:
        """What has come so far, or all where the pipe is closed."""
        self._thread.join(timeout=2)
        return self._bytes.decode(errors="backslashreplace")
