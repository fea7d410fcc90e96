import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.preprocessing import Preprocessing
from datasets.readers.market import UNKNOWN_ID
from inference.gallery.fingerprint import Fingerprint
from inference.gallery.store import (
    Embeddings,
    Gallery,
    ModelCard,
    check_same_model,
    meta_text,
    open_gallery,
)
from utils.errors import ReidError

CARD = ModelCard("a.pth", "ab" * 32, 3, Preprocessing((256, 128), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)))
PATHS = np.array(["/x/0002_c3s1_1.jpg", "/x/0000_c1s1_2.jpg", "/0005_c1/holiday.jpg"])


def write(folder: Path, *, centroids: bool = False, card: ModelCard = CARD, rows: int = 3) -> Path:
    folder.mkdir(exist_ok=True)
    np.save(folder / "embeddings.npy", np.arange(9, dtype=np.float32).reshape(3, 3))
    np.save(folder / "paths.npy", PATHS)
    (folder / "meta.json").write_text(
        meta_text(card, Fingerprint(rows, 3, "cd"), centroids=centroids, origin={"source": "x"})
    )
    return folder


def images(**changes: object) -> ModelCard:
    return replace(CARD, preprocessing=replace(CARD.preprocessing, **changes))  # type: ignore[arg-type]


def test_a_gallery_reads_back(tmp_path: Path) -> None:
    gallery = open_gallery(write(tmp_path))
    assert gallery.model == CARD
    assert not gallery.centroids
    assert isinstance(gallery.embeddings.vectors, np.memmap)
    assert not gallery.embeddings.vectors.flags.writeable
    assert gallery.embeddings.vectors.tolist() == np.arange(9.0).reshape(3, 3).tolist()
    assert gallery.embeddings.paths.tolist() == PATHS.tolist()
    assert gallery.person_ids.tolist() == [2, 0, UNKNOWN_ID]
    assert gallery.camera_ids.tolist() == [3, 1, UNKNOWN_ID]


def test_centroids_have_no_camera(tmp_path: Path) -> None:
    gallery = open_gallery(write(tmp_path, centroids=True))
    assert gallery.centroids
    assert gallery.person_ids.tolist() == [2, 0, UNKNOWN_ID]
    assert gallery.camera_ids.tolist() == [UNKNOWN_ID] * 3


@pytest.mark.parametrize("name", ["embeddings.npy", "paths.npy", "meta.json"])
def test_an_incomplete_gallery_is_refused(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink()
    with pytest.raises(ReidError, match=rf"finished gallery, but lacks {re.escape(name)}; make it with"):
        open_gallery(tmp_path)


def test_files_that_disagree_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"disagree: meta.json says 4 x 3, embeddings.npy has \(3, 3\)"):
        open_gallery(write(tmp_path, rows=4))
    with pytest.raises(ReidError, match="says 3 x 5"):
        open_gallery(write(tmp_path, card=replace(CARD, dim=5)))
    np.save(write(tmp_path) / "paths.npy", PATHS[:2])
    with pytest.raises(ReidError, match=r"damaged gallery .*must have one row per image, got 3, 2\); make it again"):
        open_gallery(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000, "\xff", '{"rows": 3}'])
def test_a_damaged_meta_is_named(tmp_path: Path, text: str) -> None:
    (write(tmp_path) / "meta.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ReidError, match=r"holds a damaged gallery \(.+\); make it again"):
        open_gallery(tmp_path)


@pytest.mark.parametrize(
    "value", [None, True, -1, 2**70, 1.5, float("nan"), float("inf"), "", "x", [], [1], [[]], {}, {"a": 1}], ids=repr
)
def test_any_entry_of_meta_may_be_damaged(value: object, tmp_path: Path) -> None:
    """Never a traceback: the gallery opens, or is damaged, or its files disagree, or it is of another model."""
    text = (write(tmp_path) / "meta.json").read_text()
    names = [(name,) for name in json.loads(text)]
    names += [(section, name) for section in ("model", "fingerprint") for name in json.loads(text)[section]]
    refusals = 0
    for *sections, name in names:
        meta = json.loads(text)
        table = meta[sections[0]] if sections else meta
        table[name] = value
        (tmp_path / "meta.json").write_text(json.dumps(meta))
        try:
            check_same_model(open_gallery(tmp_path).model, CARD)
        except ReidError:
            refusals += 1
    assert refusals >= 8


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.tuples(st.integers(0, 30), _JSON), min_size=1, max_size=3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_card_ends_in_anything_but_an_error_of_ours(changes: list[tuple[int, object]], whole: bool) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder)) / "meta.json"
        meta: Any = json.loads(path.read_text())
        for place, value in changes:
            if whole:
                meta = value
            else:
                tables = [meta, *(entry for entry in meta.values() if isinstance(entry, dict) and entry)]
                names = [(table, name) for table in tables for name in table]
                table, name = names[place % len(names)]
                table[name] = value
        path.write_text(json.dumps(meta))
        with suppress(ReidError):
            check_same_model(open_gallery(folder).model, CARD)


