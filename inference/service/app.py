"""The routes: search, embed, the gallery and its pictures, health, metrics, and the page."""

import io
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, FastAPI, File, HTTPException, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from PIL import Image

from datasets.readers.market import UNKNOWN_ID
from inference.indexes.milvus_server import ServerAwayError
from inference.service import gallery as galleries
from inference.service.access import Access, Door
from inference.service.batching import BusyError
from inference.service.fields import (
    Deleted,
    Description,
    Embedding,
    LabelFields,
    Match,
    Matches,
    Problem,
    RowFields,
    SearchFields,
)
from inference.service.gallery import NoSuchRowError
from inference.service.living_gallery import LivingGallery
from inference.service.service import Service
from inference.service.uploads import BodyLimit
from utils.errors import ReidError, one_line
from utils.images import read_image
from utils.text import printable

logger = logging.getLogger(__name__)

_PICTURE = 640  # pixels of the longer side of a picture that is shown
_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _living(request: Request) -> LivingGallery:
    gallery = _service(request).gallery
    if not isinstance(gallery, LivingGallery):
        raise HTTPException(
            409, f"a gallery with the index {gallery.kind} cannot be changed; start with --index milvus"
        )
    return gallery


ServiceOf = Annotated[Service, Depends(_service)]
LivingOf = Annotated[LivingGallery, Depends(_living)]
router = APIRouter(responses={"4XX": {"model": Problem}, "5XX": {"model": Problem}})


@router.post("/search")
async def search(
    request: Request,
    service: ServiceOf,
    fields: Annotated[SearchFields, Query()],
    image: Annotated[UploadFile | None, File(description="a photo of one person")] = None,
) -> Matches:
    """Find the person of a photo, or of an image of the gallery, in the gallery."""
    row = fields.row
    if image is not None and row is None:
        _, vector = await service.embed(image, request)
    elif image is None and row is not None:
        vector = await service.ask(lambda: service.gallery.vector(row))
    else:
        raise HTTPException(422, "a search needs either an image (multipart field) or a row (query field)")
    cameras = tuple(fields.camera), tuple(fields.exclude_camera)
    query = galleries.Query(vector, fields.k, fields.max_distance, *cameras, row)
    return Matches(matches=[_match(match) for match in await service.search(query, request)])


@router.post("/embed")
async def embed(request: Request, service: ServiceOf, image: Annotated[UploadFile, File()]) -> Embedding:
    """The vector of a photo."""
    return Embedding(embedding=(await service.embed(image, request))[1].tolist())


@router.get("/gallery")
async def describe(service: ServiceOf) -> Description:
    """What can be searched."""
    gallery = service.gallery
    return Description(
        images=await service.ask(lambda: len(gallery)),
        index=gallery.kind,
        cameras=gallery.cameras,
        max_distance=service.max_distance,
        changes=gallery.changes,
        upload_bytes=service.limits.size,
        version=service.version,
    )


@router.get("/gallery/examples")
async def examples(service: ServiceOf, k: Annotated[int, Query(ge=1, le=100)] = 12) -> Matches:
    """Some images to begin with, drawn at random; their distance is 0."""
    matches = await service.ask(lambda: service.gallery.examples(k))
    return Matches(matches=[_match(match) for match in matches])


@router.post("/gallery", status_code=201)
async def add(
    request: Request,
    service: ServiceOf,
    gallery: LivingOf,
    fields: Annotated[LabelFields, Query()],
    image: Annotated[list[UploadFile], File(description="photos of one person by one camera")],
) -> Matches:
    """Add images to a gallery in Milvus: all of them, or none."""
    files, vectors = await service.embed_many(image, request)
    ids = [UNKNOWN_ID if number is None else number for number in (fields.person_id, fields.camera_id)]
    matches = await service.ask(lambda: gallery.add(vectors, files, *ids))
    return Matches(matches=[_match(match) for match in matches])


@router.delete("/gallery")
async def delete(service: ServiceOf, gallery: LivingOf, fields: Annotated[RowFields, Query()]) -> Deleted:
    """Delete images from a gallery in Milvus; the files of those that were not added through the service stay."""
    return Deleted(deleted=await service.ask(lambda: gallery.delete(fields.row)))


@router.get("/images/{row}", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
async def picture(service: ServiceOf, row: int) -> Response:
    """An image of the gallery, made smaller where it is large; nothing but its pixels leaves the machine."""
    path = await service.ask(lambda: service.gallery.image(row))
    content = await service.in_thread(lambda: _jpeg(path))
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})


@router.get("/health")
async def health() -> dict[str, str]:
    """Whether the service answers."""
    return {"status": "ok"}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: ServiceOf) -> str:
    """Figures for Prometheus."""
    return service.metrics()  # in the event loop, which also counts: no figure changes meanwhile


def _match(match: galleries.Match) -> Match:
    person, camera = (None if number == UNKNOWN_ID else number for number in (match.person_id, match.camera_id))
    path = printable(match.path)  # bytes that are no text have no place in JSON
    return Match(row=match.row, path=path, person_id=person, camera_id=camera, distance=match.distance)


def _jpeg(path: Path) -> bytes:
    try:
        image = Image.fromarray(read_image(path).permute(1, 2, 0).numpy())
    except ReidError as error:
        logger.warning("%s", error)
        raise HTTPException(404, "the file of this image cannot be read") from error
    image.thumbnail((_PICTURE, _PICTURE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def create_app(service: Service, access: Access) -> FastAPI:
    """The application.

    Args:
        service: what it does; closed with the application.
        access: who may ask.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(service.close)

    # FastAPI's own pages of the documentation load scripts from elsewhere.
    app = FastAPI(title="Person re-identification", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = service
    app.include_router(router)
    for path, (name, kind) in _PAGE.items():
        app.add_api_route(path, _file(name, kind), include_in_schema=False)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(NoSuchRowError, _answer(404, "the gallery has no image with this row"))
    app.add_exception_handler(BusyError, _answer(503, "too many requests wait; try again in a second"))
    app.add_exception_handler(ReidError, _unable)
    app.add_middleware(BodyLimit, size=service.limits.size)
    app.add_middleware(Door, access=access, counts=service.counts)
    return app


def _file(name: str, kind: str) -> Callable[[], Response]:
    content = (Path(__file__).parent / "page" / name).read_bytes()
    return lambda: Response(content, media_type=f"{kind}; charset=utf-8", headers={"Cache-Control": "no-cache"})


def _answer(status: int, reason: str) -> Callable[[Request, Exception], JSONResponse]:
    headers = {"Retry-After": "1"} if status == 503 else None
    return lambda _, __: JSONResponse({"detail": reason}, status, headers)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    """The first mistake in the fields of a request, in one line."""
    mistakes: Sequence[dict[str, object]] = error.errors() if isinstance(error, RequestValidationError) else ()
    where, reason = mistakes[0].get("loc", ()), mistakes[0].get("msg", "")
    name = ".".join(str(part) for part in where[1:]) if isinstance(where, tuple) else ""
    if mistakes and mistakes[0].get("type") == "extra_forbidden":
        reason = "there is no such field; GET /openapi.json names all of them"
    return JSONResponse({"detail": printable(f"{name or 'the request'}: {reason}")}, 422)


def _unable(_: Request, error: Exception) -> JSONResponse:
    """What the network or the index cannot do, such as a Milvus server that is away."""
    logger.warning("%s", one_line(error))
    headers = {"Retry-After": "5"} if isinstance(error, ServerAwayError) else None
    return JSONResponse({"detail": printable(one_line(error))}, 503, headers)
