"""Batch normalisations folded into the convolutions before them."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(resnet: nn.Module) -> None:
    """Fold in place each BatchNorm2d of a ResNet into the Conv2d whose output it takes.

    In evaluation both are linear, so the product of their weights, formed in float32, does the work of both. In 16
    bits that spares a pass over the feature map, and a rounding of it.

    Args:
        resnet: a network in evaluation mode whose modules register their layers in the order in which they apply
            them, as ResNets do; others may not. Normalisations of another kind (IBN) stay.
    """
    for module in list(resnet.modules()):
        for (name, conv), (next_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, next_name, nn.Identity())
