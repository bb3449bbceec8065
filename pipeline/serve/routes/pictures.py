"""`/image` and `/thumb`: a sample's picture out of its shard."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi import Path as InPath

from pipeline.serve.roots.images import SIDES, Picture
from pipeline.serve.roots.opened import OpenedRoot
from pipeline.serve.routes.answers import DOCUMENTED
from pipeline.serve.service import Shared
from schemas.answers.serving import RootName, SampleName

router = APIRouter(responses=DOCUMENTED)
Name = Annotated[SampleName, InPath()]
Root = Annotated[RootName, Query()]
IfNoneMatch = Annotated[str | None, Header(max_length=1000)]
KEEP = "private, max-age=3600"
ALONE = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""A picture that is opened by itself runs nothing and loads nothing."""
PICTURES: dict[int | str, dict[str, Any]] = {200: {"content": {"image/*": {}}, "description": "the picture"}}


@router.get("/image/{uid}", response_class=Response, responses=PICTURES)
async def image(uid: Name, service: Shared, root: Root = None, if_none_match: IfNoneMatch = None) -> Response:
    """The bytes of a sample's picture as they are in its input shard, checked against the hash that the run stored."""
    opened = service.roots.get(root)
    picture = await service.do(opened, _picture, opened, uid)
    headers = {"ETag": f'"{picture.sha256}"', "Cache-Control": KEEP, "Content-Security-Policy": ALONE}
    if not picture.media_type.startswith("image/"):
        headers["Content-Disposition"] = 'attachment; filename="picture"'
    if if_none_match == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(picture.content, media_type=picture.media_type, headers=headers)


@router.get("/thumb/{uid}", response_class=Response, responses=PICTURES)
async def thumb(uid: Name, service: Shared, root: Root = None, size: Annotated[int, Query(ge=1, le=SIDES[-1])] = 256) -> Response:
    """A JPEG of a sample's picture, its longest side at least `size` pixels where the picture has as many, and at most 512."""
    opened = service.roots.get(root)
    content = await service.do(opened, _thumbnail, opened, uid, size)
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": KEEP, "Content-Security-Policy": ALONE})


def _picture(root: OpenedRoot, name: str) -> Picture:
    return root.images.picture(root.rows(name)[0])


def _thumbnail(root: OpenedRoot, name: str, size: int) -> bytes:
    return root.images.thumbnail(root.rows(name)[0], size)
