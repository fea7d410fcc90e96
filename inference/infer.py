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
import csv
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a script: our packages come before any of the same names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

from datasets.readers.market import labels_of
from engine.settings import Settings
from inference.accuracy import Accuracy, count_accuracy
from inference.configured import configured_extractor
from inference.device import PRECISIONS, choose_device
from inference.embedded import embedded
from inference.gallery_centroids import gallery_centroids
from inference.image_files import list_images
from inference.index import Neighbours, build_index
from inference.neighbours import NOT_FOUND
from inference.options import own_options, run_with_options
from inference.publish import check_identities
from inference.results import NO_MATCH, Wanted, open_table, shown
from inference.store import Embeddings
from utils.errors import ReidError
from utils.files import keep_previous, written_aside

logger = logging.getLogger(__name__)

CSV = "result.csv"

_HEADER = ("query filename", "predicted class", "predicted path", "distance")


def build_options() -> argparse.ArgumentParser:
    """The options of this script."""
    parser = own_options()
    add = parser.add_argument
    add("--query_dir", type=Path, metavar="DIR", help="folder of the query images (required)")
    add("--max_distance", type=float, metavar="D", help="beyond it: no match; test.py reports a threshold")
    add("--images_in_subfolders", action="store_true", help="images in folders of both folders too")
    add("--strict", action="store_true", help="stop at the first unreadable image")
    add("--precision", choices=PRECISIONS, default="auto", help="of the backbone (default: auto)")
    return parser


def infer(settings: Settings, options: argparse.Namespace) -> Accuracy:
    """Embed both folders, search, write result.csv and print the accuracy.

    Args:
        settings: MODEL.PRETRAIN_PATH, DATASETS.ROOT_DIR, OUTPUT_DIR, INPUT, TEST.IMS_PER_BATCH.
        options: of :func:`build_options`.

    Raises:
        ReidError: for settings or images that do not fit.
    """
    if options.query_dir is None:
        raise ReidError("--query_dir must name the folder of the query images, got none; see --help")
    wanted = Wanted(1, options.max_distance)
    output, subfolders = Path(settings.cfg.OUTPUT_DIR), options.images_in_subfolders
    query_files = list_images(options.query_dir, subfolders=subfolders, output=output)
    gallery_files = list_images(Path(settings.cfg.DATASETS.ROOT_DIR), subfolders=subfolders, output=output)
    centroids: bool = settings.cfg.MODEL.USE_CENTROIDS
    if centroids:
        check_identities(gallery_files.paths)
    extractor = configured_extractor(settings, options.precision)
    logger.info("%d queries, %d gallery images", len(query_files.paths), len(gallery_files.paths))
    with (
        embedded(extractor, gallery_files.paths, output, strict=options.strict) as images,
        embedded(extractor, query_files.paths, output, strict=options.strict) as queries,
    ):
        gallery = _centroids(images) if centroids else images
        device = str(choose_device(settings.cfg.TRAINER.ACCELERATOR))
        found = build_index(gallery.vectors, device=device).search(queries.vectors, 1)
        write_predictions(output / CSV, queries, gallery, wanted.of(found))
        accuracy = count_accuracy(queries, gallery, found.indices[:, 0], centroids=centroids)
    sys.stdout.write(f"{accuracy}\n")
    logger.info("predictions: %s", output / CSV)
    return accuracy


def _centroids(images: Embeddings) -> Embeddings:
    """One row per identity, with the path of its first image."""
    means = gallery_centroids(torch.from_numpy(images.vectors), torch.from_numpy(labels_of(images.paths)[0]))
    return Embeddings(means.vectors.numpy(), np.array(images.paths[means.first_rows.numpy()]))


def write_predictions(path: Path, queries: Embeddings, gallery: Embeddings, found: Neighbours) -> None:
    """Write one line per query; an earlier file is moved to ``earlier_1``, ...

    Args:
        path: the CSV file.
        queries: Q images.
        gallery: N images.
        found: (Q, 1) neighbours.
    """
    items = found.indices[:, 0]
    empty = items == NOT_FOUND
    names = [Path(name).name for name in gallery.paths[items].tolist()]
    columns = (
        [Path(name).name for name in queries.paths.tolist()],
        np.where(empty, NO_MATCH, shown(labels_of(gallery.paths[items])[0])).tolist(),
        np.where(empty, "", names).tolist(),
        np.where(empty, "", np.char.mod("%.9f", found.distances[:, 0])).tolist(),
    )
    with written_aside(path) as aside:
        with open_table(aside) as file:
            csv.writer(file).writerows([_HEADER, *zip(*columns, strict=True)])
        if earlier := keep_previous(path.parent, (path.name,)):
            logger.info("the earlier results are now in %s", earlier)


def main(argv: Sequence[str] | None = None) -> int:
    """Infer; return the exit code."""
    return run_with_options(infer, build_options(), __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main())
