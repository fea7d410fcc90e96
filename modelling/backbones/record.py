"""What the other modules need to know about a backbone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from datasets.preprocessing import Preprocessing


@dataclass(frozen=True)
class Backbone:
    """One network. What depends on it is a field here or an attribute of its module; no code compares names.

    Attributes:
        build: ``build(input_size=(height, width), **options)`` makes the network with random weights: a module with
            the attributes ``base``, which published weights fill, and ``out_channels``. It turns (N, 3, H, W)
            images into the input of its head, a map (N, ``out_channels``, h, w) for every head of this package. It
            may have two attributes that MODEL.POOLING gem asks for: ``pooled``, whether the map is pooled already
            (default: False), and ``negative``, the share of the map that is below 0 (default: 0).
        weights: fetches the ImageNet weights of ``base``, including the classifier; None = there are none.
        preprocessing: of the images that those weights were trained on.
        options: names of the other arguments of ``build``; the key of ``last_stride`` is MODEL.LAST_STRIDE.
        classifiers: the classifying modules in published weights; a backbone leaves them out.
        fit: ``fit(base, tensors)`` turns all tensors of a file into those of ``base``, e.g. resizes position
            embeddings to the input size that ``base`` was built for; None = they fit as they are.
        extends: name of a network whose weights, without a head, fill this one too, except its ``own_layers``.
        own_layers: a text in the names of the layers that weights of that network lack; "" = there are none.
        known_by_tensors: whether the tensors of a file without a head identify this network; if not, MODEL.NAME does.
        fixed_size: whether the network takes only the input size that it was built for.
        safe_in_16_bits: whether measurements show that 16 bits do not change the mAP.
    """

    build: Callable[..., nn.Module]
    weights: Callable[[], Mapping[str, Tensor]] | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    options: tuple[str, ...] = ()
    classifiers: tuple[str, ...] = ("fc",)
    fit: Callable[[nn.Module, Mapping[str, Tensor]], dict[str, Tensor]] | None = None
    extends: str = ""
    own_layers: str = ""
    known_by_tensors: bool = False
    fixed_size: bool = False
    safe_in_16_bits: bool = False
