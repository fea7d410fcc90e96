"""Images that clients send: how large they may be, and how they are decoded."""

import io
from dataclasses import dataclass
from typing import NamedTuple

import anyio
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from torch import Tensor

from utils.errors import ReidError, one_line
from utils.images import open_image, pixels_of

_SECONDS = 60  # that a request may take to arrive
_ENDINGS = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "GIF": ".gif", "PPM": ".ppm", "TIFF": ".tif",
            "WEBP": ".webp", "AVIF": ".avif"}  # fmt: skip
_LONGEST = 300  # characters of a reason


@dataclass(frozen=True)
class Limits:
    """What a request may hold.

    Attributes:
        size: bytes of its body.
        pixels: of each image.
    """

    size: int
    pixels: int


class Upload(NamedTuple):
    """An image that was decoded.

    Attributes:
        content: as it was sent.
        ending: of a file with this content.
        pixels: (3, H, W) uint8 RGB.
    """

    content: bytes
    ending: str
    pixels: Tensor


def decode(content: bytes, limits: Limits) -> Upload:
    """Decode what a client has sent; its name does not count.

    Raises:
        ReidError: if it is no image, damaged, or too large.
    """
    try:
        with open_image(io.BytesIO(content)) as image:
            if image.width * image.height > limits.pixels:
                raise ReidError(
                    f"it must have at most {limits.pixels} pixels, got {image.width} x {image.height}; scale it down"
                )
            return Upload(content, _ENDINGS.get(image.format or "", ".jpg"), pixels_of(image))
    except Exception as error:  # a damaged image makes Pillow raise anything
        raise ReidError(f"the image cannot be read: {one_line(error)[:_LONGEST]}") from error


class BodyLimit:
    """Refuses bodies that are too large, or that take too long to arrive, while they arrive.

    Args:
        app: that gets the other ones.
        size: bytes.
    """

    def __init__(self, app: ASGIApp, size: int) -> None:
        self._app, self._size = app, size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request."""
        total, deadline = 0, anyio.current_time() + _SECONDS

        async def receive_some() -> Message:
            nonlocal total
            if total < 0:  # the body is here; what follows is the end of the connection, which may be far
                return await receive()
            with anyio.move_on_after(deadline - anyio.current_time()):
                message = await receive()
                total += len(message.get("body", b""))
                if total > self._size:
                    raise HTTPException(413, f"a request must have at most {self._size} bytes; send a smaller image")
                if not message.get("more_body"):
                    total = -1
                return message
            raise HTTPException(408, f"a request must arrive within {_SECONDS} seconds")

        await self._app(scope, receive_some if scope["type"] == "http" else receive, send)
