"""Requests of a client of tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi.testclient import TestClient


def upload(content: Path | bytes) -> dict[str, tuple[str, bytes, str]]:
    data = content if isinstance(content, bytes) else content.read_bytes()
    return {"image": ("photo.jpg", data, "image/jpeg")}


def rows_of(client: TestClient, query: str, photo: Path | None = None) -> list[int]:
    answer = client.post(f"/search?{query}", files=upload(photo) if photo else None)
    assert answer.status_code == 200, answer.text
    return [match["row"] for match in answer.json()["matches"]]
