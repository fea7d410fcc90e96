"""Pictures of ranked lists: the query, then its gallery items in green frames (matches) or red ones."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from evaluation.ranking import RankingResult
from evaluation.report.ranked_lists import RankedList, Selection
from evaluation.retrieval.inputs import LabeledImage
from utils.errors import ReidError
from utils.pictures import read_tile, write_png

_QUERY, _MATCH, _OTHER = (0, 90, 200), (0, 140, 60), (214, 45, 32)  # RGB
_INK, _PALE_INK, _PAPER, _GRAY = (20, 20, 20), (95, 95, 95), 255, 170
_BORDER, _MARGIN, _GAP, _QUERY_GAP = 3, 8, 8, 20
_LINE, _TEXT_SIZE, _NAME_SIZE, _TITLE_SIZE = 16, 0.42, 0.34, 0.5  # a line of text in pixels; sizes in OpenCV's unit
_NAME_LINES = 4  # of a file name
_WIDEST_TITLE = 480  # pixels for which a short list is widened
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MARK = 9  # side of the tick or the cross, in pixels
_SMALLEST_HEIGHT = 32
_LONGEST_STEM = 120  # bytes; a file name has 255

Color = tuple[int, int, int]


def draw_ranked_list(
    ranked: RankedList,
    query_labels: Sequence[LabeledImage],
    gallery_labels: Sequence[LabeledImage],
    *,
    average_precision: float | None,
    first_match_rank: int = 0,
    height: int = 128,
) -> np.ndarray:
    """Draw one ranked list.

    The query comes first, in a blue frame, above its identity and camera. Each gallery item has a green frame
    and a tick if it is a match, else a red frame and a cross (some people cannot distinguish the two colors), above
    its rank, cosine distance, identity, camera and file name. An identity or a camera that is not known is left out;
    if that is the query's identity, frames are gray and nothing is marked. The title tells the query's file name, its
    AP and the rank of its first match. Images of any size are fitted to tiles of equal size; a gray tile that says so
    replaces an image that cannot be read.

    Args:
        ranked: the list.
        query_labels: the images that ``ranked.query_row`` points into.
        gallery_labels: the images that ``ranked.gallery_rows`` points into.
        average_precision: of the query, in [0, 1]; NaN if it has no match, None if it has no identity.
        first_match_rank: of the query in the whole gallery, from 1; 0 = not known.
        height: of the images, in pixels; their tiles are half as wide.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ReidError: if ``height`` is too small to see anything.
    """
    if height < _SMALLEST_HEIGHT:
        raise ReidError(f"height must be at least {_SMALLEST_HEIGHT} pixels, got {height}; 128 is usual")
    query = query_labels[ranked.query_row]
    has_identity = average_precision is not None
    captions, names = [_caption("query", query)], [list[str]()]
    pictures = [_frame_image(query.path, height, _QUERY)]
    for rank, (row, distance, match) in enumerate(
        zip(ranked.gallery_rows, ranked.distances, ranked.matches, strict=True), start=1
    ):
        item = gallery_labels[row]
        captions.append(_caption(str(rank), item, f"{distance:.3f}"))
        names.append(_wrapped_name(item.path.name, height))
        pictures.append(_frame_image(item.path, height, (_MATCH if match else _OTHER) if has_identity else _PALE_INK))
    title, figures = _drawable(query.path.name), _figures(average_precision, first_match_rank)
    least = min(_text_width(f"{title}     {figures}", _TITLE_SIZE), _WIDEST_TITLE)
    canvas, lefts, top = _sheet(pictures, captions, max(map(len, names)), least)
    for number, (picture, x, lines) in enumerate(zip(pictures, lefts, captions, strict=True)):
        canvas[top : top + picture.shape[0], x : x + picture.shape[1]] = picture
        below = top + picture.shape[0]
        for line, text in enumerate(lines, start=1):
            _write(canvas, text, (x, below + line * _LINE), _TEXT_SIZE, _INK if line == 1 else _PALE_INK)
        for line, text in enumerate(names[number], start=1 + max(map(len, captions))):
            _write(canvas, text, (x, below + line * _LINE), _NAME_SIZE, _PALE_INK)
        if number and has_identity:
            place = (x + picture.shape[1] - _MARK - 1, below + _LINE - _MARK)
            _draw_mark(canvas, place, bool(ranked.matches[number - 1]))
    _write_title(canvas, title, figures)
    return canvas


def write_pictures(
    folder: Path,
    selection: Selection,
    lists: Sequence[RankedList],
    query_labels: Sequence[LabeledImage],
    gallery_labels: Sequence[LabeledImage],
    result: RankingResult,
    *,
    height: int = 128,
) -> list[Path]:
    """Write one PNG per chosen query, such as ``worst_0001_<stem of the query>.png``.

    Args:
        folder: absent or empty, so pictures of two evaluations never mix.
        selection: the chosen queries.
        lists: their ranked lists, in the order of ``selection.rows``.
        query_labels: Q images.
        gallery_labels: G images.
        result: of all queries.
        height: of the images, in pixels.

    Returns:
        The files, in the order of ``selection.rows``.

    Raises:
        ReidError: if ``folder`` is a file or holds anything, if ``lists`` are not those of ``selection``, or
            if ``height`` is too small.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ReidError(f"folder must be absent or empty, got {folder}; remove it or give another one")
    if (got := tuple(ranked.query_row for ranked in lists)) != selection.rows:
        raise ReidError(
            f"lists must be those of the selected queries {selection.rows}, got {got}; make them with "
            f"ranked_lists(..., rows=selection.rows)"
        )
    paths = []
    for (group, place, row), ranked in zip(selection, lists, strict=True):
        picture = draw_ranked_list(
            ranked,
            query_labels,
            gallery_labels,
            average_precision=float(result.average_precision[row]),
            first_match_rank=int(result.first_match_rank[row]),
            height=height,
        )
        stem = query_labels[row].path.stem.encode("utf-8", "replace")[:_LONGEST_STEM].decode("utf-8", "ignore")
        path = folder / f"{group}_{place:04d}_{stem}.png"
        write_png(path, picture)
        paths.append(path)
    return paths


