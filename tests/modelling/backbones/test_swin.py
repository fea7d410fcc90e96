import pytest
import torch

from modelling.backbones import backbone
from modelling.backbones.swin import SwinBackbone
from utils.errors import ReidError


@pytest.mark.parametrize(("name", "side"), [("swin_tiny_solider", 7), ("swin_tiny_cion", 8)])
def test_any_size_gives_a_map_of_a_thirtysecond(name: str, side: int) -> None:
    network = SwinBackbone(name).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 96, 64)).shape == (1, 768, 3, 2)
        assert network(torch.rand(1, 3, 71, 33)).shape == (1, 768, 3, 2)
    table = network.base.stages[0].blocks[0].attn["w_msa"].relative_position_bias_table
    assert len(table) == (2 * side - 1) ** 2


def test_all_but_the_semantic_layers_learns() -> None:
    network = SwinBackbone("swin_tiny_solider", drop_path=0.5).train()
    network(torch.rand(8, 3, 64, 32)).square().sum().backward()
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in network.named_parameters() if "semantic" in name}


def test_the_weight_modulates_and_a_new_network_ignores_it() -> None:
    torch.manual_seed(0)
    low, high = (SwinBackbone("swin_tiny_solider", semantic_weight=weight).eval() for weight in (0.2, 1.0))
    high.load_state_dict(low.state_dict())
    images = torch.rand(2, 3, 64, 32)
    with torch.inference_mode():
        assert torch.equal(low(images), high(images))
        for network in (low, high):
            for layer in network.base.semantic_embed_w:
                layer.weight.copy_(torch.tensor([1.0, 0.0]).expand_as(layer.weight))
        assert not torch.allclose(low(images), high(images), atol=1e-3)


def test_images_of_a_batch_do_not_touch_one_another() -> None:
    network = SwinBackbone("swin_tiny_solider").eval()
    images = torch.rand(3, 3, 96, 64)
    with torch.inference_mode():
        alone = torch.cat([network(image[None]) for image in images])
        assert torch.allclose(network(images), alone, atol=1e-4)


def test_there_is_no_download() -> None:
    record = backbone("swin_base_solider")
    assert record.weights is not None
    with pytest.raises(ReidError, match=r"no download for swin_base_solider.*MODEL.PRETRAIN_PATH"):
        record.weights()
