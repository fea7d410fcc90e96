"""Backbones alone, which can start a training."""

from modelling.weights.format import Format

FORMATS = [
    Format(
        kind="plain OSNet backbone",
        prefixes=("conv1.conv.", "conv5.conv."),
        left_out=("fc.", "classifier."),
        plain=True,
    ),
    Format(
        kind="plain ResNeSt backbone",
        prefixes=("conv1.6.weight", "layer1.0.conv2.fc1.", "layer4."),
        left_out=("fc.",),
        plain=True,
    ),
    Format(
        kind="plain ResNet backbone",
        prefixes=("conv1.weight", "layer4."),
        left_out=("fc.",),
        plain=True,
    ),
]
