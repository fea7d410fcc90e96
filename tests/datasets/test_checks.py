import logging
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from datasets.checks import check_files, check_test, check_train, find_copies, find_few, refuse_shared_identities
from datasets.sample import ReidSplits, Sample
from utils.errors import ReidError


def samples(*labels: tuple[int, int]) -> tuple[Sample, ...]:
    return tuple(
        Sample(Path(f"{person:04d}_c{camera}_{i}.jpg"), person, camera) for i, (person, camera) in enumerate(labels)
    )


def splits(train: tuple, query: tuple, gallery: tuple) -> ReidSplits:
    return ReidSplits("toy", samples(*train), samples(*query), samples(*gallery))


GOOD_TRAIN = ((1, 1), (1, 2), (2, 1), (2, 2))


def test_good_splits_give_no_word() -> None:
    data = splits(GOOD_TRAIN, ((3, 1),), ((3, 2), (0, 1)))
    assert check_train(data, 2, 4) == []
    assert check_test(data, camera_rule=True) == []


def test_identities_in_train_and_test_are_refused_and_named() -> None:
    for data in (splits(GOOD_TRAIN, (), ()), splits((), ((2, 1),), ((2, 2),)), splits(((0, 1),), (), ((0, 1),))):
        refuse_shared_identities(data)
    with pytest.raises(ReidError, match=r"of toy must have no identity in common, but 1 are in both \(2\)"):
        refuse_shared_identities(splits(GOOD_TRAIN, (), ((2, 2),)))


@pytest.mark.parametrize(("query", "gallery"), [((), ((3, 1),)), (((3, 1),), ())])
def test_a_test_without_images_is_refused(query: tuple, gallery: tuple) -> None:
    counts = f"toy has {len(query)} query and {len(gallery)} gallery images; add"
    with pytest.raises(ReidError, match=f"a test needs query and gallery, but {counts}"):
        check_test(splits(GOOD_TRAIN, query, gallery), camera_rule=True)


def test_too_few_identities_for_a_batch_name_the_keys_and_the_remedy() -> None:
    with pytest.raises(ReidError, match="training needs 2 identities or more, but toy has 1 to train on"):
        check_train(splits(GOOD_TRAIN[:2], ((3, 1),), ((3, 2),)), 4, 4)
    with pytest.raises(ReidError, match=r"asks for 16 identities.*toy has 2; set SOLVER\.IMS_PER_BATCH to 8 or less"):
        check_train(splits(GOOD_TRAIN, ((3, 1),), ((3, 2),)), 16, 4)


def test_queries_need_an_identity() -> None:
    with pytest.raises(ReidError, match=r"from 1 on, but 1 of toy do not \(e\.g\. 0000_c1_0\.jpg\)"):
        check_test(splits(GOOD_TRAIN, ((0, 1), (3, 1)), ((3, 2),)), camera_rule=True)


def test_identities_with_a_single_image_are_counted_and_named() -> None:
    data = splits((*GOOD_TRAIN, (7, 1), (9, 1)), ((3, 1),), ((3, 2),))
    assert check_train(data, 2, 4) == [
        "2 of 4 training identities have a single image (7, 9): they give the triplet losses no real positive for K = 4"
    ]


def test_training_images_need_an_identity() -> None:
    with pytest.raises(ReidError, match=r"training images must have an identity from 1 on, but 1 of toy do not"):
        check_train(splits((*GOOD_TRAIN, (0, 1)), ((3, 1),), ((3, 2), (0, 1))), 2, 4)


def test_queries_without_a_match_are_counted_by_reason_and_named() -> None:
    data = splits(GOOD_TRAIN, ((3, 1), (4, 1), (5, 1), (6, 2)), ((3, 2), (4, 1), (6, 2), (6, 2)))
    (warning,) = check_test(data, camera_rule=True)
    assert warning.startswith("3 of 4 queries of toy have no match")
    assert "1 because the gallery lacks the identity (e.g. 0005_c1_2.jpg)" in warning
    assert "2 because only the query's own camera has it (e.g. 0004_c1_1.jpg, 0006_c2_3.jpg)" in warning
    assert "they are not counted (check the split: query and gallery must number people alike" in warning
    assert "for data of one camera set TEST.CAMERA_RULE False)" in warning
    (without_rule,) = check_test(data, camera_rule=False)
    assert without_rule.startswith("1 of 4 queries")
    assert "CAMERA_RULE" not in without_rule
    assert check_test(replace(data, cameras=False), camera_rule=True) == [without_rule]


def test_no_match_at_all_is_an_error_with_the_remedy() -> None:
    with pytest.raises(ReidError, match=r"set TEST\.CAMERA_RULE False") as error:
        check_test(splits(GOOD_TRAIN, ((3, 1),), ((3, 1),)), camera_rule=True)
    assert "check the split" not in str(error.value)
    with pytest.raises(
        ReidError, match=r"query identities 3, 5; gallery identities 1, 2, 4, \.\.\.; check the split"
    ):
        check_test(splits(GOOD_TRAIN, ((3, 1), (5, 1)), ((4, 1), (1, 1), (2, 1), (6, 1))), camera_rule=True)


