"""Plain-loop twins of the losses: one anchor, one group, one identity at a time, as the papers read.

The tests hold the losses to them, and ``benchmarks/losses.py`` measures the losses against them. They share
no code with the package.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def plain_distances(anchor: Tensor, candidates: Tensor, metric: str) -> Tensor:
    """Distances (C,) from one vector (D,) to others (C, D), from their differences."""
    if metric == "cosine":
        return 1.0 - candidates @ anchor / (candidates.norm(dim=1) * anchor.norm())
    if metric == "sqeuclidean":
        return (candidates - anchor).square().sum(1)
    return (candidates - anchor).norm(dim=1)


def plain_hinge(positive: Tensor, negative: Tensor, margin: float | None) -> Tensor:
    """Loss of one triplet."""
    difference = positive - negative
    return torch.log1p(difference.exp()) if margin is None else (difference + margin).clamp_min(0.0)


def plain_anchor_losses(
    anchors: Tensor, candidates: Tensor, ids: Tensor, margin: float | None, metric: str
) -> list[Tensor]:
    """Batch-hard loss of each anchor that has a positive and a negative; rows of one index show one image."""
    losses = []
    for index in range(len(ids)):
        positives = ids == ids[index]
        negatives = ~positives
        positives[index] = False
        if not positives.any() or not negatives.any():
            continue
        distances = plain_distances(anchors[index], candidates, metric)
        losses.append(plain_hinge(distances[positives].max(), distances[negatives].min(), margin))
    return losses


def plain_triplet(embeddings: Tensor, ids: Tensor, margin: float | None, metric: str = "euclidean") -> Tensor:
    """Twin of BatchHardTripletLoss."""
    losses = plain_anchor_losses(embeddings, embeddings, ids, margin, metric)
    return torch.stack(losses).mean() if losses else embeddings.sum() * 0.0


def plain_centroid_groups(embeddings: Tensor, ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Vectors and identities of each group k: the k-th images, and the means of the images beside them."""
    rows_of: dict[int, list[int]] = {}
    for row, identity in enumerate(ids.tolist()):
        rows_of.setdefault(identity, []).append(row)
    groups = []
    for k in range(max(len(rows) for rows in rows_of.values())):
        vectors, labels = [], []
        for identity, rows in rows_of.items():
            if k >= len(rows):
                continue
            vectors.append(embeddings[rows[k]])
            labels.append(identity)
            others = rows[:k] + rows[k + 1 :]
            if others:
                vectors.append(embeddings[others].mean(0))
                labels.append(identity)
        groups.append((torch.stack(vectors), torch.tensor(labels)))
    return groups


def plain_centroid_triplet(
    embeddings: Tensor, ids: Tensor, margin: float | None, metric: str = "euclidean"
) -> Tensor:
    """Twin of CentroidTripletLoss."""
    means = []
    for vectors, labels in plain_centroid_groups(embeddings, ids):
        losses = plain_anchor_losses(vectors, vectors, labels, margin, metric)
        if losses:
            means.append(torch.stack(losses).mean())
    return torch.stack(means).mean() if means else embeddings.sum() * 0.0


def plain_octuplet(
    high: Tensor,
    low: Tensor,
    ids: Tensor,
    margin: float | None,
    metric: str = "euclidean",
    terms: tuple[str, ...] = ("hh", "hl", "lh", "ll"),
) -> Tensor:
    """Twin of OctupletLoss."""
    views = {"h": high, "l": low}
    losses = [
        loss
        for anchor, candidate in terms
        for loss in plain_anchor_losses(views[anchor], views[candidate], ids, margin, metric)
    ]
    return torch.stack(losses).sum() * len(terms) / len(losses) if losses else (high + low).sum() * 0.0


def plain_center(embeddings: Tensor, centers: Tensor, ids: Tensor) -> Tensor:
    """Twin of CenterLoss."""
    total = embeddings.sum() * 0.0
    for vector, identity in zip(embeddings, ids.tolist(), strict=True):
        total = total + (vector - centers[identity]).square().sum()
    return total / len(ids)


def plain_identity(features: Tensor, weight: Tensor, ids: Tensor, smoothing: float) -> Tensor:
    """Twin of IdentityLoss."""
    total = features.sum() * 0.0
    for feature, identity in zip(features, ids.tolist(), strict=True):
        log_probabilities = F.log_softmax(weight @ feature, dim=0)
        target = torch.full_like(log_probabilities, smoothing / len(weight))
        target[identity] += 1.0 - smoothing
        total = total - (target * log_probabilities).sum()
    return total / len(ids)


