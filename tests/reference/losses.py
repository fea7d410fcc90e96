"""Plain-loop twins of the losses: one anchor, one group, one identity at a time, as the papers read.

The tests hold the losses to them, and ``benchmarks/losses.py`` measures the losses against them. They share
no code with the package.
"""

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
