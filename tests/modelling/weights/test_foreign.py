import logging
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datasets.preprocessing import Preprocessing
from datasets.readers import read_dataset
from datasets.transforms import TestTransform
from modelling.backbones import backbone
from modelling.heads import BNNeck
from modelling.weights.file import read_content
from modelling.weights.foreign import recognize
from tests.modelling.weights.support import FILE, State, Twin, centroids_reid, filled, under
from tests.support import message_with
from utils.distance import distance_matrix
from utils.errors import ReidError
from utils.images import read_image


@pytest.mark.parametrize("wrapper", ["", "state_dict"])
def test_a_plain_resnet_leaves_every_choice_open_and_the_head_fresh(
    wrapper: str, caplog: pytest.LogCaptureFixture, network: type, twin_of: Twin, images: Tensor
) -> None:
    donor = network("resnet50_ibn_a", "bnneck")
    state = under("module.", {**donor.backbone.base.state_dict(), "fc.weight": torch.ones(1000, 4)})
    weights = recognize({wrapper: state} if wrapper else state, FILE)
    assert weights is not None
    assert weights.architecture == {"name": "resnet50_ibn_a"}
    assert (weights.num_ids, weights.is_reid_model, weights.preprocessing) == (None, False, None)
    assert tuple(weights.left_out) == ("fc.weight",)
    receiver = twin_of(weights)
    with caplog.at_level(logging.INFO):
        weights.fill(receiver)
    assert message_with(caplog, "x.pth (plain ResNet backbone)", "head is fresh", "left out: fc.weight")
    vectors = receiver(images)
    torch.testing.assert_close(vectors.raw, donor(images).raw)
    torch.testing.assert_close(vectors.bn, vectors.raw / (1 + 1e-5) ** 0.5)


def test_the_log_counts_many_tensors_that_are_left_out(
    caplog: pytest.LogCaptureFixture, network: type, twin_of: Twin
) -> None:
    state = centroids_reid(network("resnet18", "bnneck", stem_relu=False))
    with caplog.at_level(logging.INFO):
        filled({**state, **{f"center_loss.{number}": torch.ones(1) for number in range(99)}}, twin_of)
    assert message_with(caplog, "left out: fc_query (1), center_loss (99)")


@pytest.mark.parametrize("name", ["convnext_atto", "resnet18", "vit_tiny_patch16_224"])
def test_a_plain_timm_file_is_read_as_the_configured_network(
    name: str, network: type, twin_of: Twin, images: Tensor
) -> None:
    timm = pytest.importorskip("timm")
    sized = {"img_size": (64, 32)} if "vit" in name else {}
    donor = network(f"timm:{name}", "fresh")
    whole = timm.create_model(name, pretrained=False, **sized)
    state = whole.state_dict() | donor.backbone.base.state_dict()
    weights = recognize(state, FILE, f"timm:{name}")
    assert weights is not None
    assert weights.architecture == {"name": f"timm:{name}"}
    assert {name.rpartition(".")[0] for name in weights.left_out} == set(backbone(f"timm:{name}").classifiers)
    receiver = twin_of(weights)
    weights.fill(receiver)
    assert torch.equal(receiver(images).bn, donor(images).bn)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("backbone.base.layer1.0.bn1.bias"), "backbone.base.layer1.0.bn1.bias is missing"),
        (lambda s: s.pop("bn.running_var"), "head.bn.running_var is missing"),
        (lambda s: s.update({"bn.weight": torch.ones(3)}), r"head.bn.weight has shape \(3,\) instead of"),
        (lambda s: s.update(strange=torch.ones(1)), "strange is unknown"),
        (lambda s: s.update({"backbone.base.NL_2.0.g.bias": torch.ones(1)}), "NL_2.0.g.bias is unknown"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    change: Callable[[State], object], message: str, network: type, twin_of: Twin
) -> None:
    state = centroids_reid(network("resnet18", "bnneck"))
    change(state)
    weights = recognize({"state_dict": state}, FILE)
    assert weights is not None
    with pytest.raises(
        ReidError,
        match=rf"x.pth \(checkpoint of centroids-reid\) does not fit the network of MODEL\.NAME: .*{message}",
    ):
        weights.fill(twin_of(weights))


