"""Search a gallery over HTTP: a page for people, and routes for programs.

python inference/serve.py --gallery_data output_dir --port 8000 MODEL.PRETRAIN_PATH best.pth

Open http://127.0.0.1:8000 and drop a photo. POST /search (multipart field image) answers with JSON; GET /openapi.json
describes all routes. The service answers to this machine alone unless --host says otherwise; give it a --token then.
Images can be added and deleted with --index milvus. Ctrl-C or SIGTERM stops it once the requests at work are done.
"""

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a script: our packages come before any of the same names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from engine.settings import Settings
from inference.choices import INDEX_KINDS
from inference.max_distance import Sides, distance_option, max_distance
from inference.script import build_options, extractor_for, run_with_options
from utils.command_line import number
from utils.errors import ReidError

if TYPE_CHECKING:
    from inference.extract import Extractor
    from inference.gallery.store import Gallery
    from inference.service.gallery import ServedGallery

logger = logging.getLogger(__name__)

TOKEN = "REID_TOKEN"  # of the environment
_LOOPBACK = ("127.", "::1", "localhost")
_MANY = 1_000_000  # images that a service will embed: worth measuring how


def serve(settings: Settings, options: argparse.Namespace) -> None:
    """Answer requests until the process is stopped.

    Args:
        settings: MODEL.PRETRAIN_PATH, INPUT, TEST.IMS_PER_BATCH.
        options: of the command line.

    Raises:
        ReidError: for a gallery, a model or an index that do not fit, an address that cannot be used, or libraries
            that are not installed.
    """
    try:
        import python_multipart  # noqa: F401 (FastAPI asks for it when an image arrives)

        from inference.gallery.store import check_comparable, open_gallery
        from inference.index import check_kind
        from inference.service.access import Access
        from inference.service.app import create_app
        from inference.service.server import bind, run
        from inference.service.service import Service
        from inference.service.uploads import Limits
    except ModuleNotFoundError as error:
        raise ReidError(
            f"the service needs {error.name}, which is not installed; pip install fastapi uvicorn python-multipart"
        ) from error
    check_kind(options.index, options.index_uri)
    _check_token(options.token, options.host)
    with closing(bind(options.host, options.port)) as listener:
        extractor, stored = extractor_for(settings, options), open_gallery(options.gallery_data)
        card = extractor.card
        check_comparable(stored, card, extractor.choose(_MANY).precision, told_cameras=False)
        if settings.cfg.TEST.CAMERAS:
            logger.warning("TEST.CAMERAS True has no effect: the service does not know the camera of a photo")
        sides = Sides((card.preprocessing.scale, stored.model.preprocessing.scale), stored.centroids)
        threshold = max_distance(options.max_distance, settings, card.checkpoint, extractor.report, sides)
        gallery = open_served(stored, extractor, options)
        limits = Limits(int(options.max_upload * 2**20), options.max_pixels)
        service = Service(extractor, gallery, limits, settings.cfg.TEST.IMS_PER_BATCH, threshold)
        app = create_app(service, Access(options.token, options.host))
        logger.info("%d images, index %s", gallery.last_number, gallery.kind)
        run(app, listener)


def open_served(gallery: "Gallery", extractor: "Extractor", options: argparse.Namespace) -> "ServedGallery":
    """A gallery with the index that the command line names.

    Args:
        gallery: of ``options.gallery_data``.
        extractor: that embeds the queries.
        options: ``gallery_data``, ``index``, ``index_uri``.

    Raises:
        ReidError: if they do not fit.
    """
    from inference.gallery.index import load_or_build_index, open_living
    from inference.gallery.store import ADDED
    from inference.service.gallery import FixedGallery
    from inference.service.living_gallery import LivingGallery

    folder, kind, uri = options.gallery_data, options.index, options.index_uri
    if kind != "milvus":
        return FixedGallery(gallery, load_or_build_index(gallery, folder, kind, device=extractor.device), kind)
    if gallery.centroids:
        raise ReidError("--index milvus serves images, got a gallery of centroids; choose another index")
    return LivingGallery(gallery, open_living(gallery, folder, uri), folder / ADDED)


def _check_token(token: str, host: str) -> None:
    if token and not re.fullmatch(r"[!-~]{8,}", token):
        raise ReidError(
            f"--token, or the environment's {TOKEN}, must have 8 or more printable ASCII characters and no space; "
            "choose another"
        )
    if not token and not host.startswith(_LOOPBACK):
        logger.warning("whoever reaches %s can search this gallery and see its images: give a --token", host)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve; return the exit code."""
    parser = build_options(__doc__, folders=False)
    add = parser.add_argument
    folder = "folder that create_embeddings.py has written (default: output_dir)"
    add("--gallery_data", type=Path, default=Path("output_dir"), metavar="DIR", help=folder)
    kinds = "flat: exact (default); hnsw, ivfpq: FAISS; milvus: images can be added and deleted"
    add("--index", choices=INDEX_KINDS, default="flat", help=kinds)
    uri = "of a Milvus server, or a file ending in .db (default: milvus.db beside the gallery)"
    add("--index_uri", default="", metavar="URI", help=uri)
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)")
    add("--port", type=number(int, 0, 65535), default=8000, metavar="N", help="0 = a free one (default: 8000)")
    token = f"that requests must bring: Authorization: Bearer TOKEN (default: the environment's {TOKEN})"
    add("--token", default=os.environ.get(TOKEN, ""), help=token)
    threshold = "threshold that the page marks; auto: the one that test.py measured on these weights"
    add("--max_distance", type=distance_option, metavar="D", help=threshold)
    add("--max_upload", type=number(float, 0.001, 4096), default=10, metavar="MB", help="a request (default: 10)")
    pixels = "of an image that is sent (default: 25000000)"
    add("--max_pixels", type=number(int, 1), default=25_000_000, metavar="N", help=pixels)
    return run_with_options(serve, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
