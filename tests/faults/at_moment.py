"""Runs before a script, in its process: sends signals to the whole group at a moment of the work, as a terminal does.

``FAULT_MOMENT`` holds the place, how often it is passed before, and the signals, such as ``training 2 SIGINT SIGINT``.
"""

import itertools
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from modelling.reid_module import ReidModule

_place, _number, *_names = os.environ["FAULT_MOMENT"].split()
_main, _calls = os.getpid(), itertools.count()
_in_worker = False


def _strike() -> None:
    for name in _names:
        os.killpg(os.getpgrp(), getattr(signal, name))
        time.sleep(0.05)


def _passed() -> bool:
    return os.getpid() == _main and next(_calls) == int(_number)


def _before(method: Callable[..., Any]) -> Callable[..., Any]:
    def struck(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        if _passed():
            _strike()
        return method(*arguments, **options)

    return struck


def _mark_fork() -> None:
    global _in_worker
    _in_worker = _passed()


if _place in ("training", "validation", "test"):
    _name = f"{_place}_step"
    setattr(ReidModule, _name, _before(getattr(ReidModule, _name)))
elif _place == "before_fork":
    os.register_at_fork(before=lambda: _strike() if _passed() else None)
elif _place == "in_worker":
    os.register_at_fork(before=_mark_fork, after_in_child=lambda: _strike() if _in_worker else None)
else:
    raise ValueError(_place)
