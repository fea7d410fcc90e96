"""Plain twin of a training: losses one image at a time, an optimizer of torch, one group for each parameter.

Of the packages under test it uses the network alone, which other tests hold to its paper.
"""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from datasets.batch import Batch
from tests.reference.losses import (
    plain_center,
    plain_circle,
    plain_cosine_identity,
    plain_identity,
    plain_multi_similarity,
    plain_triplet,
    plain_weighted_triplet,
)
from tests.reference.recipes import Recipe

_OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], Recipe], Optimizer]] = {
    "Adam": lambda groups, _: Adam(groups, betas=(0.9, 0.999), eps=1e-8),
    "AdamW": lambda groups, _: AdamW(groups, betas=(0.9, 0.999), eps=1e-8),
    "SGD": lambda groups, recipe: SGD(groups, momentum=recipe.momentum),
}


class PlainTraining:
    """Trains a copy of a network.

    A step is two calls, because a gradient of zero is rounding noise here and there, and Adam moves a weight by the
    whole rate whatever the size of its gradient: who compares this training with another one compares the gradients
    after :meth:`backward`, and lets both go on with the same ones.

    Args:
        network: images and cameras -> features ``raw`` and ``bn``.
        learned: the parameters of the losses by name, those of classifiers in the order of the parts; copied, too.
        recipe: of the training.
        batches: steps in an epoch.

    Attributes:
        network: the copy.
        average: its moving average.
        parameters: all that learn, by name: those of the network begin with ``network``.
        groups: of the optimizer, one for each parameter but the centers, which have their own optimizer.
    """

    def __init__(self, network: nn.Module, learned: Mapping[str, Tensor], recipe: Recipe, batches: int) -> None:
        self.network, self.recipe, self.batches = copy.deepcopy(network), recipe, batches
        self.average = copy.deepcopy(network) if recipe.average_decay else None
        own = {name: nn.Parameter(value.detach().clone()) for name, value in learned.items()}
        self.parameters = {
            f"network.{name}": value for name, value in self.network.named_parameters() if _learns(name, recipe.head)
        } | own
        self._classifiers = [value for name, value in own.items() if "classifier" in name]
        self._centers = [value for name, value in own.items() if "center" in name]
        self.groups = self._groups()
        self._optimizers = [_OPTIMIZERS[recipe.optimizer_name](list(self.groups.values()), recipe)]
        if self._centers:
            self._optimizers.append(SGD(self._centers, lr=recipe.center_lr))

    def is_frozen(self, step: int) -> bool:
        """Whether the backbone, and what the head took over from it, stays as it is in a step."""
        return step < self.recipe.frozen_steps(self.batches)

    def backward(self, batch: Batch, step: int) -> dict[str, float]:
        """Compute all gradients; return the loss of each term, and ``loss``, their weighted sum."""
        recipe, is_frozen = self.recipe, self.is_frozen(step)
        for name, module in self.network.named_modules():
            module.training = not (is_frozen and is_trunk(f"network.{name}"))
        for parameter in self.parameters.values():
            parameter.grad = None
        values = self._losses(batch)
        total = sum((weight * values[term] for term, weight in recipe.terms.items()), torch.zeros(()))
        total.backward()
        for name, parameter in self.parameters.items():
            if is_frozen and is_trunk(name):
                parameter.grad = None
        for centers in self._centers:  # they learn as if their loss had no weight
            centers.grad /= recipe.terms["center"]
        if recipe.gradient_clip_val:
            gradients = [group["params"][0] for group in self.groups.values()]
            nn.utils.clip_grad_norm_(gradients, recipe.gradient_clip_val)
        return {name: value.item() for name, value in {"loss": total, **values}.items()}

    def update(self, step: int) -> None:
        """Change the parameters by their gradients."""
        rate = self.recipe.rate(step, self.batches)
        for group in self.groups.values():
            group["lr"] = rate * group["factor"]
        for optimizer in self._optimizers:
            optimizer.step()
        if self.average is not None:
            decay, new = min(self.recipe.average_decay, (1 + step) / (10 + step)), self.network.state_dict()
            for name, value in self.average.state_dict().items():
                value.copy_(decay * value + (1 - decay) * new[name] if value.is_floating_point() else new[name])

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of each term, without its weight."""
        recipe = self.recipe
        mean, std = (torch.tensor(values)[:, None, None] for values in (recipe.mean, recipe.std))
        # In float64, because a sum of exponentials may be beyond float32.
        raw, bn = (vectors.double() for vectors in self.network((batch.images / 255 - mean) / std, batch.cameras))
        values = {}
        for term in recipe.terms:
            if term == "center":
                values[term] = plain_center(raw, self._centers[0].double(), batch.labels)
                continue
            vectors = bn if term == "identity" or recipe.metric_feature == "bn" else raw
            sizes, weights = zip(*_parts(recipe, vectors.shape[1], term), strict=True)
            values[term] = torch.zeros(())
            for index, part in enumerate(vectors.split(sizes, dim=1)):
                classifier = self._classifiers[index].double() if term == "identity" else None
                values[term] = values[term] + weights[index] * _loss(term, recipe, part, batch.labels, classifier)
        return values

    def _groups(self) -> dict[str, dict[str, Any]]:
        """The group of each parameter but the centers, by its name."""
        recipe, groups = self.recipe, {}
        above = _layers_above(list(self.parameters))
        for name, parameter in self.parameters.items():
            if "center" not in name:
                factor = recipe.layer_decay ** above[name] * (recipe.bias_lr_factor if name.endswith("bias") else 1.0)
                decays = recipe.decay_vectors or parameter.ndim > 1
                groups[name] = {
                    "params": [parameter], "weight_decay": recipe.weight_decay * decays, "factor": factor
                }  # fmt: skip
        return groups


def is_trunk(name: str) -> bool:
    """Whether a module or a tensor lies before the vectors of the network."""
    return name.startswith(("network.backbone", "network.head.branches"))


def _learns(name: str, head: str) -> bool:
    """Whether a parameter is trained: the offset after the BNNeck and the semantic layers of SOLIDER are not."""
    return not (name == "head.bn.bias" and head != "projection") and "semantic" not in name


def _layers_above(names: list[str]) -> dict[str, int]:
    """How many layers lie above each parameter; what follows the blocks belongs to the last one."""
    layers: list[str] = []
    depth = {}
    for name in names:  # in the order of the network
        block = re.match(r"network\.backbone\.base\..*?(?:layer\d|conv\d|blocks|stages)\.\d+(\.\d+)?\.", name)
        if block and block[0] not in layers:
            layers.append(block[0])
        depth[name] = len(layers)
    return {name: len(layers) - value for name, value in depth.items()}


def _parts(recipe: Recipe, dim: int, term: str) -> list[tuple[int, float]]:
    """Components and weight of each part of an embedding that has a loss of its own."""
    if recipe.head.startswith("mgn"):  # eight vectors of 256; metric losses see the stripes of a branch as one
        return [(256, 1 / 8)] * 8 if term == "identity" else [(size, 1 / 5) for size in (256, 256, 256, 512, 768)]
    if recipe.head == "jpm":  # the whole, and four groups of patches
        return [(dim // 5, 1 / 2)] + [(dim // 5, 1 / 8)] * 4
    if recipe.head == "lmbn":
        return [(512, 1 / 7)] * 7
    if recipe.network == "clip_vit_base":  # the token, and the same projected
        return [(768, 1.0), (512, 1.0)]
    return [(dim, 1.0)]


def _loss(term: str, recipe: Recipe, vectors: Tensor, ids: Tensor, classifier: Tensor | None) -> Tensor:
    margin = None if recipe.soft_margin else recipe.margin
    cosine = (recipe.classifier, recipe.classifier_margin, recipe.classifier_scale)
    losses: dict[str, Callable[[], Tensor]] = {
        "identity": lambda: (
            plain_identity(vectors, classifier, ids, recipe.label_smoothing)
            if recipe.classifier == "linear"
            else plain_cosine_identity(vectors, classifier, ids, recipe.label_smoothing, *cosine)
        ),
        "triplet": lambda: plain_triplet(vectors, ids, margin, recipe.distance_func),
        "weighted_triplet": lambda: plain_weighted_triplet(vectors, ids, margin, recipe.distance_func),
        "circle": lambda: plain_circle(vectors, ids, 0.25, 128.0),
        "multi_similarity": lambda: plain_multi_similarity(vectors, ids, 0.5, 2.0, 50.0, 0.1),
    }
    return losses[term]()
