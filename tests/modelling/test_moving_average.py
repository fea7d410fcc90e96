import torch
from torch import nn

from modelling.moving_average import MovingAverage
from tests.support import NoWaiting


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_it_follows_the_network_as_a_plain_loop_does() -> None:
    live = network()
    average = MovingAverage(live, 0.7)
    reference = {name: tensor.double().clone() for name, tensor in live.state_dict().items()}
    for step in range(12):
        for tensor in live.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape) * 9)
        average.update(live, step)
        keep = min(0.7, (1 + step) / (10 + step))
        for name, tensor in live.state_dict().items():
            is_count = name.endswith("num_batches_tracked")
            reference[name] = tensor.double() if is_count else keep * reference[name] + (1 - keep) * tensor
    for name, tensor in average.network.state_dict().items():
        torch.testing.assert_close(tensor.double(), reference[name], rtol=1e-5, atol=1e-5)


def test_it_needs_no_gradient_and_never_waits() -> None:
    live = network()
    average = MovingAverage(live, 0.9)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in live.parameters())
    with NoWaiting():
        average.update(live, 3)
    for own, other in zip(average.network.state_dict().values(), live.state_dict().values(), strict=True):
        assert own.data_ptr() != other.data_ptr()
        torch.testing.assert_close(own, other)
