"""`/search`: the samples nearest to a text, a picture, a sample, a class, an entity or a vector; `/name`: words
for a picture."""

import time
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Response

from pipeline.queries.names.asked import picture_names
from pipeline.queries.neighbours.query import Query
from pipeline.serve.guards.pictures import from_base64
from pipeline.serve.problems import Refused
from pipeline.serve.roots.opened import OpenedRoot
from pipeline.serve.routes.answers import DOCUMENTED, answered
from pipeline.serve.service import Asked, Nearest, Service, Shared, Wanted, told
from pipeline.vectors import Floats, unit
from schemas.answers.serving import Bounds, Hits, Modality, NameRequest, Names, ScoredName, SearchRequest

router = APIRouter(responses=DOCUMENTED)
FORMS = ("text", "image", "uid", "class_id", "entity", "vector")
NAMES = 20
"""Words of an answer, at most."""
NOTHING = 1e-3
"""Length below which a sum of unit vectors says nothing."""


class Question(NamedTuple):
    """Among which samples a search looks, and how."""

    root: OpenedRoot
    modality: Modality
    verdict: str
    where: dict[str, Any]
    """{column: bound}"""
    effort: int | None = None


@router.post("/search", response_model=Hits)
async def search(asked: SearchRequest, service: Shared) -> Response:
    """The samples nearest to a query, nearest first."""
    began = time.monotonic()
    root = service.roots.get(asked.root)
    check_count(asked.k, service.settings.most_hits, "k")
    vector = await query_vector(service, root, asked)
    bounds = {name: plain(bound) for name, bound in asked.where.items()}
    question = Question(root, asked.modality, asked.verdict, bounds, asked.effort)
    found = await nearest(service, question, vector, asked.k, asked.k)
    root.lookup.remember((hit.uid, (hit.shard_id, hit.row)) for hit in found.hits)
    return answered(Hits(hits=found.hits, seconds=round(time.monotonic() - began, 6), exact=found.exact))


async def nearest(service: Service, question: Question, vector: Floats, k: int, shown: int) -> Nearest:
    """The k samples nearest to a vector f32 [d], and what is known of the first `shown`."""
    where = tuple(sorted((name, _hashable(bound)) for name, bound in question.where.items()))
    wanted = Wanted(question.root, question.modality, question.verdict, where, question.effort, 1 << (k - 1).bit_length())
    return await service.nearest(wanted, Asked(vector, k, shown, question.where))


@router.post("/name", response_model=Names)
async def name(asked: NameRequest, service: Shared) -> Response:
    """Words for a picture or a sample, out of the captions of the run's own samples that are nearest to it."""
    root = service.roots.get(asked.root)
    if (asked.image is None) == (asked.uid is None):
        raise Refused(400, "give one of image and uid", field="uid" if asked.uid else None)
    service.check_encoder("image" if asked.uid is None else "uid")
    vector = await _vector(service, root, SearchRequest(image=asked.image, uid=asked.uid))
    words = await service.do(root, picture_names, root.catalogue, vector)
    return answered(Names(names=tuple(ScoredName(name=word.name, score=word.score) for word in words[:NAMES])))


def check_count(count: int, most: int, field: str) -> None:
    """Raises Refused for more than the service gives at a time, and for none."""
    if not 1 <= count <= most:
        raise Refused(400, f"{field} must be 1 to {most:,}", field=field)


async def query_vector(service: Service, root: OpenedRoot, asked: SearchRequest) -> Floats:
    """The unit vector f32 [d] of a request."""
    given = [name for name in FORMS if getattr(asked, name) is not None]
    if len(given) != 1:
        raise Refused(400, f"give exactly one of {', '.join(FORMS)}; there is {' and '.join(given) or 'none'}",
                      field=given[1] if given else None)
    texts = [text for text in (asked.text, asked.minus_text) if text is not None]
    encoded = await service.encoded(root, texts) if texts else []
    minus = encoded.pop() if asked.minus_text is not None else None
    plus = encoded[0] if encoded else await _vector(service, root, asked)
    if minus is None:
        return plus
    total = plus.astype(np.float64) - minus
    if float(np.linalg.norm(total)) < NOTHING:
        raise Refused(400, "the query comes to nothing: what is asked for and what is taken away are the same", field="minus_text")
    vector: Floats = unit(total[None])[0]
    return vector


async def _vector(service: Service, root: OpenedRoot, asked: SearchRequest) -> Floats:
    """Of what is no text."""
    catalogue = root.catalogue
    if asked.image is not None:
        return await picture_vector(service, root, from_base64(asked.image, service.settings.picture_bytes))
    if asked.uid is not None:
        name = await service.do(root, root.one, asked.uid)
        return await service.do(root, catalogue.vector, Query(uid=name))
    if asked.class_id is not None:
        return await service.do(root, catalogue.vector, Query(class_id=asked.class_id))
    if asked.entity is not None:
        return await service.do(root, catalogue.vector, Query(entity=asked.entity))
    with told(root):
        return catalogue.vector(Query(vector=asked.vector))


async def picture_vector(service: Service, root: OpenedRoot, content: bytes, field: str = "image") -> Floats:
    """The unit vector f32 [d] of an encoded picture. Raises Refused for one that cannot be read."""
    service.check_encoder(field)
    formats = root.catalogue.plan.recipe.image.allowed_formats
    with service.metrics.clock("image_prepro_time"):
        await service.do(root, service.guard.check, content, formats, field)
    with service.metrics.clock("image_clip_inference_time"):
        return await service.do(root, root.catalogue.vector, Query(image=content))


def plain(bound: Any) -> Any:
    """A bound as a recipe would have it."""
    return bound.model_dump(exclude_none=True) if isinstance(bound, Bounds) else bound


def _hashable(bound: Any) -> Hashable:
    """A bound that can be compared with another one: 1, 1.0 and true are three."""
    if isinstance(bound, Mapping):
        return tuple(sorted((name, _hashable(value)) for name, value in bound.items()))
    if isinstance(bound, list | tuple):
        return tuple(map(_hashable, bound))
    return type(bound).__name__, bound
