"""Where a Milvus gallery lies, and requests that are repeated while the server is away."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from utils.errors import ReidError, one_line

logger = logging.getLogger(__name__)

TOKEN = "MILVUS_TOKEN"  # of the environment

NOT_LOADED = "not loaded"  # says a server of a collection that it has on disk only
_AWAY = ("fail connecting", "unavailable", "timeout", "deadline", "connection refused", "not ready", NOT_LOADED)
_REMEDIES = {
    "UNAUTHENTICATED": f"; set the environment's {TOKEN} to user:password or a key",
    "Open local milvus failed": "; if another process has the file open, stop it, or use a server (--index_uri)",
}
_FIRST_PAUSE = 0.5  # seconds before the second attempt, doubled before each further one

_open_files: Counter[str] = Counter()  # local files -> indices of this process that use them

T = TypeVar("T")


class ServerAwayError(ReidError):
    """A server that does not answer, and may do so later."""


@dataclass(frozen=True)
class Server:
    """A Milvus server, or the local file that stands for one.

    Attributes:
        uri: a file that ends in ``.db`` (Milvus Lite), or a server such as ``http://localhost:19530``.
        token: ``user:password`` or a key, where the server asks for one; the environment's MILVUS_TOKEN.
        timeout: seconds that one request may take.
        attempts: tries, one at least, before a server that does not answer is an error. pymilvus repeats requests
            too, but not where nobody listens, as while a server restarts.
    """

    uri: str
    token: str = field(default_factory=lambda: os.environ.get(TOKEN, ""), repr=False)
    timeout: float = 30.0
    attempts: int = 3

    def connect(self) -> Any:  # noqa: ANN401 (pymilvus is optional, so its types are not known)
        """A client of this server.

        Raises:
            ReidError: if pymilvus is not installed, or as :meth:`ask`.
        """
        client = self.ask(lambda: pymilvus().MilvusClient(uri=self.uri, token=self.token, timeout=self.timeout))
        _open_files[os.path.abspath(self.uri)] += 1  # noqa: PTH100 (as Milvus Lite does)
        return client

    def disconnect(self, client: Any) -> None:  # noqa: ANN401
        """Close a client, and the local file with the last one that uses it."""
        client.close()
        path = os.path.abspath(self.uri)  # noqa: PTH100
        _open_files[path] -= 1
        if self.uri.endswith(".db") and not _open_files[path]:
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(path)

    def ask(self, request: Callable[[], T]) -> T:
        """The answer to a request, which is repeated while the server is away.

        Raises:
            ServerAwayError: if the server stays away.
            ReidError: if it refuses.
        """
        milvus, reason = pymilvus(), ""
        import grpc  # which pymilvus brings

        attempts = max(1, self.attempts)
        for attempt in range(attempts):
            if attempt:
                pause = _FIRST_PAUSE * 2 ** (attempt - 1)
                logger.warning("Milvus at %s does not answer; once more in %.1f s", self.uri, pause)
                time.sleep(pause)
            try:
                return request()
            except (milvus.MilvusException, grpc.RpcError) as error:
                reason = _reason(error)
                if not any(word in reason.lower() for word in _AWAY):
                    remedy = next((text for words, text in _REMEDIES.items() if words in reason), "")
                    raise ReidError(f"Milvus at {self.uri} refuses: {reason}{remedy}") from error
        times = f"{attempts} attempts" if attempts > 1 else "one attempt"
        raise ServerAwayError(
            f"Milvus must answer at {self.uri}, but does not after {times} ({reason}); "
            "start the server, check the address, or give a local file such as gallery.db"
        )


def pymilvus() -> Any:  # noqa: ANN401 (optional)
    """The library.

    Raises:
        ReidError: if it is not installed.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C++ part reports keep-alive details as errors
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # decoders are forked beside it and never use it
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # which Milvus Lite loads
    try:
        import pymilvus as library
    except ImportError as error:
        raise ReidError(
            "kind milvus needs pymilvus, which is not installed; pip install pymilvus milvus-lite, or use flat"
        ) from error
    for name in ("grpc", "pymilvus", "milvus_lite"):  # they log a traceback for each error that we report
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return library


def _reason(error: Exception) -> str:
    """What an error of pymilvus or of gRPC says, on one line.

    Where pymilvus cannot connect, the cause alone tells a server that is away from one that wants a token.
    """
    if hasattr(error.__cause__, "details"):
        error = cast(Exception, error.__cause__)
    if hasattr(error, "code") and hasattr(error, "details"):  # gRPC's
        return f"{error.code().name}: {' '.join(str(error.details()).split())}"
    return " ".join(str(getattr(error, "message", "")).split()) or one_line(error)
