from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.checks import check_train, refuse_shared_identities
from datasets.readers.concat import concat_datasets
from datasets.sample import ReidSplits, Sample
from utils.errors import ReidError

LABELS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=12)


def part(name: str, train: list, query: list, gallery: list, *, cameras: bool = True) -> ReidSplits:
    def samples(split: str, labels: list) -> tuple[Sample, ...]:
        return tuple(Sample(Path(name, split, f"{i}.jpg"), *label) for i, label in enumerate(labels))

    splits = (samples("train", train), samples("query", query), samples("gallery", gallery))
    return ReidSplits(name, *splits, (Path(name),), cameras)


@given(st.lists(LABELS, min_size=1, max_size=4), LABELS)
def test_joined_sources_share_no_identity_and_no_camera(trains: list[list], test: list) -> None:
    test = [(person + 20, camera) for person, camera in test]
    parts = [part(f"set{i}", train, test, [*test, (0, 1)]) for i, train in enumerate(trains)]
    whole = concat_datasets(parts)
    assert whole.name == "+".join(f"set{i}" for i in range(len(parts)))
    assert (whole.query, whole.gallery, whole.cameras) == (parts[0].query, parts[0].gallery, True)
    assert whole.folders == tuple(Path(f"set{i}") for i in range(len(parts)))
    source = [s for i in parts for s in i.train]
    assert [s.path for s in whole.train] == [s.path for s in source]
    for attribute in ("person_id", "camera_id"):
        pairs = {
            ((s.path.parts[0], getattr(s, attribute)), getattr(new, attribute))
            for s, new in zip(source, whole.train, strict=True)
        }
        assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})  # one to one
    assert not {s.person_id for s in whole.train} & {s.person_id for s in (*whole.query, *whole.gallery)}
    others = {s.camera_id for s in whole.train if s.path.parts[0] != "set0"}
    assert not others & {s.camera_id for s in (*whole.query, *whole.gallery)}


def test_the_first_keeps_its_numbers_and_the_others_follow() -> None:
    first = part("a", [(7, 1), (3, 2)], [(9, 1)], [(9, 3), (0, 1)])
    whole = concat_datasets([first, part("b", [(7, 1), (2, 0)], [(1, 1)], [(1, 2)]), part("c", [(2, 0)], [], [])])
    assert [(s.person_id, s.camera_id) for s in whole.train] == [(7, 1), (3, 2), (11, 5), (10, 4), (12, 6)]
    assert concat_datasets([first]) is first
    assert not concat_datasets([part("m", [(1, 0)], [(2, 0)], [(2, 0)], cameras=False), first]).cameras


def test_mistakes_of_a_source_stay_visible() -> None:
    shared = part("a", [(1, 1), (2, 1)], [(2, 1)], [(2, 2)])
    with pytest.raises(ReidError, match=r"train and test of a\+b must have no identity in common, but 1 are in both"):
        refuse_shared_identities(concat_datasets([shared, part("b", [(1, 1)], [], [])]))
    good = part("a", [(1, 1), (2, 1)], [(3, 1)], [(3, 2)])
    with pytest.raises(ReidError, match=r"training images must have an identity from 1 on, but 1 of a\+b do not"):
        check_train(concat_datasets([good, part("b", [(0, 1)], [], [])]), 2, 2)


def test_a_data_set_given_twice_is_refused() -> None:
    one = part("a", [(1, 1)], [(3, 1)], [(3, 2)])
    with pytest.raises(ReidError, match=r"a has 1 of a, e\.g\. a/train/0\.jpg; name each data set once"):
        concat_datasets([one, one])


@pytest.mark.parametrize("spelling", ["relative", "dots", "link", "linked parent"])
def test_a_data_set_given_twice_is_noticed_however_it_is_spelled(
    tmp_path: Path, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sets/a/train").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "sets/a")
    (tmp_path / "other").symlink_to(tmp_path / "sets")
    monkeypatch.chdir(tmp_path)
    names = {"relative": "sets/a", "dots": f"{tmp_path}/sets/../sets/a", "link": "link", "linked parent": "other/a"}
    one, again = (part(name, [(1, 1)], [], []) for name in (f"{tmp_path}/sets/a", names[spelling]))
    with pytest.raises(ReidError, match=r"must have no image in common, but .* has 1 of .*/sets/a, e\.g\. "):
        concat_datasets([one, again])
