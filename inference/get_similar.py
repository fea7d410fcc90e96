"""Search an embedded gallery for the images of a folder (DATASETS.ROOT_DIR).

python inference/get_similar.py --gallery_data output_dir DATASETS.ROOT_DIR ../datasets/market1501/query
    MODEL.PRETRAIN_PATH logs/market1501/resnet50/baseline/exp0/best.pth

OUTPUT_DIR gets results.csv (query, rank, path, identity, camera, distance), results.npz (indices, distances),
query_embeddings.npy and query_paths.npy; earlier ones are moved to earlier_1. The distance is the cosine distance, in
[0, 2]; with --no-normalize_features the squared euclidean distance of the embeddings as they are. The gallery must
come from the same model. An index of another kind than flat is built once and kept beside the gallery.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a script: our packages come before any of the same names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from engine.settings import Settings
from inference.configured import configured_extractor
from inference.device import PRECISIONS, choose_device
from inference.embedded import embedded
from inference.image_files import list_images
from inference.index import KINDS
from inference.options import own_options, run_with_options
from inference.ranked_pictures import write_ranked_pictures
from inference.results import CSV, PICTURES, Wanted, write_results
from inference.store import Gallery, check_same_model, open_gallery
from inference.stored_index import IndexSettings, open_index
from utils.errors import ReidError

logger = logging.getLogger(__name__)


def build_options() -> argparse.ArgumentParser:
    """The options of this script."""
    parser = own_options()
    add = parser.add_argument
    folder = "folder that create_embeddings.py has written (default: output_dir)"
    add("--gallery_data", type=Path, default=Path("output_dir"), metavar="DIR", help=folder)
    add("--topk", type=int, default=100, metavar="K", help="gallery images per query, 0 = all (default: 100)")
    normalize = "cosine distance (default); without: squared euclidean distance"
    add("--normalize_features", action=argparse.BooleanOptionalAction, default=True, help=normalize)
    weaker = "drop weaker matches; test.py reports a threshold"
    add("--max_distance", type=float, metavar="D", help=weaker)
    add("--index", choices=KINDS, default="flat", help="flat: exact (default); hnsw, ivfpq: FAISS; milvus")
    uri = "of a Milvus server, or a file ending in .db (default: milvus.db beside the gallery)"
    add("--index_uri", default="", metavar="URI", help=uri)
    add(
        "--visualize",
        type=int,
        default=0,
        metavar="N",
        help=f"draw the lists of N queries into {PICTURES}; AP: own camera included",
    )
    add("--images_in_subfolders", action="store_true", help="queries in folders of DATASETS.ROOT_DIR too")
    add("--strict", action="store_true", help="stop at the first unreadable query")
    add("--precision", choices=PRECISIONS, default="auto", help="of the backbone; best that of the gallery")
    return parser


def get_similar(settings: Settings, options: argparse.Namespace) -> Path:
    """Embed the queries, search, and write what is found.

    Args:
        settings: MODEL.PRETRAIN_PATH, DATASETS.ROOT_DIR, OUTPUT_DIR, INPUT, TEST.IMS_PER_BATCH.
        options: of :func:`build_options`.

    Returns:
        The folder of the results.

    Raises:
        ReidError: for settings, images, a gallery or an index that do not fit.
    """
    if options.visualize < 0:
        raise ReidError(f"--visualize must be 0 (no pictures) or more, got {options.visualize}")
    wanted = Wanted(options.topk, options.max_distance)
    device = str(choose_device(settings.cfg.TRAINER.ACCELERATOR))
    how = IndexSettings(options.index, options.normalize_features, options.index_uri, device=device)
    gallery = open_gallery(options.gallery_data)
    _check_kind(gallery, settings)
    extractor = configured_extractor(settings, options.precision)
    check_same_model(gallery.model, extractor.card)
    if gallery.precision not in ("", extractor.precision):
        there, here = gallery.precision, extractor.precision
        logger.warning("the gallery was embedded in %s, the queries in %s; see --precision", there, here)
    root, output = Path(settings.cfg.DATASETS.ROOT_DIR), Path(settings.cfg.OUTPUT_DIR)
    paths, junk = list_images(root, subfolders=options.images_in_subfolders, output=output)
    logger.info("%d queries (%d more are junk) in a gallery of %d", len(paths), junk, len(gallery.embeddings))
    index = open_index(gallery, options.gallery_data, how)
    index.asked(wanted.topk)  # a mistake is told before the work
    with embedded(extractor, paths, output, strict=options.strict) as queries:
        without = write_results(output, queries, gallery, index, wanted)
        if options.visualize:
            write_ranked_pictures(output / PICTURES, queries, gallery, index, wanted, options.visualize)
    if without:
        logger.info("%d queries have no match", without)
    logger.info("results: %s", output / CSV)
    return output


def _check_kind(gallery: Gallery, settings: Settings) -> None:
    """Refuse MODEL.USE_CENTROIDS where it was set and the gallery is of the other kind."""
    wanted = settings.explicit.get("MODEL.USE_CENTROIDS")
    if wanted is not None and wanted != gallery.centroids:
        has = "one row per identity" if gallery.centroids else "one row per image"
        raise ReidError(
            f"MODEL.USE_CENTROIDS is decided by the gallery, which has {has}, got {wanted}; leave it out, or make "
            "the gallery anew with create_embeddings.py"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Search; return the exit code."""
    return run_with_options(get_similar, build_options(), __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main())
