"""`/roots`, `/samples`, `/classes`, `/entities`, `/explain` and `/selection`: what is known of a root, a page at a time."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath
from pydantic import TypeAdapter, ValidationError

from pipeline.serve.problems import Refused, of_errors
from pipeline.serve.roots.opened import OpenedRoot
from pipeline.serve.roots.selected import MEDIA_TYPES, selected
from pipeline.serve.routes.answers import DOCUMENTED, answered, listed
from pipeline.serve.routes.search import check_count, plain
from pipeline.serve.service import Shared
from schemas.answers.samples import Explanation
from schemas.answers.serving import (
    ClassPage,
    EntityPage,
    RootName,
    SampleName,
    SamplePage,
    SelectionRequest,
    ServedRoots,
    WhereOf,
)

router = APIRouter(responses=DOCUMENTED)
WHERE = TypeAdapter(WhereOf)
MOST = 1 << 62
Root = Annotated[RootName, Query()]
Offset = Annotated[int, Query(ge=0, lt=MOST)]
Limit = Annotated[int, Query(ge=1)]
Words = Annotated[str, Query(max_length=200)]


@router.get("/roots", response_model=ServedRoots)
async def roots(service: Shared) -> Response:
    """The roots that are served, and what there is to be asked for."""
    found = [await service.do(root, lambda root=root: root.facts) for root in service.roots.all()]
    return answered(ServedRoots(roots=tuple(found)))


@router.get("/samples", response_model=SamplePage)
async def samples(  # noqa: PLR0913
    service: Shared, root: Root = None, where: Annotated[str, Query(max_length=20_000)] = "{}",
    verdict: Annotated[str, Query(max_length=200)] = "any", offset: Offset = 0, limit: Limit = 50,
) -> Response:
    """Samples in the order of the inputs. `where`: JSON, as in /search. `offset`: a place in the run; `next` of the page before."""
    opened = service.roots.get(root)
    check_count(limit, service.settings.most_hits, "limit")
    try:
        bounds = {name: plain(bound) for name, bound in WHERE.validate_json(where).items()}
    except ValidationError as error:
        refused = of_errors(error.errors(include_input=False, include_url=False, include_context=False))
        raise Refused(400, f"where: {refused.message}", field="where") from None
    page = await service.do(opened, opened.listing.samples, bounds, verdict, offset, limit)
    opened.lookup.remember((sample.uid, (sample.shard_id, sample.row)) for sample in page.samples)
    return answered(page)


@router.get("/explain/{uid}", response_model=list[Explanation])
async def explain(service: Shared, uid: Annotated[SampleName, InPath()], root: Root = None) -> Response:
    """Every column of a sample, what each rule saw, and the verdict; for each row of that uid."""
    opened = service.roots.get(root)
    return listed(await service.do(opened, lambda: opened.listing.explain(opened.rows(uid))))


@router.get("/classes", response_model=ClassPage)
async def classes(  # noqa: PLR0913
    service: Shared, root: Root = None, level: Annotated[int, Query(ge=0, lt=100)] = 0,
    parent: Annotated[int | None, Query(ge=0, lt=1 << 31)] = None, q: Words = "", offset: Offset = 0, limit: Limit = 50,
) -> Response:
    """Classes of a level, the largest first: all, those below a coarser one, or those with these words in their name."""
    opened = service.roots.get(root)
    check_count(limit, service.settings.most_hits, "limit")
    return answered(await service.do(opened, opened.listing.classes, level, parent, q, offset, limit))


@router.get("/entities", response_model=EntityPage)
async def entities(service: Shared, root: Root = None, q: Words = "", limit: Limit = 50) -> Response:
    """Entities of the run, the most frequent first: all, or those with these words in their name."""
    opened = service.roots.get(root)
    check_count(limit, service.settings.most_hits, "limit")
    return answered(await service.do(opened, opened.listing.entities, q, limit))


@router.post("/selection", response_class=Response, responses={200: {"content": {"*/*": {}}, "description": "a file"}})
async def selection(asked: SelectionRequest, service: Shared) -> Response:
    """Samples as a file: with what is known of them, as DataComp's subset, or as a list that a recipe's rules read."""
    opened = service.roots.get(asked.root)
    if asked.format == "parquet":
        check_count(len(asked.uids), service.settings.most_ids, "uids")
    content = await service.do(opened, _file, opened, asked)
    disposition = f'attachment; filename="selection.{asked.format}"'
    return Response(content, media_type=MEDIA_TYPES[asked.format], headers={"Content-Disposition": disposition})


def _file(root: OpenedRoot, asked: SelectionRequest) -> bytes:
    return selected(root, asked.uids, asked.format)
