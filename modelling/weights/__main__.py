"""Print what a weight file is: its family and network, the images it takes, and what would be left out of it.

``python -m modelling.weights FILE`` builds the network and fills it, so that a file that does not fit is an error.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from utils.command_line import OneLineParser, exit_code, show

if TYPE_CHECKING:
    from modelling.weights.weights import Weights


def main(argv: Sequence[str] | None = None) -> None:
    """Print the description of a file.

    Raises:
        ReidError: if the file cannot be read, is of no known family or does not fit its network.
    """
    parser = OneLineParser(prog="python -m modelling.weights", description=__doc__)
    parser.add_argument("file", metavar="FILE", help="what MODEL.PRETRAIN_PATH takes")
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="MODEL.NAME, for a backbone alone of timm, which its tensors do not tell",
    )
    options = parser.parse_args(argv)
    rows = describe(options.file, options.name or "")
    width = max(map(len, rows))
    show("".join(f"{name:{width}}  {value}\n" for name, value in rows.items()))


def describe(file: str, name: str = "") -> dict[str, str]:
    """What a file is, by the words that name each row.

    Args:
        file: as MODEL.PRETRAIN_PATH.
        name: MODEL.NAME; empty = the tensors tell it.

    Raises:
        ReidError: as :func:`main`.
    """
    # An entry point stands above all packages; torch takes longer than a mistake on the command line deserves.
    from engine.builders.model import build_network
    from engine.preprocessing import preprocessing_of
    from engine.settings import Settings
    from engine.weights import open_weights

    settings = Settings({}, {"MODEL.PRETRAIN_PATH": file} | ({"MODEL.NAME": name} if name else {}))
    weights = open_weights(settings)
    if weights is None:
        return {"file": "none"}
    cfg = settings.for_use(weights)
    network = build_network(cfg)
    weights.fill(network)
    model, images = cfg.MODEL, preprocessing_of(cfg)
    if weights.is_reid_model:
        feature = {"bn": "after", "raw": "before"}[model.RETRIEVAL_FEATURE]
        use = {
            "head": f"{model.HEAD}, pooling {model.POOLING}",
            "input": f"{images.size[0]} x {images.size[1]} pixels, {images.interpolation}, "
            f"mean {_numbers(images.mean)}, deviation {_numbers(images.std)}",
            "retrieval": f"{network.dim} components {feature} the batch normalization",
            "identities": "unknown" if weights.num_ids is None else str(weights.num_ids),
        }
    else:
        use = {"use": "the start of a training; it was not trained on identities"}
    left_out = Counter(tensor.partition(".")[0] for tensor in weights.left_out)
    return {
        "file": str(weights.path),
        "family": weights.kind,
        "network": ", ".join([model.NAME, *(f"{key} {value}" for key, value in _options(weights, model.NAME))]),
        **use,
        "cameras": str(network.num_cameras or "none"),
        "parameters": f"{sum(value.numel() for value in network.parameters()) / 1e6:.1f} M",
        "left out": ", ".join(f"{part} ({count})" for part, count in left_out.items()) or "nothing",
    }


def _options(weights: "Weights", name: str) -> list[tuple[str, object]]:
    """The options of the backbone that the file decides."""
    from modelling.backbones import backbone

    return [
        (option, weights.architecture[option]) for option in backbone(name).options if option in weights.architecture
    ]


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


if __name__ == "__main__":
    sys.exit(exit_code(main))
