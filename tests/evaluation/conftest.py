"""Embeddings and images that tests of protocols and of reports share."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from evaluation.protocols import EvaluationData
from tests.evaluation.support import Image


@pytest.fixture
def data(tmp_path: Path) -> EvaluationData:
    """12 queries and 40 gallery images of five people and distractors, at scales 1 and 4."""
    rng = np.random.default_rng(0)

    def images(count: int, lowest: int) -> list[Image]:
        result = []
        for number in range(count):
            path = tmp_path / "images" / f"{lowest}_{number}.png"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), rng.integers(0, 255, (32, 16, 3), dtype=np.uint8))
            result.append(Image(path, int(rng.integers(lowest, 6)), int(rng.integers(1, 4))))
        return result

    query, gallery = images(12, 1), images(40, 0)
    centers = torch.randn(6, 8)
    clean = torch.stack([centers[image.person_id] for image in (*query, *gallery)])
    return EvaluationData(
        {1: clean + torch.randn_like(clean), 4: clean + 2 * torch.randn_like(clean)}, query, gallery
    )