def plain_weighted_triplet(
    embeddings: Tensor, ids: Tensor, margin: float | None, metric: str = "euclidean"
) -> Tensor:
    """Twin of WeightedTripletLoss."""
    losses = []
    for index in range(len(ids)):
        positives = [row for row in range(len(ids)) if row != index and ids[row] == ids[index]]
        negatives = [row for row in range(len(ids)) if ids[row] != ids[index]]
        if not positives or not negatives:
            continue
        near = plain_distances(embeddings[index], embeddings[positives], metric)
        far = plain_distances(embeddings[index], embeddings[negatives], metric)
        positive = (near * near.exp()).sum() / near.exp().sum()
        negative = (far * (-far).exp()).sum() / (-far).exp().sum()
        losses.append(plain_hinge(positive, negative, margin))
    return torch.stack(losses).mean() if losses else embeddings.sum() * 0.0


def plain_cosine_identity(
    embeddings: Tensor, weight: Tensor, ids: Tensor, smoothing: float, margin: str, size: float, scale: float
) -> Tensor:
    """Twin of CosineIdentityLoss, one score at a time."""
    losses = []
    for embedding, own in zip(embeddings, ids.tolist(), strict=True):
        scores = []
        for index, row in enumerate(weight):
            cosine = (embedding / embedding.norm()) @ (row / row.norm())
            if margin == "circle" and index == own:
                score = (1 + size - cosine.detach()).clamp_min(0) * (cosine - (1 - size))
            elif margin == "circle":
                score = (cosine.detach() + size).clamp_min(0) * (cosine - size)
            elif index != own:
                score = cosine
            elif margin == "cosface":
                score = cosine - size
            else:
                angle = torch.acos(cosine)
                score = torch.cos(angle + size) if angle + size < torch.pi else cosine - size * float(np.sin(size))
            scores.append(scale * score)
        target = torch.full((len(weight),), smoothing / len(weight), dtype=embeddings.dtype)
        target[own] += 1 - smoothing
        losses.append(-(target * torch.stack(scores).log_softmax(0)).sum())
    return torch.stack(losses).mean()


def plain_circle(embeddings: Tensor, ids: Tensor, margin: float, scale: float) -> Tensor:
    """Twin of PairwiseCircleLoss."""

    def loss(positive: list[Tensor], negative: list[Tensor]) -> Tensor:
        near = sum((-scale * (1 + margin - p.detach()).clamp_min(0) * (p - 1 + margin)).exp() for p in positive)
        far = sum((scale * (n.detach() + margin).clamp_min(0) * (n - margin)).exp() for n in negative)
        return torch.log1p(near * far)

    return _over_images(embeddings, ids, loss)


def plain_multi_similarity(
    embeddings: Tensor, ids: Tensor, threshold: float, a: float, b: float, mining: float
) -> Tensor:
    """Twin of MultiSimilarityLoss."""

    def loss(positive: list[Tensor], negative: list[Tensor]) -> Tensor:
        hard_positive = [p for p in positive if p - mining < max(negative)]
        hard_negative = [n for n in negative if n + mining > min(positive)]
        near = sum(((-a * (p - threshold)).exp() for p in hard_positive), torch.zeros(1, dtype=embeddings.dtype))
        far = sum(((b * (n - threshold)).exp() for n in hard_negative), torch.zeros(1, dtype=embeddings.dtype))
        return (torch.log1p(near) / a + torch.log1p(far) / b).sum()

    return _over_images(embeddings, ids, loss)


def _over_images(embeddings: Tensor, ids: Tensor, loss: Callable[[list[Tensor], list[Tensor]], Tensor]) -> Tensor:
    """The mean of a loss of an image's cosines to its own identity and to others, where it has both."""
    losses = []
    for index in range(len(ids)):
        cosines = 1 - plain_distances(embeddings[index], embeddings, "cosine")
        positive = [cosines[row] for row in range(len(ids)) if row != index and ids[row] == ids[index]]
        negative = [cosines[row] for row in range(len(ids)) if ids[row] != ids[index]]
        if positive and negative:
            losses.append(loss(positive, negative))
    return torch.stack(losses).mean() if losses else embeddings.sum() * 0.0
