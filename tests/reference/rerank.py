"""k-reciprocal re-ranking by its definition, one item after the other, on full matrices in float64."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def dense_k_reciprocal(query: Matrix, gallery: Matrix, k1: int, k2: int, lambda_value: float) -> Matrix:
    """Re-ranked distances (Q, G) from features (Q, D) and (G, D)."""
    x = np.concatenate([query, gallery])
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    distance = np.array([[np.sum((a - b) ** 2) for b in x] for a in x])
    distance = distance / distance.max(axis=1, keepdims=True)
    return encode_and_compare(distance, len(query), k1, k2, lambda_value)


def encode_and_compare(distance: Matrix, q: int, k1: int, k2: int, lambda_value: float) -> Matrix:
    """Encode all N items by their distances (N, N), and compare the first ``q`` with the others."""
    total = len(distance)
    # The item itself first, then by distance, equal ones by index.
    ranks = (distance.round(12) - 2 * np.eye(total)).argsort(axis=1, kind="stable").tolist()

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in ranks[i][: k + 1] if i in ranks[j][: k + 1]}

    v = np.zeros((total, total))
    for i in range(total):
        members = reciprocal(i, k1)
        expanded = set(members)
        for candidate in members:
            near = reciprocal(candidate, int(np.around(k1 / 2)))
            if len(near & members) > 2 / 3 * len(near):
                expanded |= near
        for j in expanded:
            v[i, j] = np.exp(-distance[i, j])
        v[i] /= v[i].sum()
    v = np.array([np.mean([v[j] for j in ranks[i][:k2]], axis=0) for i in range(total)])
    result = np.zeros((q, total - q))
    for i in range(q):
        for j in range(total - q):
            low, high = np.minimum(v[i], v[q + j]).sum(), np.maximum(v[i], v[q + j]).sum()
            result[i, j] = (1 - lambda_value) * (1 - low / high) + lambda_value * distance[i, q + j]
    return result


def clustered(num_queries: int, num_gallery: int, seed: int = 0, spread: float = 0.6) -> tuple[Matrix, Matrix]:
    """Features around centers, about eight items to each."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(max(1, (num_queries + num_gallery) // 8), 16))
    x = centers[rng.integers(len(centers), size=num_queries + num_gallery)]
    x = x + spread * rng.normal(size=x.shape)
    return x[:num_queries], x[num_queries:]
