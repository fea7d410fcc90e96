"""What requests and answers hold: the query fields of the routes, and their JSON."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_MOST_MATCHES = 1000
_LARGEST = 2**31 - 1  # identity or camera

Number = Annotated[int, Field(ge=0, le=_LARGEST)]
Row = Annotated[int, Field(ge=0, lt=2**53)]


class Problem(BaseModel):
    """Why a request failed, in one line."""

    detail: str


class Fields(BaseModel):
    """Query fields, and no others: a misspelled one must not search or store something else."""

    model_config = ConfigDict(extra="forbid")


class SearchFields(Fields):
    """The query fields of a search."""

    row: Row | None = Field(None, description="instead of a photo: an image of the gallery")
    k: int = Field(20, ge=1, le=_MOST_MATCHES, description="matches at most")
    max_distance: float | None = Field(None, ge=0, allow_inf_nan=False)
    camera: list[Number] = Field([], max_length=1000, description="only images of these cameras")
    exclude_camera: list[Number] = Field([], max_length=1000, description="no image of these cameras")


class LabelFields(Fields):
    """Who is on images that are added, and which camera took them."""

    person_id: Number | None = None
    camera_id: Number | None = None


class RowFields(Fields):
    """Images of the gallery."""

    row: list[Row] = Field(min_length=1, max_length=1000)


class Match(BaseModel):
    """An image of the gallery."""

    row: int
    path: str
    person_id: int | None
    camera_id: int | None
    distance: float


class Matches(BaseModel):
    """The nearest images, nearest first."""

    matches: list[Match]


class Embedding(BaseModel):
    """The vector of an image, not normalized."""

    embedding: list[float]


class Description(BaseModel):
    """What can be searched, and what a request may hold.

    ``version`` changes when the rows may stand for other images; ``changes`` says whether images can be added.
    """

    images: int
    index: str
    cameras: list[int]
    max_distance: float | None
    changes: bool
    upload_bytes: int
    version: str


class Deleted(BaseModel):
    """How many images were deleted."""

    deleted: int
