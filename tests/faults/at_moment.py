"""Runs before a script, in its process, and lets its whole group have signals at a moment of the work.

``FAULT_MOMENT`` holds the place, how often it is passed before, the seconds from there on, and the signals, such as
``training 2 0.01 SIGINT SIGINT``. A process of its own sends them, as a terminal does: a signal that a process sends
to itself arrives where it was sent, and nowhere else.
"""

import itertools
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from modelling.reid_module import ReidModule

_place, _number, _seconds, *_names = os.environ["FAULT_MOMENT"].split()
_main, _calls = os.getpid(), itertools.count()
_reading, _writing = os.pipe()


def _send_when_asked() -> None:
    """Wait for a byte, or for the end of all who could send one."""
    signals = [getattr(signal, name) for name in _names]
    for number in signals:
        signal.signal(number, signal.SIG_IGN)
    os.close(_writing)
    if os.read(_reading, 1):
        time.sleep(float(_seconds))
        for number in signals:
            os.killpg(os.getpgrp(), number)
            time.sleep(0.05)
    os._exit(0)


def _pass() -> None:
    if os.getpid() == _main and next(_calls) == int(_number):
        os.write(_writing, b"!")


def _before(method: Callable[..., Any]) -> Callable[..., Any]:
    def slower(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        _pass()
        time.sleep(0.01)
        return method(*arguments, **options)

    return slower


if os.fork() == 0:
    _send_when_asked()
if _place == "fork":
    os.register_at_fork(before=_pass)
else:
    _name = f"{_place}_step"
    setattr(ReidModule, _name, _before(getattr(ReidModule, _name)))
