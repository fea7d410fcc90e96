import numpy as np
import torch

from inference.gallery.fingerprint import VectorHasher, fingerprint_of
from tests.support import memory_budget

VECTORS = np.random.default_rng(0).standard_normal((5000, 4), np.float32)


def test_one_changed_row_of_many_is_seen() -> None:
    whole = fingerprint_of(VECTORS)
    assert (whole.rows, whole.dim) == (5000, 4)
    for row in (1, 2, 2501, 4998):  # between those that a sample would take
        changed = VECTORS.copy()
        changed[row, 3] += 1e-3
        assert fingerprint_of(changed) != whole


def test_blocks_and_kinds_of_arrays_change_nothing() -> None:
    whole = fingerprint_of(VECTORS, [str(row) for row in range(5000)])
    with memory_budget(16 * 256 * 7):
        assert fingerprint_of(torch.from_numpy(VECTORS), np.arange(5000).astype(str)) == whole
    hasher = VectorHasher()
    for rows in (slice(0, 10), slice(10, 5000)):
        hasher.add(VECTORS[rows])
    assert hasher.finish(np.arange(5000).astype(str)) == whole


def test_paths_count_and_so_do_their_borders() -> None:
    digests = {fingerprint_of(VECTORS[:2], paths).digest for paths in ((), ["a", "b"], ["ab", ""], ["b", "a"])}
    assert len(digests) == 4
    fingerprint_of(VECTORS[:1], ["caf\udce9.jpg"])
