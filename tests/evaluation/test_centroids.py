import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.centroids import CameraMeans, rank_centroids
from evaluation.ctl2021 import rank_ctl2021
from evaluation.ranking import RankingResult, evaluate_ranking
from evaluation.retrieval.inputs import Retrieval
from tests.reference.centroids import plain_centroids, plain_ctl2021
from tests.reference.ranking import Case
from tests.support import memory_budget
from utils.errors import ReidError


def centroids(*arrays: object, camera_rule: bool = True) -> RankingResult:
    return rank_centroids(Retrieval.of(*arrays), camera_rule=camera_rule)


def ctl2021(*arrays: object) -> RankingResult:
    return rank_ctl2021(Retrieval.of(*arrays))


def draw(seed: int, num_query: int, num_gallery: int, num_ids: int) -> Case:
    rng = np.random.default_rng(seed)
    return Case(
        rng.standard_normal((num_query, 5)),
        rng.standard_normal((num_gallery, 5)),
        rng.integers(1, num_ids + 1, num_query),
        rng.integers(0, num_ids + 1, num_gallery),
        rng.integers(-1, 3, num_query),
        rng.integers(-1, 3, num_gallery),
    )


cases = st.builds(draw, st.integers(0, 2**31), st.integers(1, 10), st.integers(1, 40), st.integers(1, 7))


def assert_equal(result: RankingResult, scores: list[tuple[float, int]]) -> None:
    precision, first = (np.array(column) for column in zip(*scores, strict=True))
    np.testing.assert_array_equal(result.first_match_rank, first)
    np.testing.assert_allclose(result.average_precision, precision, atol=1e-12)
    assert result.mAP == pytest.approx(np.nanmean(precision))
    assert result.cmc[5] == pytest.approx((first[first > 0] <= 5).mean())


@settings(max_examples=100, deadline=None)
@given(cases, st.booleans(), st.sampled_from([1, 2**28]))
def test_equals_the_plain_loop(case: Case, camera_rule: bool, budget: int) -> None:
    scores = plain_centroids(case, camera_rule)
    if not any(first for _, first in scores):
        with memory_budget(budget), pytest.raises(ReidError, match="none of"):
            centroids(*case, camera_rule=camera_rule)
        return
    with memory_budget(budget):
        assert_equal(centroids(*case, camera_rule=camera_rule), scores)


@settings(max_examples=100, deadline=None)
@given(cases, st.sampled_from([1, 2**28]))
def test_ctl2021_equals_the_plain_loop(case: Case, budget: int) -> None:
    scores = plain_ctl2021(case)
    if not any(first for _, first in scores):
        with memory_budget(budget), pytest.raises(ReidError, match=r"none of|got none"):
            ctl2021(*case)
        return
    with memory_budget(budget):
        assert_equal(ctl2021(*case), scores)


@settings(max_examples=30, deadline=None)
@given(cases, st.integers(0, 1000))
def test_permuting_the_gallery_changes_nothing(case: Case, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(case[1]))
    shuffled = Case(*(array[order] if side % 2 else array for side, array in enumerate(case)))
    if any(first for _, first in plain_centroids(case, camera_rule=True)):
        first, second = centroids(*case), centroids(*shuffled)
        np.testing.assert_array_equal(first.first_match_rank, second.first_match_rank)


def camera_clusters() -> Case:
    """A model that recognizes the camera's view of a person, hardly the person: the truth is known.

    Images of one person from one camera are nearly the same vector, those from two cameras all but
    unrelated: retrieval across cameras must be poor, and only a look at the query's own camera can find.
    """
    rng = np.random.default_rng(0)
    num_ids, num_cameras, per_camera, dim = 80, 6, 3, 64
    person = 0.15 * rng.standard_normal((num_ids, 1, 1, dim))
    view = rng.standard_normal((num_ids, num_cameras, 1, dim))
    noise = 0.05 * rng.standard_normal((num_ids, num_cameras, per_camera + 1, dim))
    images = person + view + noise
    ids = np.broadcast_to(np.arange(1, num_ids + 1)[:, None, None], images.shape[:3])
    cameras = np.broadcast_to(np.arange(num_cameras)[None, :, None], images.shape[:3])
    query = (images[:, :, 0].reshape(-1, dim), ids[:, :, 0].ravel(), cameras[:, :, 0].ravel())
    gallery = (images[:, :, 1:].reshape(-1, dim), ids[:, :, 1:].ravel(), cameras[:, :, 1:].ravel())
    order = rng.permutation(len(gallery[0]))
    gallery = tuple(column[order] for column in gallery)
    return Case(query[0], gallery[0], query[1], gallery[1], query[2], gallery[2])


def test_only_the_published_index_is_flattered_by_same_camera_images() -> None:
    case = camera_clusters()
    instance = evaluate_ranking(*case)
    honest = centroids(*case)
    published = ctl2021(*case)
    assert honest.cmc[1] < 0.25
    assert instance.cmc[1] < 0.25
    assert published.cmc[1] > 0.7
    without_rule = centroids(*case, camera_rule=False)
    assert without_rule.cmc[1] > 0.8  # what the published index in fact measures


def test_distractors_stay_items_here_and_vanish_in_the_published_way() -> None:
    query = np.array([[1.0, 0.0]])
    gallery = np.array([[0.8, 0.6], [1.0, 0.1], [1.0, -0.1], [0.0, 1.0]])
    labels = ([1], [1, 0, 0, 2], [0], [1, 0, 1, 1])
    result = centroids(query, gallery, *labels)
    assert (result.mAP, result.mINP, result.num_gallery) == (pytest.approx(1 / 3), pytest.approx(1 / 3), 4)
    # Read at positions 0.. of [0] + [1, 0, 1, 1], item 0 gets the query's own camera: nothing is left of p.
    with pytest.raises(ReidError, match="got none"):
        ctl2021(query, gallery, *labels)


