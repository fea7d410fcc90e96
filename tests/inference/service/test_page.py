"""The page in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from inference.extract import Extractor
from inference.gallery.store import Gallery
from tests.inference.service.browser import Browser, open_browser

pytestmark = pytest.mark.slow

Rank = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
CARDS = "[...document.querySelectorAll('#near button, #far button')]"
DONE = f"!document.querySelector('[aria-busy]') && {CARDS}.length"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser) -> Browser:
    """The browser with a new page, the size of a desktop's."""
    chromium.open("about:blank")
    chromium.requests.clear()
    chromium.errors.clear()
    chromium.show_as(1200, 800)
    return chromium


def rows(page: Browser) -> list[int]:
    """What the page shows, in order."""
    page.wait(DONE)
    result: list[int] = page.run(
        f"{CARDS}.map(card => Number(card.querySelector('img').src.match(/images\\/(\\d+)/)[1]))"
    )
    return result


def ready(page: Browser, port: int, path: str = "/") -> None:
    page.open(f"http://127.0.0.1:{port}{path}")
    page.wait("document.querySelectorAll('#examples button').length")


def test_a_photo_that_is_chosen(
    page: Browser, listen: Callable[..., int], photos: list[Path], extractor: Extractor, rank: Rank
) -> None:
    port = listen()
    ready(page, port)
    page.choose_file("#file", photos[0])
    order, distances = rank(extractor([photos[0]]).vectors[0])
    assert rows(page) == order[:20].tolist()
    texts = page.run(f"{CARDS}.map(card => card.querySelector('.distance').textContent)")
    np.testing.assert_allclose([float(text) for text in texts], distances[:20], atol=6e-4)
    name = page.run(f"{CARDS}[0].getAttribute('aria-label')")
    assert name.startswith("Match 1: ")
    assert "camera " in name
    assert "distance 0." in name
    assert page.run("document.getElementById('status').textContent") == "20 matches"
    assert page.run("document.getElementById('query-text').textContent") == photos[0].name
    page.wait(f"{CARDS}.slice(0, 4).every(card => card.querySelector('img').naturalWidth === 32)")
    assert page.errors == []
    assert {
        address for address in page.requests if not address.startswith(("blob:", f"http://127.0.0.1:{port}/"))
    } == set()


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_photo_that_is_dropped_or_pasted(
    way: str, page: Browser, listen: Callable[..., int], photos: list[Path], extractor: Extractor, rank: Rank
) -> None:
    ready(page, listen())
    events = {
        "drop": "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})",
        "paste": "new ClipboardEvent('paste', {clipboardData: data, bubbles: true})",
    }
    content = list(photos[1].read_bytes())
    page.run(
        f"""(() => {{ const data = new DataTransfer();
        data.items.add(new File([new Uint8Array({content})], 'x.jpg', {{type: 'image/jpeg'}}));
        document.body.dispatchEvent({events[way]}); }})()"""
    )
    assert rows(page) == rank(extractor([photos[1]]).vectors[0])[0][:20].tolist()


def test_a_match_becomes_the_query_and_back_returns(
    page: Browser,
    listen: Callable[..., int],
    photos: list[Path],
    rank: Rank,
    extractor: Extractor,
) -> None:
    ready(page, listen())
    page.choose_file("#file", photos[0])
    first = rows(page)
    page.click("#near li:nth-child(3) button")
    page.wait("document.getElementById('query-text').textContent.startsWith('Person')")
    vector = extractor([photos[0]]).vectors[0]
    assert first == rank(vector)[0][:20].tolist()
    second = rows(page)
    assert first[2] not in second
    assert second != first
    page.run("history.back()")
    page.wait(f"document.getElementById('query-text').textContent === '{photos[0].name}'")
    assert rows(page) == first


def test_an_image_of_the_gallery_is_found_by_keys_alone(page: Browser, listen: Callable[..., int]) -> None:
    ready(page, listen())
    page.run("document.querySelector('#examples button').focus()")
    page.press("ArrowRight")
    row = page.run("document.activeElement.querySelector('img').src.match(/images\\/(\\d+)/)[1]")
    page.press("Enter")
    assert int(row) not in rows(page)
    page.wait("document.activeElement.closest('#near')")
    page.press("ArrowRight", "ArrowRight")
    assert page.run(f"{CARDS}.indexOf(document.activeElement)") == 2


