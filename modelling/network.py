"""Images to features: a backbone and its head."""

from collections.abc import Mapping

from torch import Tensor, nn

from modelling.heads import BNNeck, Features


class ReidNetwork(nn.Module):
    """The network that training improves and everything else uses.

    The head takes the backbone's output, which is one feature map for all heads and backbones of this package.

    Args:
        backbone: (N, 3, H, W) -> (N, C, h, w), with ``out_channels`` = C.
        head: (N, C, h, w) -> :class:`modelling.heads.Features`, with ``dim`` = D; None for a BNNeck.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head or BNNeck(int(backbone.out_channels))  # type: ignore[arg-type]

    @property
    def dim(self) -> int:
        """Number of components of an embedding."""
        return int(self.head.dim)  # type: ignore[arg-type]

    def freeze_normalization(self) -> None:
        """Exclude the parameters of the head's batch normalization from training, but not its statistics."""
        self.head.get_submodule("bn").requires_grad_(False)

    def forward(self, images: Tensor) -> Features:
        """(N, 3, H, W) normalized images -> features for metric losses and for retrieval, each (N, D)."""
        features: Features = self.head(self.backbone(images))
        return features


def with_current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name; in older ones the network is called ``extractor``."""
    old, new = "extractor.", "network."
    return {name.replace(old, new, 1) if name.startswith(old) else name: state[name] for name in state}
