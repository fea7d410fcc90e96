"""Whether tensors of a file fit a network, said tensor by tensor."""

from collections.abc import Mapping, Set

from torch import Tensor

from utils.errors import ReidError


def check_fit(target: Mapping[str, Tensor], given: Mapping[str, Tensor], optional: Set[str], origin: str) -> None:
    """Refuse tensors that do not fit.

    Args:
        target: the network's tensors by name.
        given: the file's, under the same names.
        optional: names that may be missing; counters of batches, absent in old files, always may.
        origin: what the message calls the file.

    Raises:
        ReidError: if a tensor is missing, unknown or of another shape; the message names the first three.
    """
    problems = [
        f"{name} is missing"
        for name in target
        if name not in given and name not in optional and not name.endswith("num_batches_tracked")
    ]
    problems += [f"{name} is unknown" for name in given if name not in target]
    problems += [
        f"{name} has shape {tuple(tensor.shape)} instead of {tuple(target[name].shape)}"
        for name, tensor in given.items()
        if name in target and tensor.shape != target[name].shape
    ]
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ReidError(f"{origin} does not fit the network of MODEL.NAME: {'; '.join(problems[:3])}{more}")