def test_cameras_and_distance_choose_what_is_shown(
    page: Browser,
    listen: Callable[..., int],
    photos: list[Path],
    extractor: Extractor,
    rank: Rank,
    gallery: Gallery,
) -> None:
    order, distances = rank(extractor([photos[3]]).vectors[0])
    cameras = gallery.camera_ids[order]
    threshold = float(distances[4:6].mean())
    ready(page, listen(max_distance=threshold))
    page.choose_file("#file", photos[3])
    assert rows(page) == order[:20].tolist()
    assert page.run("document.querySelectorAll('#near button').length") == 5
    assert page.run("document.getElementById('status').textContent") == "20 matches, 5 within the threshold"
    page.click("#threshold")
    assert rows(page) == order[:5].tolist()
    assert (
        page.run("document.getElementById('status').textContent")
        == "5 matches, 5 within the threshold; 15 farther away"
    )
    page.click("#camera-list label:nth-child(2) input")
    page.wait("document.getElementById('cameras-text').textContent === '2'")
    near = order[(cameras == 2) & (distances <= threshold)].tolist()
    page.wait(f"!document.querySelector('[aria-busy]') && {CARDS}.length === {len(near)}")
    assert not near or rows(page) == near
    page.run(
        "(() => { const s = document.getElementById('distance'); s.value = s.max; s.dispatchEvent(new Event('input')); })()"
    )
    assert rows(page) == order[cameras == 2][:20].tolist()


def test_the_camera_of_the_query_may_be_left_out(
    page: Browser, listen: Callable[..., int], photos: list[Path], rank: Rank, gallery: Gallery
) -> None:
    ready(page, listen())
    page.choose_file("#file", photos[0])
    first = rows(page)
    assert page.run("document.getElementById('others').hidden") is True  # of a photo no camera is known
    page.click("#near li:nth-child(2) button")
    page.wait("document.getElementById('query-text').textContent.startsWith('Person')")
    query = first[1]
    nearest = [row for row in rank(gallery.embeddings.vectors[query])[0].tolist() if row != query]
    assert rows(page) == nearest[:20]
    others = [row for row in nearest if gallery.camera_ids[row] != gallery.camera_ids[query]][:20]
    assert others != nearest[:20]
    page.click("#other-cameras")
    texts = f"{CARDS}.map(card => card.querySelector('.where').textContent)"
    page.wait(f"!document.querySelector('[aria-busy]') && new Set({texts}).size === 1")
    assert rows(page) == others
    page.click("#other-cameras")
    page.wait(f"!document.querySelector('[aria-busy]') && new Set({texts}).size > 1")
    assert rows(page) == nearest[:20]


def test_a_damaged_photo_is_one_clear_line_and_the_next_one_works(
    page: Browser, listen: Callable[..., int], photos: list[Path], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(photos[0].read_bytes()[:300])
    large = tmp_path / "large.jpg"
    large.write_bytes(photos[0].read_bytes() + bytes(300_000))
    ready(page, listen())
    for path, words in ((damaged, "The image cannot be read: "), (large, "large.jpg is too large: at most 0.2 MB")):
        page.choose_file("#file", path)
        page.wait(f"document.getElementById('error').textContent.startsWith({words!r})")
        assert page.run("document.getElementById('error').hidden") is False
        assert "\n" not in page.run("document.getElementById('error').innerText")
    page.choose_file("#file", photos[0])
    assert len(rows(page)) == 20
    assert page.run("document.getElementById('error').hidden") is True


def test_the_token_is_asked_for(page: Browser, listen: Callable[..., int], photos: list[Path]) -> None:
    port = listen(token="the-right-token")
    page.open(f"http://127.0.0.1:{port}/")
    for token in ("the-wrong-token", "the-right-token"):
        page.wait("document.getElementById('sign-in').open")
        page.run("document.getElementById('token').focus()")
        page.call("Input.insertText", text=token)
        page.press("Enter")
    page.wait("document.querySelectorAll('#examples button').length")
    page.choose_file("#file", photos[0])
    page.wait(DONE)
    page.wait(f"{CARDS}[0].querySelector('img').naturalWidth === 32")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_it_fits_every_screen_and_can_be_read(
    width: int, scheme: str, page: Browser, listen: Callable[..., int], photos: list[Path]
) -> None:
    page.show_as(width, 800, scheme)
    ready(page, listen(max_distance=0.1))
    page.choose_file("#file", photos[0])
    page.wait(DONE)
    assert page.run("document.documentElement.scrollWidth") <= width
    contrast = """(selector) => { const light = (color) => { const [r, g, b] = color.match(/[\\d.]+/g).map(Number)
        .map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b; };
        const one = document.querySelector(selector); let ground = one;
        while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
        const [a, b] = [light(getComputedStyle(one).color), light(getComputedStyle(ground).backgroundColor)];
        return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); }"""
    for selector in ("#status", "#about", ".who", ".where", ".distance", "#choose-text", "#far-title", "#threshold"):
        assert page.run(f"({contrast})('{selector}')") >= 4.5, selector
    nameless = page.run(
        "[...document.querySelectorAll('button, input, select')].filter(e => !(e.ariaLabel || e.labels?.length || "
        "e.innerText?.trim() || e.hidden)).map(e => e.outerHTML)"
    )
    assert nameless == []