def _sheet(
    pictures: Sequence[np.ndarray], captions: Sequence[Sequence[str]], name_lines: int, least: int
) -> tuple[np.ndarray, list[int], int]:
    """The empty sheet, ``least`` pixels wide within its margins, with the left edge of each picture and their top."""
    tall, wide = pictures[0].shape[:2]
    widest = max(_text_width(text, _TEXT_SIZE) for lines in captions for text in lines)
    step = max(wide, widest) + _GAP
    lefts = [_MARGIN + number * step + (_QUERY_GAP if number else 0) for number in range(len(pictures))]
    top = _MARGIN + _LINE + 6
    width = max(lefts[-1] + step - _GAP, _MARGIN + least)
    bottom = top + tall + (max(map(len, captions)) + name_lines) * _LINE + _MARGIN
    return np.full((bottom, width + _MARGIN, 3), _PAPER, np.uint8), lefts, top


def _frame_image(path: Path, height: int, color: Color) -> np.ndarray:
    """The image fitted to (height, height / 2) on a pale mat, in a frame."""
    try:
        tile = read_tile(path, height, height // 2)
    except ReidError:
        tile = np.full((height, height // 2, 3), _GRAY, np.uint8)
        size = _TEXT_SIZE * min(1.0, (tile.shape[1] - 2) / _text_width("unreadable", _TEXT_SIZE))
        _write(tile, "unreadable", (1, height // 2 + 4), size, _INK)
    canvas: np.ndarray = cv2.copyMakeBorder(
        tile, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_CONSTANT, value=color
    )
    return canvas


def _caption(first: str, image: LabeledImage, distance: str = "") -> list[str]:
    """Lines below an image: ``first``, its identity, its camera and distance; a negative label is not known."""
    identity = f"id {image.person_id}" if image.person_id >= 0 else ""
    camera = f"c{image.camera_id}" if image.camera_id >= 0 else ""
    return [first, *filter(None, (identity, f"{camera}  {distance}".strip()))]


def _drawable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _wrapped_name(name: str, height: int) -> list[str]:
    """A file name in lines as wide as a tile; the middle of a long one is left out."""
    length = max(4, int((height // 2 + 2 * _BORDER + _GAP // 2) / _text_width("n", _NAME_SIZE)))
    most, name = length * _NAME_LINES, _drawable(name)
    if len(name) > most:
        name = f"{name[: most // 2 - 3]}...{name[len(name) - (most - most // 2) :]}"
    return [name[start : start + length] for start in range(0, len(name), length)]


def _figures(average_precision: float | None, first_match_rank: int) -> str:
    """The figures of a query in the title of its list."""
    if average_precision is None:
        return ""
    if np.isnan(average_precision):
        return "no match in the gallery"
    first = f", first match at rank {first_match_rank}" if first_match_rank else ""
    return f"AP {100 * average_precision:.1f} %{first}"


def _write_title(canvas: np.ndarray, name: str, ending: str) -> None:
    """The query's file name, shortened in its middle if it is too long, and its figures."""
    room, title, length = canvas.shape[1] - 2 * _MARGIN, name, len(name)
    while length > 4 and _text_width(f"{title}     {ending}", _TITLE_SIZE) > room:
        length -= 1
        title = f"{name[: length // 2]}...{name[len(name) - (length - length // 2) :]}"
    _write(canvas, f"{title}     {ending}", (_MARGIN, _MARGIN + 12), _TITLE_SIZE, _INK)


def _draw_mark(canvas: np.ndarray, place: tuple[int, int], match: bool) -> None:
    """A tick or a cross with its upper left corner at ``place`` (x, y)."""
    x, y = place
    strokes = [((0, 5), (3, 8)), ((3, 8), (8, 1))] if match else [((1, 1), (8, 8)), ((1, 8), (8, 1))]
    for (x0, y0), (x1, y1) in strokes:
        ends = (x + x0, y + y0), (x + x1, y + y1)
        cv2.line(canvas, *ends, _MATCH if match else _OTHER, 2, cv2.LINE_AA)


def _write(canvas: np.ndarray, text: str, baseline: tuple[int, int], size: float, color: Color) -> None:
    cv2.putText(canvas, text, baseline, _FONT, size, color, 1, cv2.LINE_AA)


def _text_width(text: str, size: float) -> int:
    width: int = cv2.getTextSize(text, _FONT, size, 1)[0][0]
    return width
