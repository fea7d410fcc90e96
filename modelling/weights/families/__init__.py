"""The file formats of other projects: a file and a line here for each family."""

from modelling.weights.families import (
    cion,
    clip_reid,
    fast_reid,
    lightmbn,
    pass_reid,
    plain,
    solider,
    strong_baseline,
    torchreid,
    transreid,
)
from modelling.weights.format import Format

FORMATS: list[Format] = [
    *solider.FORMATS,
    *fast_reid.FORMATS,
    *clip_reid.FORMATS,
    *cion.FORMATS,
    *strong_baseline.FORMATS,
    *torchreid.FORMATS,
    *pass_reid.FORMATS,
    *transreid.FORMATS,
    *lightmbn.FORMATS,
    *plain.FORMATS,
]
"""A file has the first format that fits, so a format whose names are a part of another's comes after that one."""
