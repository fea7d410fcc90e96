"""Random erasing (Zhong et al., AAAI 2020): the box is drawn with the image, the device fills it."""

import math

import torch
from torch import Tensor, nn

NO_BOX = (0, 0, 0, 0)
_AREA = (0.02, 0.4)  # of a box, relative to the image
_LOG_RATIO = torch.tensor([0.3, 1 / 0.3]).log().tolist()  # of its height to its width
_NOISE = 2**20  # numbers among which the noise of a box begins
_PRIMES = (73856093, 19349663, 83492791, 49979687)


def draw_box(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height, width of the box to erase, with the draws of torchvision.

    None of ten random shapes may fit into the image; then nothing is erased.
    """
    for _ in range(10):
        area = height * width * torch.empty(1).uniform_(*_AREA).item()
        ratio = torch.empty(1).uniform_(*_LOG_RATIO).exp_().item()
        rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if rows < height and columns < width:
            top, left = torch.randint(height - rows + 1, ()), torch.randint(width - columns + 1, ())
            return int(top), int(left), rows, columns
    return NO_BOX


class Eraser(nn.Module):
    """Fills the boxes of a normalized batch in place.

    Args:
        fill: ``mean`` (0 after normalization), ``zero`` (black) or ``noise`` (a normal number for each value, the
            same ones for the same box).
        black: (3,) a black pixel after normalization.
    """

    black: Tensor
    primes: Tensor

    def __init__(self, fill: str, black: Tensor) -> None:
        super().__init__()
        self._fill = fill
        self._noise: Tensor | None = None
        self.register_buffer("black", black, persistent=False)
        self.register_buffer("primes", torch.tensor(_PRIMES), persistent=False)  # a copy to CUDA would wait for it

    def forward(self, pixels: Tensor, boxes: Tensor) -> None:
        """Fill.

        Args:
            pixels: (N, H, W, 3) float32, normalized, of any order in memory.
            boxes: (N, 4) int64, top, left, height, width; height 0 = none.
        """
        # Long rows are faster than triples.
        is_dense = pixels.is_contiguous()
        values = pixels.flatten(2) if is_dense else pixels.permute(0, 3, 1, 2)
        outside = _outside(boxes, values)
        values.mul_(outside)
        if self._fill == "zero":
            black = self.black.repeat(pixels.shape[2]) if is_dense else self.black.view(3, 1, 1)
            values.add_((1.0 - outside) * black)
        elif self._fill == "noise":
            noise = self._noise_of(boxes, pixels.shape)
            values.add_((1.0 - outside) * (noise.flatten(2) if is_dense else noise.permute(0, 3, 1, 2)))

    def _noise_of(self, boxes: Tensor, shape: torch.Size) -> Tensor:
        """Noise (N, H, W, 3): for each image a piece of one table, whose place follows from its box."""
        length = math.prod(shape[1:])
        if self._noise is None or len(self._noise) < _NOISE + length:
            table = torch.randn(_NOISE + length, generator=torch.Generator().manual_seed(0))
            self._noise = table.to(boxes.device)
        places = (boxes * self.primes).sum(1) % _NOISE
        return self._noise.unfold(0, length, 1)[places].view(shape)


def _outside(boxes: Tensor, values: Tensor) -> Tensor:
    """1 for the values of a batch (N, 3, H, W) or (N, H, W * 3) outside their image's box, 0 inside; broadcasts.

    Products of float32 are several times faster on a CPU than logic on booleans and masks.
    """
    channels = 3 if values.ndim == 3 else 1  # in a row
    y, x, height, width = boxes[:, :, None].unbind(1)
    lines = torch.arange(values.shape[-2], device=values.device)
    columns = torch.arange(values.shape[-1], device=values.device) // channels
    off_rows = ((lines < y) | (lines >= y + height)).to(values.dtype)
    off_columns = ((columns < x) | (columns >= x + width)).to(values.dtype)
    outside = torch.maximum(off_rows[:, :, None], off_columns[:, None, :])
    return outside if values.ndim == 3 else outside.unsqueeze(1)
