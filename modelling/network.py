"""Images to features: a backbone and its head."""

from collections.abc import Mapping

from torch import Tensor, nn

from modelling.heads import BNNeck, Features, Head


class ReidNetwork(nn.Module):
    """The network that training improves and everything else uses.

    Args:
        backbone: (N, 3, H, W) -> the input of the head, for most heads a map (N, C, h, w) with ``out_channels`` = C.
            A backbone with ``num_cameras`` above 0 takes the cameras of the images too.
        head: of the backbone's output; None for a BNNeck.
        retrieval: which of the two features retrieval compares, ``bn`` or ``raw``.
    """

    def __init__(self, backbone: nn.Module, head: Head | None = None, retrieval: str = "bn") -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head or BNNeck(int(backbone.out_channels))  # type: ignore[arg-type]
        self._retrieval = retrieval

    @property
    def dim(self) -> int:
        """Number of components of an embedding."""
        return self.head.dim

    @property
    def num_cameras(self) -> int:
        """Cameras that the network knows, numbered from 0; 0 = it does not look at cameras."""
        return int(getattr(self.backbone, "num_cameras", 0))

    @property
    def trunk(self) -> tuple[nn.Module, ...]:
        """All layers before the vectors: the backbone, and what a head of branches took over from it."""
        return (self.backbone,) if self.head.branches is None else (self.backbone, self.head.branches)

    def freeze_normalization(self) -> None:
        """Exclude the parameters of the head's batch normalization from training, but not its statistics."""
        self.head.get_submodule("bn").requires_grad_(False)

    def forward(self, images: Tensor, cameras: Tensor | None = None) -> Features:
        """(N, 3, H, W) normalized images -> features for losses and for retrieval, each (N, D).

        Args:
            images: float32.
            cameras: (N,) int64, of the images; -1 or None = unknown. A network that knows no cameras ignores them.
        """
        output = self.backbone(images, cameras) if self.num_cameras else self.backbone(images)
        features: Features = self.head(output)
        return features

    def embed(self, images: Tensor, cameras: Tensor | None = None) -> Tensor:
        """The vectors that retrieval compares, (N, D) float32, not normalized; arguments as for :meth:`forward`."""
        features = self(images, cameras)
        return self.head.scaled(features.bn if self._retrieval == "bn" else features.raw)


def with_current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name; in older ones the network is called ``extractor``."""
    old, new = "extractor.", "network."
    return {name.replace(old, new, 1) if name.startswith(old) else name: state[name] for name in state}
