"""The process that listens: its address, its connections, and its end."""

import errno
import logging
import os
import socket

import uvicorn
from starlette.types import ASGIApp

from utils.errors import ReidError
from utils.signals import InterruptedRun

logger = logging.getLogger(__name__)

_HOST, _REMEDY = "--host must be an address of this machine", "leave it out, or give 0.0.0.0 for all of its addresses"
_CONNECTIONS, _SECONDS_TO_FINISH = 1000, 10


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where the service is, once it answers there."""
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            logger.info("open http://%s:%d", f"[{host}]" if ":" in host else host, port)


def bind(host: str, port: int) -> socket.socket:
    """A socket that has the address already, so that a wrong one is known before the network is loaded.

    Args:
        host: an address or a name of this machine.
        port: 0 = a free one.

    Raises:
        ReidError: if they cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # the second: a name that none can be
        raise ReidError(f"{_HOST}, got {host}: {error}; {_REMEDY}") from error
    try:
        if os.name == "posix":  # elsewhere it would let two services share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise ReidError(f"{_HOST}, got {host}, which is another's; {_REMEDY}") from error
        raise ReidError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another --port") from error
    return listener


def run(app: ASGIApp, listener: socket.socket) -> None:
    """Answer requests until Ctrl-C or SIGTERM, and finish those at work then.

    Args:
        app: that answers.
        listener: from :func:`bind`.
    """
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )
    try:
        _Server(config).run([listener])
    except InterruptedRun:  # uvicorn has finished its work, and passes the signal on
        logger.info("stopped")
