"""Images to features: a backbone and its head."""

from torch import Tensor, nn

from modelling.heads import BNNeck, Features


class FeatureExtractor(nn.Module):
    """What training improves and everything else uses.

    Args:
        backbone: (N, 3, H, W) -> (N, D, h, w), with ``out_channels`` = D.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = BNNeck(int(backbone.out_channels))  # type: ignore[arg-type]

    @property
    def dim(self) -> int:
        """Number of components of an embedding."""
        return self.head.dim

    def forward(self, images: Tensor) -> Features:
        """(N, 3, H, W) normalised images -> features before and after the BNNeck, each (N, D)."""
        features: Features = self.head(self.backbone(images))
        return features
