"""PyTorch computes."""

from inference.engines.base import Embed, Engine, Plan, Source
from modelling.deployment import LAYOUTS, PRECISIONS, Embedder


def _build(source: Source, plan: Plan) -> Embed:
    return Embedder(source.network, source.device, plan.precision, plan.layout)


TORCH = Engine(_build, tuple(PRECISIONS), tuple(LAYOUTS), ("cpu", "cuda"), takes_cameras=True)
