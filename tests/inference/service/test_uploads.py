"""Through a real port, because clients break off and dawdle there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest
import torch

from inference.extract import Extractor
from inference.service import uploads

HEAD = "POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
PART = '--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'


def embeds(port: int, photo: Path) -> bool:
    answer = httpx2.post(f"http://127.0.0.1:{port}/embed", files={"image": photo.read_bytes()}, timeout=60)
    return answer.status_code == 200


def send(port: int, *parts: str | bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    for part in parts:
        client.sendall(part if isinstance(part, bytes) else part.encode())
    return client


def test_clients_that_break_off_harm_nobody(
    listen: Callable[..., int], photos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    port = listen()
    content = photos[0].read_bytes()
    for parts in (
        (),
        ("POST /em",),
        (HEAD, "Content-Length: 5000\r\n\r\n"),
        (HEAD, "Content-Length: 5000\r\n\r\n", PART, content[:200]),
        (HEAD, "Transfer-Encoding: chunked\r\n\r\n", "40\r\n", PART[:20]),
        (b"\x16\x03\x01\x02\x00garbage\r\n\r\n",),
    ):
        send(port, *parts).close()
    whole = PART.encode() + content + b"\r\n--x--\r\n"
    send(port, HEAD, f"Content-Length: {len(whole)}\r\n\r\n", whole).close()  # it does not wait for its answer
    assert embeds(port, photos[0])
    assert not [record for record in caplog.records if record.exc_info]


def figures(port: int) -> dict[str, float]:
    lines = httpx2.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def wait_for(port: int, name: str, value: float) -> None:
    end = time.monotonic() + 60
    while figures(port).get(name) != value:
        assert time.monotonic() < end, figures(port)
        time.sleep(0.02)


def test_nothing_is_embedded_for_clients_that_have_gone(
    listen: Callable[..., int], photos: list[Path], extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, embed = threading.Semaphore(0), threading.Semaphore(0), extractor.embed

    def slow(pixels: torch.Tensor) -> np.ndarray:
        begun.release()
        go.acquire()
        return embed(pixels)

    monkeypatch.setattr(extractor, "embed", slow)
    port = listen()
    whole = PART.encode() + photos[0].read_bytes() + b"\r\n--x--\r\n"
    parts = (HEAD, f"Content-Length: {len(whole)}\r\n\r\n", whole)
    with send(port, *parts) as patient:
        begun.acquire()  # it is at work
        impatient = [send(port, *parts) for _ in range(5)]
        wait_for(port, "reid_embedded_waiting", 5)
        for client in impatient:
            client.close()
        wait_for(port, 'reid_requests_total{route="/embed",status="503"}', 5)
        go.release(100)
        assert patient.recv(100).startswith(b"HTTP/1.1 200")
    assert embeds(port, photos[0])
    assert figures(port)["reid_embedded_total"] == 2


@pytest.mark.parametrize("length", ["Content-Length: 400000", "Transfer-Encoding: chunked"])
def test_a_body_without_end_is_cut_off(length: str, listen: Callable[..., int], photos: list[Path]) -> None:
    port = listen()
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n" if "chunked" in length else bytes(2**16)
    first = PART if "chunked" not in length else f"{len(PART):x}\r\n{PART}\r\n"
    with send(port, HEAD, f"{length}\r\n\r\n", first, chunk, chunk, chunk, chunk) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 413")
    assert embeds(port, photos[0])


def test_a_body_that_does_not_arrive_is_given_up(
    listen: Callable[..., int], photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_SECONDS", 0.3)
    port = listen()
    with send(port, HEAD, "Content-Length: 5000\r\n\r\n", PART) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 408")
    monkeypatch.undo()
    assert embeds(port, photos[0])
