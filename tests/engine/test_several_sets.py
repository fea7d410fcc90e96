"""Training on several data sets and testing on several, end to end."""

from pathlib import Path

import pytest

import test as evaluation_script
import train as train_script
from datasets.synthetic import SyntheticSpec, draw_dataset
from engine import run
from engine.builders.data import evaluation_sets, read_test_data, read_training_data
from engine.cli import parse
from engine.settings import Settings
from tests.engine.support import ONE_EPOCH, checkpoint_at, report_at, without
from utils.errors import ReidError

SMALL = SyntheticSpec(train_ids=4, test_ids=3, cameras=2, images_per_camera=2, height=64, width=32, seed=7)


@pytest.fixture(scope="module")
def other_market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_dataset(tmp_path_factory.mktemp("other") / "other", SMALL)


@pytest.fixture
def arguments(tiny_arguments: list[str]) -> list[str]:
    """Those of a tiny run, without its data set."""
    return [*without(tiny_arguments, "DATASETS.NAMES"), *ONE_EPOCH]


def test_train_on_two_and_test_on_both(
    arguments: list[str], tiny_market: Path, other_market: Path, tmp_path: Path
) -> None:
    names = repr((str(tiny_market), str(other_market)))
    assert train_script.main([*arguments, "DATASETS.NAMES", names]) == 0
    folder = tmp_path / "logs/tiny+other/osnet_x0_25/baseline/exp0"
    assert checkpoint_at(folder / "0_last.pth").card.num_ids == 8 + 4
    assert report_at(folder / "report_0.json")["dataset"] == "tiny"
    use = ["MODEL.PRETRAIN_PATH", str(folder / "0_last.pth"), "OUTPUT_DIR", str(tmp_path / "output")]
    assert evaluation_script.main(use) == 0
    summary = report_at(tmp_path / "output/report.json")
    assert summary["dataset"] == "tiny+other"
    assert [result["dataset"] for result in summary["results"]] == ["tiny", "other"]
    for name, result in zip(("tiny", "other"), summary["results"], strict=True):
        single = report_at(tmp_path / f"output/{name}/report.json")
        assert (single["dataset"], single["results"]) == (name, [result])
    assert (tmp_path / "output/report.md").read_text().startswith("# tiny, other\n")
    # Each row is what a test of that set alone gives.
    alone = ("DATASETS.NAMES", str(other_market), "OUTPUT_DIR", str(tmp_path / "one"))
    assert evaluation_script.main([*use, *alone]) == 0
    assert report_at(tmp_path / "one/report.json")["results"] == summary["results"][1:]


def test_validation_is_on_the_first_test_set(
    arguments: list[str], tiny_market: Path, other_market: Path, tmp_path: Path
) -> None:
    options = ["DATASETS.NAMES", str(tiny_market), "DATASETS.TEST_NAMES", str(other_market)]
    assert train_script.main([*arguments, *options]) == 0
    folder = tmp_path / "logs/tiny/osnet_x0_25/baseline/exp0"
    assert report_at(folder / "report_0.json")["dataset"] == "other"
    use = ["MODEL.PRETRAIN_PATH", str(folder / "0_last.pth"), "OUTPUT_DIR", str(tmp_path / "output")]
    assert evaluation_script.main(use) == 0  # what the run was validated on
    assert report_at(tmp_path / "output/report.json")["dataset"] == "other"
    assert evaluation_script.main([*use, "DATASETS.NAMES", str(tiny_market)]) == 0  # who names one means that one
    assert report_at(tmp_path / "output/report.json")["dataset"] == "tiny"


def test_a_set_without_cameras_is_tested_without_the_camera_rule(
    arguments: list[str], tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["path,person_id,split"]
    folders = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
    for folder, split in folders.items():
        files = sorted((tiny_market / folder).glob("[0-9]*.jpg"))
        rows += [f"{path},{int(path.name[:4])},{split}" for path in files]
    listed = tmp_path / "people.csv"
    listed.write_text("\n".join(row for row in rows if ",0," not in row) + "\n")
    assert train_script.main([*arguments, "DATASETS.NAMES", str(listed)]) == 0
    folder = tmp_path / "logs/people/osnet_x0_25/baseline/exp0"
    assert "people tells no cameras: the camera rule is off" in capsys.readouterr().err
    (result,) = report_at(folder / "report_0.json")["results"]
    assert result["camera_rule"] is False


def settings_of(*words: str) -> Settings:
    return parse(list(words))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("market1501", ["market1501"]),
        (" market1501 ", ["market1501"]),
        ("('market1501')", ["market1501"]),
        ("'market1501'", ["market1501"]),
        ("('market1501',)", ["market1501"]),
        (" ['a ', '/b c/d']", ["a", "/b c/d"]),
        ("('a', 'b')", ["a", "b"]),
    ],
)
def test_spellings_of_names(text: str, names: list[str]) -> None:
    assert evaluation_sets(settings_of("DATASETS.NAMES", text).cfg) == names
    assert evaluation_sets(settings_of("DATASETS.TEST_NAMES", text).cfg) == names


