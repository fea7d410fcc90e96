"""What the other packages have to know about a backbone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from datasets.preprocessing import Preprocessing


@dataclass(frozen=True)
class Backbone:
    """One network; this record decides whatever depends on the network, and no code asks for its name.

    Attributes:
        build: ``build(input_size=(height, width), **options)`` makes the network with random weights: a module with
            the attributes ``base``, which published weights fill, and ``out_channels``. It turns (N, 3, H, W)
            images into what its head takes: a map (N, ``out_channels``, h, w) for every head in this package.
        weights: fetches the ImageNet weights of ``base``, the classifier included; None = there are none to fetch.
        preprocessing: of the images on which those weights were trained.
        options: what else ``build`` takes, by name; the key of ``last_stride`` is MODEL.LAST_STRIDE.
        classifiers: the modules of published weights that classify; a backbone leaves them out.
        fit: ``fit(base, tensors)`` turns all tensors of a file into those of ``base``, e.g. resizes position
            embeddings to the input size that ``base`` was built for; None = they fit as they are.
        known_by_tensors: whether the tensors of a file without a head tell that it is of this network; if not,
            MODEL.NAME tells it.
        fixed_size: whether the network takes no other input size than the one that it was built for.
        folds_batch_norm: whether its modules register each BatchNorm2d right after the Conv2d whose output it
            takes, so that inference may fold the one into the other.
        safe_in_16_bits: whether 16 bits are known to leave the mAP where it is.
    """

    build: Callable[..., nn.Module]
    weights: Callable[[], Mapping[str, Tensor]] | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    options: tuple[str, ...] = ()
    classifiers: tuple[str, ...] = ("fc",)
    fit: Callable[[nn.Module, Mapping[str, Tensor]], dict[str, Tensor]] | None = None
    known_by_tensors: bool = False
    fixed_size: bool = False
    folds_batch_norm: bool = False
    safe_in_16_bits: bool = False
