"""Search an embedded gallery for the images of a folder, or for one image or several.

python inference/get_similar.py --gallery_data output_dir DATASETS.ROOT_DIR ../datasets/market1501/query
    MODEL.PRETRAIN_PATH logs/market1501/resnet50/baseline/exp0/best.pth
python inference/get_similar.py --query suspect.jpg another.jpg MODEL.PRETRAIN_PATH best.pth
find photos -name '*.jpg' | python inference/get_similar.py DATASETS.ROOT_DIR - MODEL.PRETRAIN_PATH best.pth

DATASETS.ROOT_DIR is a folder, an image, or - for paths on standard input, one a line (or a zero byte after each).

OUTPUT_DIR gets results.csv (query, rank, path, identity, camera, distance), results.npz (indices, distances),
query_embeddings.npy and query_paths.npy; earlier ones are moved to earlier_1. The distance is the cosine distance, in
[0, 2]; with --no-normalize_features the squared Euclidean distance of the embeddings as they are. The gallery must
come from the same model. An index of another kind than flat is built once and kept beside the gallery. Of three
queries or less the console shows the best matches too.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a script: our packages come before any of the same names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from engine.settings import Settings
from inference.choices import CAMERAS, INDEX_KINDS
from inference.max_distance import AUTO, Sides, distance_option, max_distance
from inference.script import build_options, embed_to_disk, extractor_for, run_with_options
from utils.command_line import number, show
from utils.errors import ReidError

if TYPE_CHECKING:
    from inference.cameras import Cameras
    from inference.extract import Extractor
    from inference.gallery.store import Embeddings, Gallery
    from inference.image_paths import ImagePaths
    from inference.indexes.base import Index
    from inference.results import SearchFilter

logger = logging.getLogger(__name__)

_ON_CONSOLE = 3  # queries whose best matches the console shows


def get_similar(settings: Settings, options: argparse.Namespace) -> Path:
    """Embed the queries, search, and write the results.

    Args:
        settings: MODEL.PRETRAIN_PATH, DATASETS.ROOT_DIR, OUTPUT_DIR, INPUT, TEST.IMS_PER_BATCH.
        options: of the command line.

    Returns:
        The folder of the results.

    Raises:
        ReidError: for settings, images, a gallery or an index that do not fit.
    """
    from inference.gallery.index import load_or_build_index
    from inference.gallery.store import CSV, check_comparable, open_gallery
    from inference.index import check_kind
    from inference.queries import list_queries
    from inference.results import SearchFilter, write_results

    output = Path(settings.cfg.OUTPUT_DIR)
    check_kind(options.index, options.index_uri)
    gallery = open_gallery(options.gallery_data)
    cameras = _cameras(gallery, options)
    if settings.is_explicit("MODEL.USE_CENTROIDS"):
        _check_kind(gallery.centroids, settings.cfg.MODEL.USE_CENTROIDS)
    places = _places(settings, options.query)
    paths, junk = list_queries(places, subfolders=options.images_in_subfolders, output=output)
    extractor = extractor_for(settings, options)
    search_filter = SearchFilter(options.topk, _max_distance(settings, options, gallery, extractor), cameras)
    extractor.choose(len(paths))
    told: bool = settings.cfg.TEST.CAMERAS
    check_comparable(gallery, extractor.card, extractor.precision, told_cameras=told)
    logger.info("%d queries (%d more are junk) in a gallery of %d", len(paths), junk, len(gallery.embeddings))
    if cameras is not None and cameras.others:
        _warn_of_unknown_cameras(cameras, paths)
    index = load_or_build_index(
        gallery,
        options.gallery_data,
        options.index,
        device=extractor.device,
        normalize=options.normalize_features,
        uri=options.index_uri,
    )
    index.resolve_k(search_filter.topk)  # refuses too many before the work
    with embed_to_disk(extractor, paths, output, strict=options.strict, cameras=told) as queries:
        num_without = write_results(output, queries, gallery, index, search_filter)
        _show(output, queries, gallery, index, search_filter, options.visualize)
    if num_without:
        logger.info("%d queries have no match", num_without)
    logger.info("results: %s", output / CSV)
    return output


def _show(
    output: Path,
    queries: "Embeddings",
    gallery: "Gallery",
    index: "Index",
    search_filter: "SearchFilter",
    pictures: int,
) -> None:
    """Draw the lists of some queries, and print the best matches of a few."""
    from inference.gallery.store import PICTURES
    from inference.ranked_pictures import write_ranked_pictures
    from inference.results import best_matches

    if pictures:
        write_ranked_pictures(output / PICTURES, queries, gallery, index, search_filter, pictures)
    if len(queries) <= _ON_CONSOLE:
        show(best_matches(queries, gallery, index, search_filter))


def _max_distance(
    settings: Settings, options: argparse.Namespace, gallery: "Gallery", extractor: "Extractor"
) -> float | None:
    if options.max_distance == AUTO and not options.normalize_features:
        raise ReidError(
            f"--max_distance {AUTO} is a cosine distance, got --no-normalize_features; leave it out, or give a number"
        )
    scales = extractor.card.preprocessing.scale, gallery.model.preprocessing.scale
    sides = Sides(scales, gallery.centroids)
    return max_distance(options.max_distance, settings, extractor.card.checkpoint, extractor.report, sides)


def _warn_of_unknown_cameras(cameras: "Cameras", paths: "ImagePaths") -> None:
    if unknown := int((cameras.of_queries(paths) < 0).sum()):
        message = "%d of %d queries have no camera of the gallery: nothing is left out for them; see --other_cameras"
        logger.warning(message, unknown, len(paths))


def _places(settings: Settings, query: Sequence[str]) -> Sequence[str]:
    """Where the queries are: --query, or else DATASETS.ROOT_DIR."""
    if query and "DATASETS.ROOT_DIR" in settings.overrides:
        root = settings.cfg.DATASETS.ROOT_DIR
        raise ReidError(f"--query or DATASETS.ROOT_DIR names the queries, got {query[0]} and {root}; leave one out")
    return query or [settings.cfg.DATASETS.ROOT_DIR]


def _cameras(gallery: "Gallery", options: argparse.Namespace) -> "Cameras | None":
    """What the search must know of cameras; None where no option is about them."""
    from inference.cameras import Cameras

    source, only, by_folder = options.other_cameras, options.camera, options.camera_from_folder
    if not (source or only or by_folder):
        return None
    if gallery.centroids:
        raise ReidError(
            "--other_cameras, --camera and --camera_from_folder need a gallery of images, got centroids, which join "
            "cameras; leave them out"
        )
    if by_folder and source == "name":
        raise ReidError("--camera_from_folder contradicts --other_cameras name; give --other_cameras folder")
    by_folder = by_folder or source == "folder"
    return Cameras("folder" if by_folder else "name", gallery.embeddings.paths, others=bool(source), only=only)


def _check_kind(gallery_has_centroids: bool, use_centroids: bool) -> None:
    """Refuse MODEL.USE_CENTROIDS where the gallery is of the other kind."""
    if use_centroids != gallery_has_centroids:
        rows = "one row per identity" if gallery_has_centroids else "one row per image"
        raise ReidError(
            f"MODEL.USE_CENTROIDS is decided by the gallery, which has {rows}, got {use_centroids}; leave it out, or "
            "make the gallery again with create_embeddings.py"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Search; return the exit code."""
    parser = build_options(__doc__)
    add = parser.add_argument
    images = "images to search for, instead of DATASETS.ROOT_DIR"
    add("--query", nargs="+", action="extend", default=[], metavar="FILE", help=images)
    folder = "folder that create_embeddings.py has written (default: output_dir)"
    add("--gallery_data", type=Path, default=Path("output_dir"), metavar="DIR", help=folder)
    topk = "gallery images per query, 0 = all (default: 100)"
    add("--topk", type=number(int, 0), default=100, metavar="K", help=topk)
    normalize = "cosine distance (default); without: squared Euclidean distance"
    add("--normalize_features", action=argparse.BooleanOptionalAction, default=True, help=normalize)
    own = "leave out gallery images of the query's own camera, which the file's name or its folder tells"
    add("--other_cameras", choices=CAMERAS, help=own)
    only = "search among the gallery images of these cameras: numbers in the names of files"
    add("--camera", nargs="+", action="extend", default=[], metavar="CAMERA", help=only)
    by_folder = "the camera of an image is the folder that holds it, for --camera and results.csv"
    add("--camera_from_folder", action="store_true", help=by_folder)
    weaker = "drop weaker matches; auto: by the threshold that test.py has measured for the weights (TEST.FPR)"
    add("--max_distance", type=distance_option, metavar="D", help=weaker)
    add("--index", choices=INDEX_KINDS, default="flat", help="flat: exact (default); hnsw, ivfpq: FAISS; milvus")
    uri = "of a Milvus server, or a file ending in .db (default: milvus.db beside the gallery)"
    add("--index_uri", default="", metavar="URI", help=uri)
    pictures = "draw the lists of N queries into ranked_lists; AP: own camera included"
    add("--visualize", type=number(int, 0), default=0, metavar="N", help=pictures)
    return run_with_options(get_similar, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
