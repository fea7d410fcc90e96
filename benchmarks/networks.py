"""Each network as it embeds: parameters, multiply-adds of an image, images a second.

The networks have random weights. The prepared copy of each (batch normalizations folded, channels last) computes a
batch of noise that lies ready, in float32 on the CPU. Best of three; a ViT or MGN takes seconds for a batch.

    python -m benchmarks.networks [--size 256 128] [--batch 16] [NAME or NAME+HEAD ...]
"""

import argparse
import sys
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.builders.model import build_network
from engine.settings import Settings
from modelling.deployment import Embedder
from modelling.network import ReidNetwork
from utils.cpu import flush_subnormals, keep_freed_memory

_NETWORKS = (
    *("osnet_x0_25", "osnet_x1_0", "osnet_x1_0+lmbn", "resnet50", "resnet50_nl", "resnet50_ibn_a+mgn", "resnest50"),
    *("vit_small", "vit_base", "vit_base+jpm", "vit_small_ics", "vit_base_pass", "vit_small_transreid"),
    *("swin_tiny_solider", "swin_small_solider", "swin_base_solider", "clip_vit_base", "clip_resnet50"),
)


def build(name: str, size: list[int]) -> ReidNetwork:
    """A network and its head, ``resnet50+mgn``; without a head it is a BNNeck."""
    backbone, _, head = name.partition("+")
    keys = {"MODEL.NAME": backbone, "MODEL.HEAD": head or "bnneck", "MODEL.PRETRAINED": False}
    return build_network(Settings({}, keys | {"INPUT.SIZE_TRAIN": size, "INPUT.SIZE_TEST": size}).cfg).eval()


@torch.inference_mode()
def main(argv: list[str]) -> None:
    """Print a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=_NETWORKS)
    parser.add_argument("--size", type=int, nargs=2, default=[256, 128], help="height and width")
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args(argv)
    flush_subnormals()
    keep_freed_memory()
    height, width = options.size
    print(f"{height} x {width} pixels, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'network':<24}{'parameters':>12}{'multiply-adds':>15}{'images/s':>10}")
    for name in options.names:
        network = build(name, options.size)
        with FlopCounterMode(display=False) as counter:
            network.embed(torch.zeros(1, 3, height, width))
        embedder, images = Embedder(network, torch.device("cpu")), torch.randn(options.batch, 3, height, width)
        seconds = []
        for _ in range(4):
            begin = time.perf_counter()
            embedder(images)
            seconds.append(time.perf_counter() - begin)
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        operations = counter.get_total_flops() / 2e9
        print(
            f"{name:<24}{millions:>10.2f} M{operations:>13.2f} G{options.batch / min(seconds[1:]):>10.1f}", flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1:])
