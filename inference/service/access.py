"""Who may ask the service, and what a browser may do with its answers."""

import hmac
import ipaddress
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.service.metrics import Counts

_WITHOUT_TOKEN = (
    "/",
    "/page.css",
    "/page.js",
    "/icon.svg",
    "/health",
    "/openapi.json",
)  # they show nothing of the gallery
_CONTENT = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'"
_HEADERS = {
    "Content-Security-Policy": f"{_CONTENT}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        token: that a request must bring; empty = none.
        host: at which the service listens.
    """

    token: str = ""
    host: str = "127.0.0.1"

    def refusal(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        """Status and reason where a request is refused.

        Without a token only the address protects the service. A page of another site, open in the user's browser,
        can send to that address too; a browser tells where a request comes from. And a name of another site can be
        made to lead to this address, so only names are taken that nobody else decides on.
        """
        if method not in ("GET", "HEAD") and _from_another_site(headers):
            return 403, "a page of another site must not send to this service"
        if self.token:
            kind, _, token = headers.get("authorization", "").partition(" ")
            same = hmac.compare_digest(token.strip().encode(), self.token.encode())
            if path not in _WITHOUT_TOKEN and not (same and kind.lower() == "bearer"):
                return 401, "this service needs its token: Authorization: Bearer TOKEN"
        elif not self._is_own(headers.get("host", "")):
            return 403, "without --token this service answers to its own address and name only; start it with one"
        return None

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in ("localhost", self.host.lower(), socket.gethostname().lower()) or _is_address(name)
        except ValueError:  # brackets that do not close
            return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _from_another_site(headers: Headers) -> bool:
    """Whether a browser sends this for a page of another site; other clients send neither header."""
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    try:
        return origin is not None and urlsplit(origin).netloc != headers.get("host")
    except ValueError:  # brackets that do not close
        return True


class Door:
    """Refuses requests, counts all answers, and sets their headers.

    Args:
        app: that gets the requests that are not refused.
        access: who may ask.
        counts: of the answers.
    """

    def __init__(self, app: ASGIApp, access: Access, counts: Counts) -> None:
        self._app, self._access, self._counts = app, access, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
                self._counts.add(scope["path"], message["status"], time.perf_counter() - begin)
            await send(message)

        app = self._app
        if refusal := self._access.refusal(scope["method"], scope["path"], Headers(scope=scope)):
            status, reason = refusal
            app = JSONResponse({"detail": reason}, status, {"WWW-Authenticate": "Bearer"} if status == 401 else None)
        await app(scope, receive, send_on)
