from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

TOKEN = "a-long-token-of-mine"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \xff",
    ],
)
@pytest.mark.parametrize("path", ["/gallery", "/images/0", "/metrics", "/search", "/nowhere", "/health/../gallery"])
def test_nothing_of_the_gallery_without_the_token(
    authorization: str | None, path: str, make_client: Callable[..., TestClient]
) -> None:
    client = make_client(token=TOKEN)
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    answer = client.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "token" in answer.json()["detail"]


def test_the_token_opens_and_the_page_needs_none(make_client: Callable[..., TestClient]) -> None:
    client = make_client(token=TOKEN)
    for scheme in ("Bearer", "bearer"):
        assert client.get("/gallery", headers={"Authorization": f"{scheme} {TOKEN}"}).status_code == 200
    for path in ("/", "/page.css", "/page.js", "/icon.svg", "/health", "/openapi.json"):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://testserver"}, 200),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[evil"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://the-proxy.example"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_pages_of_other_sites_cannot_send(
    headers: dict[str, str], status: int, make_client: Callable[..., TestClient]
) -> None:
    assert make_client().post("/search?row=0", headers=headers).status_code == status
    token = {"Authorization": f"Bearer {TOKEN}"}
    assert make_client(token=TOKEN).post("/search?row=0", headers={**headers, **token}).status_code == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(
            (name, 200)
            for name in ("testserver", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "10.0.0.7", "LOCALHOST")
        ),
        *(
            (name, 403)
            for name in ("evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "[::1", "", "a b")
        ),
    ],
)
def test_names_of_others_do_not_lead_here_without_a_token(
    host: str, status: int, make_client: Callable[..., TestClient]
) -> None:
    assert make_client().get("/gallery", headers={"Host": host}).status_code == status
    headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
    assert make_client(token=TOKEN).get("/gallery", headers=headers).status_code == 200


def test_answers_may_not_be_used_by_other_pages(client: TestClient) -> None:
    for path in ("/", "/images/0", "/nowhere"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers
