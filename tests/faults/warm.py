"""A process that has imported torch and Lightning; each of its forks becomes one command.

That spares every trial the seconds of these imports. A fork goes on at the level of the module, so that it ends as a
script ends: with Python's own clean-up of threads, workers and streams.
"""

import json
import os
import resource
import runpy
import socket
import sys
from typing import Any

import engine.run  # noqa: F401 (the imports are the purpose)
import evaluation.report.write  # noqa: F401
import inference.extract
import inference.gallery.finalize
import inference.gallery.index
import inference.ranked_pictures  # noqa: F401


def next_order(connection: socket.socket) -> dict[str, Any]:
    """In the process that stays: fork for each order. In a fork: its order, with its streams in place."""
    while True:
        text, streams, *_ = socket.recv_fds(connection, 1 << 20, 2)
        if not text:
            sys.exit(0)
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            connection.close()
            for number, stream in enumerate([os.open(os.devnull, os.O_RDONLY), *streams]):
                os.dup2(stream, number)
                os.close(stream)
            order: dict[str, Any] = json.loads(text)
            return order
        os.setpgid(child, child)
        for stream in streams:
            os.close(stream)
        connection.sendall(f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def open_streams() -> None:
    """Streams as Python opens them: those of this process may have been files, which are read in another way."""
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    order = next_order(socket.socket(fileno=int(sys.argv[1])))
    open_streams()
    os.environ.update(order["environment"])
    if order["file_size"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_size"], order["file_size"]))
    if order["first"]:
        runpy.run_path(order["first"])
    script, *arguments = order["words"]
    if script == "-m":
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")