def test_a_gallery_of_one_person_is_refused() -> None:
    data = splits(GOOD_TRAIN, ((3, 1), (3, 2)), ((3, 2), (3, 3)))
    with pytest.raises(ReidError, match=r"gallery of toy must show two identities or more, but shows one \(3\).*add"):
        check_test(data, camera_rule=True)


def test_few_queries_or_people_are_told() -> None:
    people = tuple(range(1, 11))
    gallery = tuple((person, 2) for person in people)
    assert find_few(splits((), tuple((person, 1) for person in people), gallery)) == []
    (warning,) = find_few(splits((), ((1, 1), (2, 1)), gallery))
    assert "2 queries and 10 identities" in warning
    (warning,) = find_few(splits((), ((1, 1),) * 12, (*gallery[:9], (0, 1))))
    assert "12 queries and 9 identities" in warning


def test_copies_of_files_are_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {"q1": b"same", "q2": b"abcd", "g1": b"same", "g2": b"efgh", "t1": b"efgh", "t2": b"long enough"}
    for name, content in contents.items():
        (tmp_path / f"{name}.jpg").write_bytes(content)
    train, query, gallery = (
        tuple(Sample(tmp_path / f"{part}{number}.jpg", number, 1) for number in (1, 2)) for part in "tqg"
    )
    in_test, in_train = find_copies(ReidSplits("toy", train, query, gallery))
    assert "1 of 2 query images of toy are gallery images too" in in_test
    assert "q1.jpg" in in_test
    assert "g1.jpg" in in_test
    assert "1 of 2 training images of toy are test images too" in in_train
    monkeypatch.chdir(tmp_path)
    here = ReidSplits("toy", (), (Sample(Path("q1.jpg"), 1, 1),), (Sample(Path("g1.jpg"), 1, 2),))
    assert len(find_copies(here)) == 1
    gone = tuple(Sample(tmp_path / f"gone{number}.jpg", 1, 1) for number in (1, 2))
    assert find_copies(ReidSplits("toy", (), (*query[1:], gone[0]), (*gallery[1:], gone[1]))) == []


def test_examples_tell_the_folder_of_the_image() -> None:
    query, other = Sample(Path("data/query/anna/1.jpg"), 3, 0), Sample(Path("data/gallery/bob/1.jpg"), 4, 0)
    with pytest.raises(ReidError, match=r"lacks the identity \(e\.g\. anna/1\.jpg\)"):
        check_test(ReidSplits("toy", (), (query,), (other,)), camera_rule=True)


@pytest.fixture
def damaged(tmp_path: Path) -> ReidSplits:
    good, truncated, text = tmp_path / "good.jpg", tmp_path / "truncated.jpg", tmp_path / "text.jpg"
    Image.effect_noise((64, 64), 90).convert("RGB").save(good)
    truncated.write_bytes(good.read_bytes()[:700])
    text.write_text("no image")
    train = tuple(Sample(path, i, 1) for i, path in enumerate((good, truncated, text, tmp_path / "gone.jpg")))
    return ReidSplits("damaged", train, train[:1], train[:1])


def test_bad_files_are_named_at_set_up(damaged: ReidSplits) -> None:
    with pytest.raises(
        ReidError, match=r"(?s)3 of 6 images of damaged cannot be read.*truncated\.jpg.*text\.jpg.*gone"
    ):
        check_files(damaged, "error", workers=2)


def test_bad_files_are_skipped_and_counted(damaged: ReidSplits, caplog: pytest.LogCaptureFixture) -> None:
    readable = check_files(damaged, "skip", workers=2)
    assert [s.path.name for s in readable.train] == ["good.jpg"]
    assert "3 of 6 images" in caplog.text
    assert not check_files(ReidSplits("damaged", (), damaged.query, damaged.train), "skip", workers=1).train
    with pytest.raises(ReidError, match="train split of damaged has no readable image left"):
        check_files(ReidSplits("damaged", damaged.train[1:], damaged.query, damaged.gallery), "skip", workers=1)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_processes_find_what_one_finds(tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = tmp_path / "good.png", [tmp_path / f"bad {number} 그림.png" for number in range(3)]
    Image.new("RGB", (2, 2)).save(good)
    for path in bad:
        path.write_text("no image")
    train = [Sample(good, 1, 1)] * 600  # enough for two processes
    for place, path in zip((0, 300, 599), bad, strict=True):
        train[place] = Sample(path, 2, 1)
    splits = ReidSplits("many", tuple(train), (Sample(good, 3, 1),), (Sample(good, 3, 2),))
    with pytest.raises(ReidError, match=r"3 of 602 images of many cannot be read: .*bad 0 .*bad 1 .*bad 2 .*skip$"):
        check_files(splits, "error", workers=workers)
    with caplog.at_level(logging.WARNING):
        readable = check_files(splits, "skip", workers=workers)
    assert readable.train == tuple(sample for sample in train if sample.path == good)
    assert (readable.query, readable.gallery) == (splits.query, splits.gallery)
    assert check_files(readable, "error", workers=workers) is readable