def test_features_are_averaged_before_they_are_normalized() -> None:
    # Mean of a long and a short vector leans to the long one; of the unit vectors it would be the diagonal.
    query, gallery = torch.tensor([[1.0, 0.1]]), torch.tensor([[10.0, 0.0], [0.0, 1.0], [1.0, 0.5]])
    result = centroids(query, gallery, [1], [1, 1, 2], [0], [1, 2, 1])
    assert result.mAP == 1.0


def test_a_query_left_without_own_images_is_not_counted() -> None:
    result = centroids(torch.eye(2), torch.eye(2), [1, 2], [1, 2], [0, 0], [0, 1])
    assert (result.num_queries, result.num_valid_queries) == (2, 1)
    assert np.isnan(result.average_precision[0])


def test_float32_and_half_galleries_agree_with_float64() -> None:
    case = camera_clusters()
    tensors = [torch.from_numpy(array) for array in case[:2]]
    reference = centroids(*tensors, *case[2:]).mAP
    single = centroids(tensors[0].float(), tensors[1].float(), *case[2:]).mAP
    half = centroids(tensors[0].float(), tensors[1].half(), *case[2:]).mAP
    mixed = centroids(tensors[0], tensors[1].float(), *case[2:]).mAP
    assert single == pytest.approx(reference, abs=1e-6)
    assert mixed == pytest.approx(reference, abs=1e-6)
    assert half == pytest.approx(reference, abs=1e-2)


def test_names_the_camera_rule_when_it_leaves_nothing() -> None:
    with pytest.raises(ReidError, match=r"camera_rule leaves none of 2 queries a match.*camera_rule=False"):
        centroids(torch.eye(2), torch.eye(2), [1, 2], [1, 2], [0, 0], [0, 0])


def test_refuses_a_gallery_of_strangers() -> None:
    with pytest.raises(ReidError, match="query_ids must occur in gallery_ids, got none of 1 queries"):
        centroids(torch.eye(2)[:1], torch.eye(2), [1], [2, 3], [0], [1, 1])
    with pytest.raises(ReidError, match="gallery_ids must hold the query's persons, got none"):
        ctl2021(torch.eye(2)[:1], torch.eye(2), [1], [2, 3], [0], [1, 1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("num_gallery", [21, 101, 501])
@pytest.mark.parametrize("dim", [5, 37, 128, 512, 2048])
def test_a_collapsed_model_ranks_every_match_last(dim: int, num_gallery: int, dtype: torch.dtype) -> None:
    vector = torch.randn(dim, generator=torch.Generator().manual_seed(dim), dtype=torch.float64).to(dtype)
    places = np.arange(num_gallery)
    sides = (vector.expand(7, dim), vector.expand(num_gallery, dim))
    labels = (np.arange(1, 8), places % 50, np.arange(7) % 6, places // 50 % 6)
    for camera_rule in (True, False):
        if num_gallery == 21 and camera_rule:
            labels = (*labels[:2], np.full(7, 9), labels[3])  # or the only image would be left out
        result = centroids(*sides, *labels, camera_rule=camera_rule)
        assert result.mAP == pytest.approx(1 / result.num_gallery)


@pytest.mark.parametrize(
    ("dtype", "gap", "reference"),
    [
        (torch.float32, 0.0, 0.5),
        (torch.float32, 5e-7, 0.5),
        (torch.float32, 5e-6, 1.0),
        (torch.float64, 5e-13, 0.5),
        (torch.float64, 5e-12, 1.0),
    ],
)
def test_a_near_tie_never_helps_and_a_difference_does(dtype: torch.dtype, gap: float, reference: float) -> None:
    # The cosines with (1, 0) are 1 for the match and 1 - gap for the other person.
    gallery = torch.tensor([[1.0, 0.0], [1.0, (2 * gap) ** 0.5]], dtype=dtype)
    assert centroids(gallery[:1], gallery, [1], [1, 2], [0], [1, 1]).mAP == reference


def test_distractors_have_no_group_of_camera_means() -> None:
    features = torch.tensor([[1.0], [5.0], [3.0], [7.0]])
    means = CameraMeans(features, torch.tensor([4, 0, 4, 0]), torch.tensor([1, 1, 2, 2]))
    assert (means.ids.tolist(), means.cameras.tolist(), means.means.tolist()) == ([4, 4], [1, 2], [[1], [3]])
    assert len(CameraMeans(features, torch.zeros(4, dtype=torch.int64), torch.arange(4)).means) == 0


def test_ctl2021_without_a_centroid_names_the_cameras_it_reads() -> None:
    # Item j is read as the camera of query j, which is of the same person: nothing is left of anyone.
    query, gallery = torch.eye(3), torch.eye(3)
    with pytest.raises(ReidError, match=r"cameras, read by position, must leave a person an item, got none for 3"):
        ctl2021(query, gallery, [1, 2, 3], [1, 2, 3], [0, 1, 2], [5, 5, 5])


@pytest.mark.parametrize("dim", [37, 512, 2048])
def test_ctl2021_of_a_collapsed_model_ranks_every_match_last(dim: int) -> None:
    vector = torch.randn(dim, generator=torch.Generator().manual_seed(dim))
    places, people = np.arange(501), np.arange(1, 50)
    sides = (vector.expand(49, dim), vector.expand(501, dim))
    result = ctl2021(*sides, people, places % 50, people % 6, places // 50 % 6)
    assert result.mAP == pytest.approx(1 / result.num_gallery)
