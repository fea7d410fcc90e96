"""Embed the images of a folder (DATASETS.ROOT_DIR) with a trained model: the gallery that get_similar.py searches.

python inference/create_embeddings.py DATASETS.ROOT_DIR ../datasets/market1501/bounding_box_test MODEL.PRETRAIN_PATH
    logs/market1501/resnet50/baseline/exp0/best.pth

OUTPUT_DIR gets embeddings.npy (float32, N x D, not normalised), paths.npy (N strings) and meta.json (the model). With
MODEL.USE_CENTROIDS True a row is the mean of an identity instead of an image (distractors 0000 stay single). Files
whose names say identity -1 or -2 (junk) are left out, unreadable ones are named and left out. A stopped run goes on
when its command is repeated; an earlier gallery is moved to earlier_1 when the new one is complete.

Several processes or machines: the same command with --shard 1/4 ... --shard 4/4 and a common OUTPUT_DIR (the last one
to finish joins the parts), or torchrun --nproc_per_node 4 inference/create_embeddings.py ...
"""

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a script: our packages come before any of the same names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from engine.settings import Settings
from inference.configured import configured_extractor
from inference.device import PRECISIONS
from inference.extract import Extractor
from inference.image_files import list_images
from inference.image_paths import ImagePaths
from inference.options import own_options, run_with_options
from inference.publish import Finished, check_identities, publish
from inference.shares import Share, parse_share
from inference.unfinished import FOLDER, ShareFiles, begin
from utils.files import only_process

logger = logging.getLogger(__name__)

_STOPPED = "stopped; what is done is kept: repeat the command to go on"


def build_options() -> argparse.ArgumentParser:
    """The options of this script."""
    parser = own_options()
    subfolders = "images in folders of DATASETS.ROOT_DIR too, however deep"
    parser.add_argument("--images_in_subfolders", action="store_true", help=subfolders)
    parser.add_argument("--strict", action="store_true", help="stop at the first unreadable image")
    shard = "embed the I-th of N parts only, 1/N to N/N"
    parser.add_argument("--shard", type=parse_share, default=Share(), metavar="I/N", help=shard)
    precision = "of the backbone (default: auto, 16 bits for a ResNet where the hardware has them)"
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help=precision)
    return parser


def create_embeddings(settings: Settings, options: argparse.Namespace) -> Path | None:
    """Embed this process's share; where it is the last, write the gallery.

    Args:
        settings: MODEL.PRETRAIN_PATH, DATASETS.ROOT_DIR, OUTPUT_DIR, MODEL.USE_CENTROIDS, INPUT, TEST.IMS_PER_BATCH.
        options: of :func:`build_options`.

    Returns:
        The folder of the gallery, or None while other shares are unfinished.

    Raises:
        ReidError: for settings, images or unfinished work that do not fit.
    """
    folder, output = Path(settings.cfg.DATASETS.ROOT_DIR), Path(settings.cfg.OUTPUT_DIR)
    paths, junk = list_images(folder, subfolders=options.images_in_subfolders, output=output)
    centroids: bool = settings.cfg.MODEL.USE_CENTROIDS
    if centroids:
        check_identities(paths)
    extractor = configured_extractor(settings, options.precision)
    share = options.shard.within()
    logger.info("%d images in %s, %d more are junk; share %s", len(paths), folder, junk, share)
    job = {
        "model": vars(extractor.card),
        "precision": extractor.precision,
        "rows": len(paths),
        "files": paths.digest_of_names(),
        "centroids": centroids,
        "shares": share.total,
    }
    if begin(output, job):
        logger.info("going on with unfinished work in %s", output / FOLDER)
    shares = [_files(output, Share(number, share.total), paths, extractor) for number in range(1, share.total + 1)]
    _embed(extractor, paths, share, shares[share.number - 1], strict=options.strict)
    origin = {"source": str(folder), "junk": junk, "precision": extractor.precision}
    return _join(output, Finished(shares, paths, extractor.card, origin), centroids=centroids)


def _embed(extractor: Extractor, paths: ImagePaths, share: Share, files: ShareFiles, *, strict: bool) -> None:
    with only_process(files.lock, wait=False):
        files.create()
        first, _ = share.rows(len(paths))
        rows = files.rows_to_do()
        try:
            for done, vectors in extractor.stream(paths, rows + first, strict=strict):
                files.put(done - first, vectors)
        finally:
            files.commit()
        files.finish()


def _join(output: Path, job: Finished, *, centroids: bool) -> Path | None:
    unfinished = output / FOLDER
    try:
        with only_process(unfinished / "join.lock", wait=True):
            if not unfinished.is_dir():
                return output
            missing = sum(not share.complete for share in job.shares)
            if missing:
                logger.info("%d of %d shares are still to be finished", missing, len(job.shares))
                return None
            rows = publish(output, job, centroids=centroids)
            unfinished.rename(output / f".{FOLDER}.{os.getpid()}")
            for finished in output.glob(f".{FOLDER}.*"):  # of a process that was killed here, too
                shutil.rmtree(finished, ignore_errors=True)
    except FileNotFoundError:
        if unfinished.is_dir():
            raise
        return output  # another process was last too, and faster
    logger.info("%d %s of %d components in %s", rows, "identities" if centroids else "images", job.model.dim, output)
    return output


def _files(output: Path, share: Share, paths: ImagePaths, extractor: Extractor) -> ShareFiles:
    first, end = share.rows(len(paths))
    return ShareFiles(output, share, end - first, extractor.card.dim)


def main(argv: Sequence[str] | None = None) -> int:
    """Embed; return the exit code."""
    return run_with_options(create_embeddings, build_options(), __doc__ or "", argv, _STOPPED)


if __name__ == "__main__":
    sys.exit(main())
