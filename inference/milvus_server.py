"""Where a Milvus gallery lies, and requests that insist while the server is away."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from utils.errors import ReidError

logger = logging.getLogger(__name__)

TOKEN = "MILVUS_TOKEN"  # of the environment

_AWAY = ("fail connecting", "unavailable", "timeout", "deadline", "connection refused")
_FIRST_PAUSE = 0.5  # seconds before the second attempt, doubled before each further one

T = TypeVar("T")


@dataclass(frozen=True)
class Server:
    """A Milvus server, or the local file that stands for one.

    Attributes:
        uri: a file that ends in ``.db`` (Milvus Lite), or a server such as ``http://localhost:19530``.
        token: ``user:password`` or a key, where the server asks for one; the environment's MILVUS_TOKEN.
        timeout: seconds that one request may take.
        attempts: tries, 1 or more, before a server that does not answer is an error.
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
        milvus = pymilvus()
        return self.ask(lambda: milvus.MilvusClient(uri=self.uri, token=self.token, timeout=self.timeout))

    def ask(self, request: Callable[[], T]) -> T:
        """The answer to a request that may be repeated, which it is while the server is away.

        Raises:
            ReidError: if the server stays away, or refuses.
        """
        pause = _FIRST_PAUSE
        for attempt in range(1, self.attempts + 1):
            try:
                return request()
            except pymilvus().MilvusException as error:  # noqa: PERF203 (a request is far slower)
                reason = " ".join(str(error.message).split())
                if not any(word in reason.lower() for word in _AWAY):
                    raise ReidError(f"Milvus at {self.uri} refuses: {reason}") from error
                if attempt == self.attempts:
                    raise ReidError(
                        f"Milvus must answer at {self.uri}, but does not after {attempt} attempts ({reason}); "
                        "start the server, check the address, or give a local file such as gallery.db"
                    ) from error
                logger.warning("Milvus at %s does not answer; once more in %.1f s", self.uri, pause)
                time.sleep(pause)
                pause *= 2
        raise AssertionError("attempts is 1 or more")


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
    logging.getLogger("grpc").setLevel(logging.CRITICAL)  # a traceback for what Milvus Lite does not have
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs a traceback for each error that we report
    logging.getLogger("milvus_lite").setLevel(logging.WARNING)
    return library
