"""Choices of the command line: ``--help`` lists them, and must not wait for torch."""

INDEX_KINDS = ("flat", "hnsw", "ivfpq", "milvus")
"""Kinds of index, see :mod:`inference.index`."""

CAMERAS = ("name", "folder")
"""What tells the camera of an image, see :mod:`inference.cameras`."""

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
"""Precisions of the backbone; see :func:`inference.engines.plans`."""

INPUTS = ("normalized", "pixels", "fractions", "imagenet")
"""What an exported file takes, see :mod:`inference.exports.inputs`."""