def test_a_trained_network_gets_no_linear_layer_it_never_had(network: type) -> None:
    donor = network("resnet18", "fresh", last_stride=2)
    state = donor.backbone.base.state_dict()
    receiver = network("resnet18", "fresh", last_stride=2)
    receiver.head = BNNeck(512, dim=64)
    plain = recognize(state, FILE)
    classified = recognize({**state, "classifier.weight": torch.ones(7, 512)}, FILE)
    assert plain is not None
    assert classified is not None
    plain.fill(receiver)
    with pytest.raises(ReidError, match=r"x\.pth \(ResNet of torchreid\) does not .*head\.linear\.weight is missing"):
        classified.fill(receiver)


@pytest.mark.parametrize(
    ("content", "scale"),
    [
        ({"model_state_dict": ..., "scale": 4}, 4),
        ({"model_state_dict": ..., "scale": None}, 1),
        ({"model_state_dict": ...}, 1),
        ({"state_dict": ..., "scale": 0.5}, 1),
    ],
)
def test_the_scale_of_the_first_version_is_kept(content: dict[str, object], scale: int, network: type) -> None:
    state = centroids_reid(network("resnet18", "bnneck"))
    weights = recognize({name: state if value is ... else value for name, value in content.items()}, FILE)
    assert weights is not None
    assert weights.preprocessing is not None
    assert weights.preprocessing.scale == scale


@pytest.mark.parametrize(("classes", "num_ids"), [(1000, None), (1001, 1001)])
@pytest.mark.parametrize("linear", [True, False])
def test_a_thousand_classes_of_torchreid_are_those_of_imagenet(
    classes: int, num_ids: int | None, linear: bool, network: type, twin_of: Twin
) -> None:
    name = "osnet_x0_25" if linear else "resnet18"
    donor = network(name, "fresh")
    block = {"fc.0.weight": torch.ones(512, 128), "fc.1.weight": torch.ones(512)} if linear else {}
    state = {**donor.backbone.base.state_dict(), **block, "classifier.weight": torch.ones(classes, 4)}
    weights = recognize(state, FILE)
    assert weights is not None
    assert (weights.architecture["name"], weights.num_ids) == (name, num_ids)
    if num_ids is None:
        assert "ImageNet" in weights.kind
        assert not weights.has_head
        assert weights.architecture == {"name": name}
        assert set(weights.left_out) == {*block, "classifier.weight"}
        weights.fill(twin_of(weights))


def test_counters_that_old_files_lack_are_no_mistake(network: type, twin_of: Twin, images: Tensor) -> None:
    donor = network("resnet18", "bnneck", stem_relu=False)
    state = {name: value for name, value in centroids_reid(donor).items() if "num_batches" not in name}
    assert torch.equal(filled({"state_dict": state}, twin_of)(images).bn, donor(images).bn)


def test_an_osnet_without_head_and_classifier_starts_a_training(network: type, twin_of: Twin) -> None:
    weights = recognize(network("osnet_x0_25", "fresh").backbone.base.state_dict(), FILE)
    assert weights is not None
    assert (weights.architecture, weights.is_reid_model) == ({"name": "osnet_x0_25"}, False)
    weights.fill(twin_of(weights))


def test_weights_that_are_not_finite_are_refused(network: type, twin_of: Twin) -> None:
    state = centroids_reid(network("resnet18", "bnneck"))
    state["backbone.base.conv1.weight"][0, 0, 0, 0] = torch.nan
    state["bn.running_var"][3] = torch.inf
    weights = recognize(state, FILE)
    assert weights is not None
    with pytest.raises(
        ReidError,
        match=r"x\.pth .*NaN or infinity in backbone\.base\.conv1\.weight, head\.bn\.running_var: its training",
    ):
        weights.fill(twin_of(weights))


