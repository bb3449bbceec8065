"""`/`, `/assets/NAME` and `/map`: the explorer page, and what it alone asks for."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi import Path as InPath

from pipeline.serve.explorer.files import INDEX, PageFile, page_files
from pipeline.serve.problems import Refused
from pipeline.serve.routes.answers import DOCUMENTED, answered
from pipeline.serve.service import Shared
from schemas.answers.serving import MapInWork, RootName, SampleMap

router = APIRouter(responses=DOCUMENTED)
Name = Annotated[str, InPath(max_length=100)]
Root = Annotated[RootName, Query()]
IfNoneMatch = Annotated[str | None, Header(max_length=1000)]
AGAIN = "no-cache"
"""A browser asks whether a file is still the same: the page belongs to the version of the service."""
IN_WORK: dict[int | str, dict[str, Any]] = {202: {"model": MapInWork, "description": "it is being drawn: ask again"}}


@router.get("/", response_class=Response, include_in_schema=False)
async def page(if_none_match: IfNoneMatch = None) -> Response:
    """The explorer page."""
    return _sent(page_files()[INDEX], if_none_match)


@router.get("/assets/{name}", response_class=Response, include_in_schema=False)
async def asset(name: Name, if_none_match: IfNoneMatch = None) -> Response:
    """A file of the page."""
    file = page_files().get(name)
    if file is None:
        raise Refused(404, "the page has no such file")
    return _sent(file, if_none_match)


def _sent(file: PageFile, known: str | None) -> Response:
    headers = {"ETag": file.etag, "Cache-Control": AGAIN}
    if known == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


@router.get("/map", response_model=SampleMap, responses=IN_WORK)
async def sample_map(service: Shared, root: Root = None) -> Response:
    """Up to 100,000 samples of a root in two dimensions, near each other where their pictures are alike. Drawn at the first
    request, which is answered with status 202, as those are that come before it is there."""
    opened = service.roots.get(root)
    answer = await service.do(opened, service.maps.of(opened).answer)
    if isinstance(answer, MapInWork):
        in_work = answered(answer)
        in_work.status_code = 202
        return in_work
    return Response(answer, media_type="application/json")
