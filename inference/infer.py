"""Name the person on each image of --query_dir by the nearest image of a gallery folder (DATASETS.ROOT_DIR).

python inference/infer.py --query_dir ../datasets/market1501/query DATASETS.ROOT_DIR
    ../datasets/market1501/bounding_box_test MODEL.PRETRAIN_PATH logs/market1501/resnet50/baseline/exp0/best.pth

OUTPUT_DIR/result.csv gets a line per query: its file name, the identity in the name of the nearest gallery image
(empty where it tells none), that name, and the cosine distance; an earlier file is moved to earlier_1. Junk (identity
-1 or -2) is left out. The accuracy is printed twice: over all gallery images, and camera-aware as test.py counts
rank-1; both are of the nearest image, whatever --max_distance drops from the file. With MODEL.USE_CENTROIDS True the
nearest mean of an identity is meant instead of the nearest image, with the path of its first image.
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
from inference.max_distance import Sides, distance_option, max_distance
from inference.script import build_options, embed_to_disk, extractor_for, run_with_options
from utils.command_line import show

if TYPE_CHECKING:
    from inference.accuracy import Accuracy

logger = logging.getLogger(__name__)


def infer(settings: Settings, options: argparse.Namespace) -> "Accuracy":
    """Embed both folders, search, write result.csv and print the accuracy.

    Args:
        settings: MODEL.PRETRAIN_PATH, DATASETS.ROOT_DIR, OUTPUT_DIR, INPUT, TEST.IMS_PER_BATCH.
        options: of the command line.

    Raises:
        ReidError: for settings or images that do not fit.
    """
    from inference.accuracy import count_accuracy
    from inference.gallery.centroids import centroid_embeddings, check_identities
    from inference.images import list_images
    from inference.index import build_index
    from inference.queries import list_queries
    from inference.results import PREDICTIONS, SearchFilter, write_predictions

    root, output = Path(settings.cfg.DATASETS.ROOT_DIR), Path(settings.cfg.OUTPUT_DIR)
    centroids: bool = settings.cfg.MODEL.USE_CENTROIDS
    cameras: bool = settings.cfg.TEST.CAMERAS
    subfolders, strict = options.images_in_subfolders, options.strict
    query_paths = list_queries([options.query_dir], subfolders=subfolders, output=output).paths
    gallery_paths = list_images(root, subfolders=subfolders, output=output).paths
    if centroids:
        check_identities(gallery_paths)
    extractor = extractor_for(settings, options)
    scale = extractor.card.preprocessing.scale
    sides = Sides((scale, scale), centroids)
    limit = max_distance(options.max_distance, settings, extractor.card.checkpoint, extractor.report, sides)
    extractor.choose(len(query_paths) + len(gallery_paths))
    logger.info("%d queries, %d gallery images", len(query_paths), len(gallery_paths))
    with (
        embed_to_disk(extractor, gallery_paths, output, strict=strict, cameras=cameras) as images,
        embed_to_disk(extractor, query_paths, output, strict=strict, cameras=cameras) as queries,
    ):
        gallery = centroid_embeddings(images) if centroids else images
        nearest = build_index(gallery.vectors, device=extractor.device).search(queries.vectors, 1)
        write_predictions(output, queries, gallery, SearchFilter(1, limit).drop_weak(nearest))
        accuracy = count_accuracy(queries, gallery, nearest.indices[:, 0], centroids=centroids)
    show(f"{accuracy}\n")
    logger.info("predictions: %s", output / PREDICTIONS)
    return accuracy


def main(argv: Sequence[str] | None = None) -> int:
    """Infer; return the exit code."""
    parser = build_options(__doc__)
    add = parser.add_argument
    images = "folder of the query images, one image, or - for paths on standard input"
    add("--query_dir", type=Path, required=True, metavar="DIR", help=images)
    beyond = "beyond it: no match; auto: by the threshold that test.py has measured for the weights (TEST.FPR)"
    add("--max_distance", type=distance_option, metavar="D", help=beyond)
    return run_with_options(infer, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
