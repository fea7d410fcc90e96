"""Embed the images of a folder (DATASETS.ROOT_DIR) with a trained model: the gallery that get_similar.py searches.

python inference/create_embeddings.py DATASETS.ROOT_DIR ../datasets/market1501/bounding_box_test MODEL.PRETRAIN_PATH
    logs/market1501/resnet50/baseline/exp0/best.pth

OUTPUT_DIR gets embeddings.npy (float32, N x D, not normalized), paths.npy (N strings) and meta.json (the model). With
MODEL.USE_CENTROIDS True a row is the mean of an identity instead of an image (distractors 0000 stay single); with
--per_track it is the mean of a track, with the path of the crop that is most like it (docs/footage.md). Files whose
names say identity -1 or -2 (junk) are left out, unreadable ones are named and left out. A stopped run goes on
when its command is repeated; an earlier gallery is moved to earlier_1 when the new one is complete.

Several processes or machines: the same command with --shard 1/4 ... --shard 4/4 and a common OUTPUT_DIR (the last one
to finish joins the parts), or torchrun --nproc_per_node 4 inference/create_embeddings.py ...
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

if not __package__:  # run as a script: our packages come before any of the same names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from engine.settings import Settings
from inference.gallery.chunks import EmbeddingJob, Shard, parse_shard
from inference.script import build_options, extractor_for, run_with_options
from utils.errors import ReidError

logger = logging.getLogger(__name__)


def create_embeddings(settings: Settings, options: argparse.Namespace) -> Path | None:
    """Embed this process's shard; where it is the last, write the gallery.

    Args:
        settings: MODEL.PRETRAIN_PATH, DATASETS.ROOT_DIR, OUTPUT_DIR, MODEL.USE_CENTROIDS, INPUT, TEST.IMS_PER_BATCH.
        options: of the command line.

    Returns:
        The folder of the gallery, or None while other shards are unfinished.

    Raises:
        ReidError: for settings, images or unfinished work that do not fit.
    """
    from inference.gallery.centroids import check_identities
    from inference.gallery.finalize import finalize
    from inference.images import list_images

    folder, output = Path(settings.cfg.DATASETS.ROOT_DIR), Path(settings.cfg.OUTPUT_DIR)
    centroids, tracks = bool(settings.cfg.MODEL.USE_CENTROIDS), bool(options.per_track)
    if centroids and tracks:
        raise ReidError("--per_track and MODEL.USE_CENTROIDS True exclude one another, got both; leave one out")
    shard = options.shard.within()
    paths, junk = list_images(folder, subfolders=options.images_in_subfolders, output=output)
    if centroids or tracks:
        check_identities(paths, "MODEL.USE_CENTROIDS True" if centroids else "--per_track")
    extractor = extractor_for(settings, options)
    logger.info("%d images in %s, %d more are junk; shard %s", len(paths), folder, junk, shard)
    cameras = extractor.cameras.of_files(paths) if settings.cfg.TEST.CAMERAS else None
    model, precision = extractor.card, extractor.choose(len(paths)).precision
    description = {
        "model": model.as_dict(),
        "precision": precision,
        "rows": len(paths),
        "files": paths.digest_of_names(),
        "centroids": centroids,
        **({} if cameras is None else {"cameras": True}),
        **({"per_track": True} if tracks else {}),
    }
    job = EmbeddingJob(output, description, len(paths), shard.total)
    rows = job.rows_to_do(shard)
    with closing(extractor.stream(paths, rows, cameras, strict=options.strict)) as batches:
        job.store(rows, batches)
    origin = {
        "source": str(folder),
        "junk": junk,
        "precision": precision,
        "cameras": cameras is not None,
        "per_track": tracks,
    }
    return finalize(job, paths, model, origin, centroids=centroids, tracks=tracks)


def main(argv: Sequence[str] | None = None) -> int:
    """Embed; return the exit code."""
    parser = build_options(__doc__)
    shard = "embed the I-th of N parts only, 1/N to N/N"
    parser.add_argument("--shard", type=parse_shard, default=Shard(), metavar="I/N", help=shard)
    tracks = (
        "one row per track: images of a folder whose names tell one identity and camera (datasets.convert tracks)"
    )
    parser.add_argument("--per_track", action="store_true", help=tracks)
    interruption = "stopped; what is done is kept: repeat the command to go on"
    return run_with_options(create_embeddings, parser, argv, interruption)


if __name__ == "__main__":
    sys.exit(main())
