"""A real Milvus server for a test, from the package ``milvus``: its own ports, its own folder, stopped and started at will."""

import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

milvus = pytest.importorskip("milvus", reason="the package milvus (Linux, x86-64) is not installed")

_PATIENCE = 300.0  # seconds for a start, which takes ten on a machine that does nothing else
_TRIES = 3  # with other ports
_PORTS = ("data_coord", "data_node", "etcd", "index_coord", "index_node", "proxy_internal", "query_coord", "query_node", "root_coord")  # fmt: skip


class _Config(milvus.MilvusServerConfig):  # type: ignore[misc, name-defined]
    def try_bind_port(self, port: int) -> socket.socket | None:
        """As the package's, but a port whose last connections are not forgotten yet may be taken again."""
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(("127.0.0.1", port))
            bound.listen()
        except OSError:
            bound.close()
            return None
        return bound


class Standalone:
    """The server; the test is skipped where it cannot start.

    Attributes:
        uri: where clients find it, also after it was started again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = _free_ports(1)[0]
        self._server: object = None
        self._locked = False
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self, *, locked: bool = False) -> None:
        """Let it run; ``locked`` demands a token, ``root:Milvus``."""
        if self._server is not None and self._locked == locked:
            return
        self.stop()
        faults = []
        for _ in range(_TRIES):
            *others, health = _free_ports(len(_PORTS) + 1)
            ports = {f"{name}_port": port for name, port in zip(_PORTS, others, strict=True)}
            config = _Config(data_dir=str(self._folder), proxy_port=self._port, **ports)
            config.set("common.security.authorizationEnabled", str(locked).lower())
            server = milvus.MilvusServer(config, wait_for_started=False)
            server.webservice_port = health
            try:
                server.start()
                _wait(server)
            except (OSError, RuntimeError) as error:
                faults.append(str(error))
                server.stop()
            else:
                self._server, self._locked = server, locked
                return
        pytest.skip(f"the Milvus server does not start: {'; '.join(faults)}")

    def stop(self) -> None:
        """Stop it, by force after a second."""
        server: Any = self._server
        self._server = None
        if server is None:
            return
        try:
            server.stop()
        except subprocess.TimeoutExpired:  # the package waits for three seconds, too little on a busy machine
            server.server_proc.wait(_PATIENCE)
            server.stop()

    def remove(self) -> None:
        """Stop it and remove its folder, of half a gigabyte."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for bound in sockets:
        bound.bind(("127.0.0.1", 0))
    ports = [bound.getsockname()[1] for bound in sockets]
    for bound in sockets:
        bound.close()
    return ports


def _wait(server: "milvus.MilvusServer") -> None:  # type: ignore[name-defined]
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if (code := server.server_proc.poll()) is not None:
            raise RuntimeError(f"it ended with exit code {code}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.webservice_port}/healthz", timeout=10) as answer:
                if b"OK" in answer.read():
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"it was not ready in {_PATIENCE:.0f} s")
