"""Where a weight file is: on this machine, in a folder with its description, or on the Hugging Face Hub."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import ReidError, one_line

logger = logging.getLogger(__name__)

HUB = "hf://"
_ENDINGS = (".pth", ".pt", ".ckpt", ".tar", ".bin", ".safetensors")
# The two files of a folder of roboflow's reid and trackers.
_DESCRIPTION = "reid_config.json"
_WEIGHTS = "weights.safetensors"
OURS = "model.safetensors"
"""The weights in a folder of inference/export.py."""


class Source(NamedTuple):
    """A weight file on this machine.

    Attributes:
        path: of the file.
        description: what lies beside it about network and images, ``architecture`` and ``preprocessing``; mostly
            empty, because the tensors tell it.
    """

    path: Path
    description: Mapping[str, Any]


def find_weights(location: str) -> Source:
    """The weight file that MODEL.PRETRAIN_PATH means.

    Args:
        location: a file; a folder of inference/export.py or of roboflow's; ``hf://owner/repo/file``, or
            ``hf://owner/repo`` for a repository that has such a folder's files or one weight file. A file of the Hub
            is downloaded once.

    Raises:
        ReidError: if there is no such file, or no single one, or it cannot be downloaded.
    """
    if location.startswith(HUB):
        return _of_hub(location)
    if "://" in location:
        raise ReidError(
            f"MODEL.PRETRAIN_PATH must be a file, a folder or an address that begins with {HUB}, got {location}; "
            "download the file and give its path"
        )
    path = Path(location)
    if not path.is_dir():
        return Source(path, {})
    if (path / OURS).is_file():
        return Source(path / OURS, {})
    if not (path / _DESCRIPTION).is_file() or not (path / _WEIGHTS).is_file():
        raise ReidError(
            f"MODEL.PRETRAIN_PATH must be a file, or a folder with {OURS}, or with {_DESCRIPTION} and "
            f"{_WEIGHTS}, got {path}; name a file"
        )
    return Source(path / _WEIGHTS, _read_description(path / _DESCRIPTION))


def _of_hub(location: str) -> Source:
    owner, _, rest = location.removeprefix(HUB).strip("/").partition("/")
    name, _, file = rest.partition("/")
    if not owner or not name:
        raise ReidError(f"MODEL.PRETRAIN_PATH must be {HUB}owner/repo or {HUB}owner/repo/file, got {location}")
    repository = f"{owner}/{name}"
    logger.info("%s: from the cache or the Hugging Face Hub, which may take a while", location)
    if file:
        return Source(_download(repository, file), {})
    files = _files(repository)
    if {_DESCRIPTION, _WEIGHTS} <= set(files):
        description = _read_description(_download(repository, _DESCRIPTION))
        return Source(_download(repository, _WEIGHTS), description)
    candidates = [OURS] if OURS in files else sorted(name for name in files if name.endswith(_ENDINGS))
    if len(candidates) != 1:
        content = ", ".join(candidates[:10]) or "none"
        raise ReidError(
            f"{location} must have one weight file, but has {len(candidates)} ({content}); name one: "
            f"MODEL.PRETRAIN_PATH {HUB}{repository}/FILE"
        )
    return Source(_download(repository, candidates[0]), {})


def _files(repository: str) -> list[str]:
    hub = _hub()
    try:
        return list(hub.list_repo_files(repository))
    except Exception as error:  # a request may raise anything
        raise ReidError(
            f"the files of {HUB}{repository} cannot be listed ({one_line(error)[:200]}); check the name and the "
            f"network, or name the file, which may lie in the cache: {HUB}{repository}/FILE"
        ) from error


def _download(repository: str, file: str) -> Path:
    hub = _hub()
    try:
        return Path(hub.hf_hub_download(repository, file))
    except Exception as error:  # a download may raise anything
        raise ReidError(
            f"{HUB}{repository}/{file} is not in the cache of huggingface_hub and cannot be downloaded "
            f"({one_line(error)[:200]}); check the name and the network, or copy the file here and give its path "
            "as MODEL.PRETRAIN_PATH"
        ) from error


def _hub() -> Any:  # noqa: ANN401 (a module, which may not be installed)
    try:
        import huggingface_hub
    except ImportError as error:
        raise ReidError(f"{HUB} needs the huggingface_hub library: pip install huggingface_hub") from error
    # It logs each of its retries twice; the error says it once.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return huggingface_hub


def _read_description(path: Path) -> Mapping[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReidError(f"{path} must be readable JSON, got {one_line(error)}; copy it again") from error
    if not isinstance(description, dict) or not isinstance(description.get("architecture"), str):
        raise ReidError(f"{path} must name an architecture, got {str(description)[:100]}")
    return description