@pytest.mark.parametrize(
    "value", [torch.ones(3).to_sparse(), torch.ones(3, device="meta"), torch.ones(3) + 1j, 3.5, None, "text", [1]]
)
def test_what_is_no_plain_tensor_makes_no_network(value: object, network: type) -> None:
    state = centroids_reid(network("resnet18", "bnneck"))
    assert recognize({**state, "bn.weight": value}, FILE) is None
    assert recognize({**state, 3: torch.ones(1)}, FILE) is None


@pytest.mark.parametrize(
    "size", [[1e300, 2], [math.inf, 256], [math.nan, 3], ["a", 2], [256, 128, 3], 10**30, [0, 0]]
)
def test_a_size_that_no_image_has_is_no_size(size: object, network: type) -> None:
    content = {"state_dict": centroids_reid(network("resnet18", "bnneck")), "hparams": {"INPUT": {"SIZE_TEST": size}}}
    weights = recognize(content, FILE)
    assert weights is not None
    assert weights.preprocessing == Preprocessing()


@pytest.mark.parametrize(
    "content",
    [{}, {"epoch": 3}, {"state_dict": {"weight": torch.ones(2)}}, {"state_dict": {"conv1.weight": "text"}}],
)
def test_anything_else_is_not_recognized(content: dict[str, object]) -> None:
    assert recognize(content, FILE) is None


def test_networks_that_are_not_ours_are_refused(network: type) -> None:
    resnet = centroids_reid(network("resnet18", "bnneck"))
    resnet = {name: value for name, value in resnet.items() if "layer3.1" not in name}
    with pytest.raises(ReidError, match=r"ResNet-18, 34, 50, 101 or 152, got stages of \(2, 2, 1, 2\) blocks"):
        recognize({"state_dict": resnet}, FILE)
    names = ("conv1.conv.weight", "conv5.conv.weight", "fc.0.weight")
    with pytest.raises(ReidError, match="got an OSNet with 8 channels in its stem"):
        recognize({name: torch.ones(8, 3, 7, 7) for name in names}, FILE)


@pytest.mark.realdata
@pytest.mark.parametrize(("data", "num_ids"), [("market1501", 751), ("msmt17", 1041)])
def test_published_osnets_find_people(workshop: Path, data: str, num_ids: int, twin_of: Twin) -> None:
    path = workshop / "weights" / f"osnet_x0_25_{data}.pth"
    weights = recognize(read_content(path), path)
    assert weights is not None
    assert weights.architecture == {"name": "osnet_x0_25", "head": "projection", "pooling": "avg"}
    assert weights.num_ids == num_ids
    assert tuple(weights.left_out) == ("classifier.weight", "classifier.bias")
    assert weights.preprocessing is not None
    network = twin_of(weights)
    weights.fill(network)
    splits = read_dataset(str(workshop / "data" / "cuhk03_dev"), workshop, with_train=False)
    queries = {sample.person_id: sample for sample in splits.query if sample.camera_id == 1}
    others = {sample.person_id: sample for sample in splits.gallery if sample.camera_id == 2}
    people = sorted(queries.keys() & others.keys())[:24]
    mean, std = (
        torch.tensor(part)[:, None, None] for part in (weights.preprocessing.mean, weights.preprocessing.std)
    )
    resize = TestTransform(Preprocessing(weights.preprocessing.size))
    one, other = (
        network(torch.stack([(resize(read_image(side[p].path)).image / 255 - mean) / std for p in people])).bn
        for side in (queries, others)
    )
    assert one.shape == (len(people), 512)
    distances = distance_matrix(one, other, "cosine")
    own = distances.diagonal()
    assert float((distances < own[:, None]).sum(1).float().mean()) < 8  # 11.5 by chance
