"""Two ways to start a command: by a new Python, or by a fork of one that has imported torch already."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

REPOSITORY = Path(__file__).resolve().parents[2]
# One thread: results do not depend on how many cores this machine has.
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}


class Process(Protocol):
    """A command that runs; its number is that of its process group too."""

    pid: int

    def wait(self, timeout: float) -> int:
        """Its exit code, or :class:`subprocess.TimeoutExpired`."""
        ...


def start_cold(line: Sequence[str], environment: Mapping[str, str], out: int, err: int) -> Process:
    """By a new Python, as a user does."""
    return subprocess.Popen(
        line,
        cwd=REPOSITORY,
        env={**_ENVIRONMENT, **environment},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        start_new_session=True,
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """A shell lets commands in the background ignore Ctrl-C, and so would all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class WarmStart:
    """The process of :mod:`tests.faults.warm`, one for all trials of a test process."""

    _one: WarmStart | None = None

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        with theirs:
            line = [sys.executable, "-m", "tests.faults.warm", str(theirs.fileno())]
            options = {"pass_fds": [theirs.fileno()], "start_new_session": True, "preexec_fn": _heed_interrupts}
            subprocess.Popen(line, cwd=REPOSITORY, env=_ENVIRONMENT, **options)
        self.answers = self._connection.makefile("rb", buffering=0)

    @classmethod
    def get(cls) -> WarmStart:
        """The one that runs; it ends with this process, because its connection does."""
        cls._one = cls._one or cls()
        return cls._one

    def start(self, order: Mapping[str, object], streams: Sequence[int]) -> Process:
        """Begin a command with these two streams."""
        socket.send_fds(self._connection, [json.dumps(order).encode()], list(streams))
        return _Fork(self, int(self.answers.readline()))


@dataclass
class _Fork:
    """A command that :class:`WarmStart` began."""

    parent: WarmStart
    pid: int
    code: int | None = None

    def wait(self, timeout: float) -> int:
        if self.code is None:
            if not select.select([self.parent.answers], [], [], max(timeout, 0))[0]:
                raise subprocess.TimeoutExpired("", timeout)
            self.code = int(self.parent.answers.readline())
        return self.code