@pytest.mark.parametrize(
    "text", ["('a', 3)", "('a', 'a')", "('a', 'a ')", "['a'", "[]", "(1)", "({[]: 1})", "('')", "('a', '')"]
)
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(ReidError, match=r"must be a name, or different names like \('market1501','cuhk03'\)"):
        evaluation_sets(settings_of("DATASETS.NAMES", text).cfg)


def test_an_empty_name_is_refused(
    arguments: list[str], tiny_market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = r"DATASETS\.NAMES must name a data set, a folder or a \.csv file, got ' *'; see docs/datasets\.md"
    for text in ("", "  "):
        cfg = settings_of("DATASETS.NAMES", text).cfg
        (name,) = evaluation_sets(cfg)
        with pytest.raises(ReidError, match=rule):
            read_test_data(cfg, name)
    assert train_script.main([*arguments, "DATASETS.NAMES", "", "DATASETS.TEST_NAMES", str(tiny_market)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "DATASETS.NAMES" in line]
    assert "must name a data set" in line


def leaky_csv(folder: Path, market: Path) -> Path:
    """A data set whose first person is in train and in test."""
    files = sorted((market / "bounding_box_train").glob("*.jpg"))
    rows = [f"{path},{path.name[:4]},1,train" for path in files[2:]]
    rows += [f"{files[0]},{files[0].name[:4]},1,query", f"{files[1]},{files[1].name[:4]},2,gallery"]
    (folder / "leaky.csv").write_text("\n".join(["path,person_id,camera_id,split", *rows]))
    return folder / "leaky.csv"


@pytest.mark.parametrize("place", [0, 1])
def test_people_in_train_and_test_of_any_source_are_refused(
    arguments: list[str], tiny_market: Path, other_market: Path, tmp_path: Path, place: int
) -> None:
    names = [str(tiny_market)]
    names.insert(place, str(leaky_csv(tmp_path, other_market)))
    with pytest.raises(
        ReidError, match=r"train and test of leaky must have no identity in common, but 1 are in both"
    ):
        read_training_data(settings_of(*arguments, "DATASETS.NAMES", repr(tuple(names))).cfg)


def test_a_data_set_under_two_spellings_is_noticed(arguments: list[str], tiny_market: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tiny_market)
    names = repr((str(tiny_market), str(tmp_path / "link")))
    with pytest.raises(ReidError, match=r"must have no image in common, but link has \d+ of tiny"):
        read_training_data(settings_of(*arguments, "DATASETS.NAMES", names).cfg)


def test_a_further_source_needs_no_test(
    arguments: list[str], tiny_market: Path, other_market: Path, tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/bounding_box_train").symlink_to(other_market / "bounding_box_train")
    more = str(tmp_path / "more")
    names = repr((str(tiny_market), more))
    data = read_training_data(settings_of(*arguments, "DATASETS.NAMES", names).cfg)
    assert (data.validation_set, len({sample.person_id for sample in data.splits.train})) == ("tiny", 8 + 4)
    with pytest.raises(ReidError, match="a test needs query and gallery, but more has 0 query and 0 gallery images"):
        read_training_data(settings_of(*arguments, "DATASETS.NAMES", more).cfg)


def test_data_sets_of_one_name_are_refused(arguments: list[str], tiny_market: Path, tiny_checkpoint: Path) -> None:
    twice = ("DATASETS.TEST_NAMES", repr((str(tiny_market), f"{tiny_market}/.")))
    with pytest.raises(ReidError, match=r"data sets that are tested together must differ in name"):
        run.evaluate(settings_of(*arguments, "MODEL.PRETRAIN_PATH", str(tiny_checkpoint), *twice))