@pytest.mark.parametrize("name", ["embeddings.npy", "paths.npy"])
@pytest.mark.parametrize("array", [np.array(7), np.zeros(3), np.zeros((3, 3), np.int64), np.zeros((3, 3, 1), "f4")])
def test_arrays_of_another_kind_are_refused(tmp_path: Path, name: str, array: np.ndarray) -> None:
    np.save(write(tmp_path) / name, array)
    with pytest.raises(ReidError, match="holds a damaged gallery"):
        open_gallery(tmp_path)
    np.savez(tmp_path / "other.npz", array)
    (tmp_path / "other.npz").replace(tmp_path / name)
    with pytest.raises(ReidError, match="holds a damaged gallery"):
        open_gallery(tmp_path)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ReidError, match="holds a damaged gallery"):
        open_gallery(tmp_path)


def test_pickles_and_cut_files_are_refused(tmp_path: Path) -> None:
    np.save(write(tmp_path) / "paths.npy", np.array(["a", "b", "c"], dtype=object), allow_pickle=True)
    with pytest.raises(ReidError, match="holds a damaged gallery"):
        open_gallery(tmp_path)
    content = (write(tmp_path) / "embeddings.npy").read_bytes()
    (tmp_path / "embeddings.npy").write_bytes(content[:-4])
    with pytest.raises(ReidError, match="holds a damaged gallery"):
        open_gallery(tmp_path)


def test_a_gallery_of_the_first_version_opens(tmp_path: Path) -> None:
    """Its model is a flat table, without antialias; no fingerprint, no precision."""
    model = {
        "checkpoint": "a.pth", "sha256": "ab" * 32, "size": [256, 128], "mean": [0.5, 0.4, 0.3], "std": [0.2] * 3,
        "interpolation": "bilinear", "scale": 1, "dim": 3,
    }  # fmt: skip
    meta = {"rows": 3, "centroids": False, "model": model}
    (write(tmp_path) / "meta.json").write_text(json.dumps(meta))
    gallery = open_gallery(tmp_path)
    assert (gallery.model, gallery.fingerprint, gallery.precision) == (CARD, None, "")


def test_meta_is_flat(tmp_path: Path) -> None:
    """Other programs read it."""
    model = json.loads((write(tmp_path) / "meta.json").read_text())["model"]
    assert set(model) == {
        "checkpoint", "sha256", "size", "mean", "std", "interpolation", "scale", "dim", "antialias",
    }  # fmt: skip
    assert (model["size"], model["dim"], model["antialias"]) == ([256, 128], 3, True)


def test_a_later_version_may_add_to_meta(tmp_path: Path) -> None:
    meta = json.loads((write(tmp_path) / "meta.json").read_text())
    meta["model"]["color"] = "red"
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    assert open_gallery(tmp_path).model == CARD


@pytest.mark.parametrize(
    ("name", "value"),
    [("sha256", "cd" * 32), ("size", (128, 64)), ("mean", (0.0, 0.0, 0.0)), ("std", (1.0, 1.0, 1.0)),
     ("interpolation", "bicubic"), ("dim", 4)],
)  # fmt: skip
def test_another_model_is_refused_and_both_are_named(name: str, value: object) -> None:
    changed = {name: value}
    other = replace(CARD, **changed) if hasattr(CARD, name) else images(**changed)
    other = replace(other, checkpoint="b.pth")
    differing = "; embed" if name == "sha256" else f", which differ in {name} "
    message = rf"one model, got a.pth \(sha256 abababababab\) and b.pth \(sha256 .{{12}}\){differing}"
    with pytest.raises(ReidError, match=message):
        check_same_model(CARD, other)


def test_a_renamed_file_is_the_same_model_and_another_resolution_is_said(caplog: pytest.LogCaptureFixture) -> None:
    check_same_model(CARD, replace(CARD, checkpoint="renamed.pth"))
    assert caplog.text == ""
    check_same_model(CARD, images(scale=4))
    assert "embedded at resolution x1, the queries at x4" in caplog.text
    caplog.clear()
    check_same_model(CARD, images(antialias=False))  # without lower resolution it plays no part
    assert caplog.text == ""
    check_same_model(images(scale=4), images(scale=4, antialias=False))
    assert "resolution of the gallery was lowered with antialiasing, that of the queries without" in caplog.text
    assert "resolution x4" not in caplog.text


def test_values_check_themselves() -> None:
    vectors, paths = np.zeros((2, 3), np.float32), np.array(["a", "b"])
    with pytest.raises(ReidError, match=r"vectors must be \(N, D\) float32, got \(2, 3\) float64"):
        Embeddings(vectors.astype(np.float64), paths)
    with pytest.raises(ReidError, match=r"paths must be \(N,\) unicode strings, got \(2,\) object"):
        Embeddings(vectors, paths.astype(object))
    with pytest.raises(ReidError, match="one row per image, got 2, 1"):
        Embeddings(vectors, paths[:1])
    ids = np.zeros(2, np.int64)
    with pytest.raises(ReidError, match=r"camera_ids must have one entry for each of 2 rows, got \(3,\)"):
        Gallery(Embeddings(vectors, paths), CARD, False, ids, np.zeros(3, np.int64))
