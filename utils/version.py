"""The one place of the version: the wheel, ``snu-reid --version``, checkpoints and CITATION.cff have this one."""

VERSION = "0.1.0"
