"""clip-retrieval's wire API, so that its ClipClient and what was written for it go on working: `/knn-service`, `/metadata` and
`/indices-list` (clip_back.py of rom1504/clip-retrieval 2.45; `/metrics` and `/metrics-summary` are in `operation`).

As there: a body is JSON whatever its type is called; what is asked for is the first of text, image, image_url and embedding_input;
of `num_result_ids` neighbours the first `num_images` have metadata, the others id and similarity alone; near duplicates are the
connected components of cosines above 0.94, of which the best stays; unsafe is above 0.5; nothing found is an empty list. Otherwise
than there: a bad request gets a 4xx that says why, ids name a shard and a row, `image` comes out of the input shard, and what this
service has no model for (aesthetic embeddings, violence, multilingual text) is named by the header IGNORED instead of silence.
"""

import base64
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat

from pipeline.queries.neighbours.query import Query
from pipeline.select.verdicts import KEPT
from pipeline.serve.guards.pictures import from_base64
from pipeline.serve.problems import Refused
from pipeline.serve.roots.opened import OpenedRoot
from pipeline.serve.roots.results import representatives
from pipeline.serve.routes.answers import DOCUMENTED, listed
from pipeline.serve.routes.search import Question, check_count, nearest, picture_vector
from pipeline.serve.service import Nearest, Service, Shared, told
from pipeline.vectors import Floats, Ints
from schemas.answers.serving import Modality

router = APIRouter(responses=DOCUMENTED)
IGNORED = "X-Shardmill-Ignored"
SAFETY_COLUMNS = ("punsafe", "nsfw", "unsafe")
UNSAFE = 0.5


def _or_none(value: Any) -> Any:
    """The front sends empty text for what is not chosen."""
    return None if value == "" else value


Maybe = BeforeValidator(_or_none)


class KnnRequest(BaseModel):
    """As ClipClient and clip-front send it; further fields are let be."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    text: Annotated[Annotated[str, Field(max_length=10_000)] | None, Maybe] = None
    image: Annotated[str | None, Maybe] = None
    image_url: Annotated[Annotated[str, Field(max_length=4_000)] | None, Maybe] = None
    embedding_input: Annotated[list[FiniteFloat], Field(max_length=1 << 16)] | None = None
    modality: Modality
    num_images: int
    indice_name: Annotated[str, Field(max_length=200)]
    num_result_ids: Annotated[int | None, Maybe] = None
    use_mclip: bool = False
    deduplicate: bool = False
    use_safety_model: bool = False
    use_violence_detector: bool = False
    aesthetic_score: Annotated[Annotated[int, Field(ge=0, le=9)] | None, Maybe] = None
    aesthetic_weight: Annotated[FiniteFloat | None, Maybe] = None


class MetadataRequest(BaseModel):
    """Ids of an answer of /knn-service."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    ids: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 63)]], Field(max_length=1_000_000)]
    indice_name: Annotated[str, Field(max_length=200)]


@router.get("/indices-list", response_model=list[str])
async def indices_list(service: Shared) -> Response:
    """The names of the roots."""
    return listed(service.roots.names)


@router.post("/knn-service", response_model=list[dict[str, Any]])
async def knn_service(asked: KnnRequest, service: Shared) -> Response:
    """The neighbours of a text, a picture or a vector, nearest first."""
    with service.metrics.clock("full_knn_request_time"):
        root = service.roots.get(asked.indice_name, field="indice_name")
        wanted = asked.num_images if asked.num_result_ids is None else asked.num_result_ids
        check_count(asked.num_images, service.settings.most_hits, "num_images")
        check_count(wanted, service.settings.most_ids, "num_result_ids")
        vector = await _vector(service, root, asked)
        safe = _safety(service, root) if asked.use_safety_model else {}
        found = await nearest(service, Question(root, asked.modality, KEPT, safe), vector, wanted, 0)
        if asked.deduplicate:
            with service.metrics.clock("deduplication_time"):
                found = await service.do(root, _deduplicated, root, found, asked.modality)
        shown = found.ids[: asked.num_images]
        with service.metrics.clock("metadata_get_time"):
            metadata = await service.do(root, _metadata, root, shown, service.settings.wire_images)
        rows = [{**known, "id": id, "similarity": similarity} for known, id, similarity in zip(
            metadata, shown.tolist(), found.similarities.tolist(), strict=False)]
        rows += [{"id": id, "similarity": similarity} for id, similarity in zip(
            found.ids[len(shown):].tolist(), found.similarities[len(shown):].tolist(), strict=True)]
    answer = listed(rows)
    ignored = _ignored(asked, safe)
    if ignored:
        answer.headers[IGNORED] = ", ".join(ignored)
    return answer


@router.post("/metadata", response_model=list[dict[str, Any]])
async def metadata(asked: MetadataRequest, service: Shared) -> Response:
    """What is known of samples, by the ids of an answer."""
    root = service.roots.get(asked.indice_name, field="indice_name")
    if len(asked.ids) > service.settings.most_ids:
        raise Refused(400, f"at most {service.settings.most_ids:,} ids are answered at a time", field="ids")
    ids = np.asarray(asked.ids, np.int64)
    with service.metrics.clock("metadata_get_time"):
        known = await service.do(root, _metadata, root, ids, False)
    return listed([{"id": id, "metadata": of_sample} for id, of_sample in zip(asked.ids, known, strict=True)])


async def _vector(service: Service, root: OpenedRoot, asked: KnnRequest) -> Floats:
    """Of the first that is given, in clip-retrieval's order."""
    if asked.text is not None:
        return (await service.encoded(root, [asked.text]))[0]
    if asked.image is not None:
        return await picture_vector(service, root, from_base64(asked.image, service.settings.picture_bytes))
    if asked.image_url is not None:
        with service.metrics.clock("download_time"):
            content = await service.do(root, service.fetcher.fetch, asked.image_url)
        return await picture_vector(service, root, content, "image_url")
    if asked.embedding_input is None:
        raise Refused(400, "give one of text, image, image_url and embedding_input")
    with told(root):
        return root.catalogue.vector(Query(vector=asked.embedding_input))


def _safety(service: Service, root: OpenedRoot) -> dict[str, Any]:
    """The bound that leaves unsafe samples out; none where the root has no column that says so."""
    schema = root.catalogue.columns.schema
    for name in (service.settings.safety_column,) if service.settings.safety_column else SAFETY_COLUMNS:
        if name in schema.names:
            type = schema.field(name).type
            if pa.types.is_boolean(type):
                return {name: False}
            if pa.types.is_floating(type):
                return {name: {"max": UNSAFE}}
    return {}


def _ignored(asked: KnnRequest, safe: dict[str, Any]) -> list[str]:
    """What was asked for and is not to be had."""
    return [name for name, ignored in (
        ("use_safety_model", asked.use_safety_model and not safe), ("use_violence_detector", asked.use_violence_detector),
        ("aesthetic_score", asked.aesthetic_score is not None and bool(asked.aesthetic_weight)), ("use_mclip", asked.use_mclip),
    ) if ignored]


def _deduplicated(root: OpenedRoot, found: Nearest, modality: Modality) -> Nearest:
    """Without the near duplicates of what is nearer."""
    kept = representatives(root.catalogue.vectors(found.ids, modality))
    return Nearest(found.ids[kept], found.similarities[kept], found.exact, ())


def _metadata(root: OpenedRoot, ids: Ints, images: bool) -> list[dict[str, Any]]:
    """What is known of each id, i64 [n]; the picture among it where `images`. Raises Refused for an id that no sample has."""
    rows = [root.row_of_id(id) for id in ids.tolist()]
    answers = []
    for sample, row_id in zip(root.catalogue.samples(rows), rows, strict=True):
        known = {name: value for name, value in dict(sample).items() if name not in ("entities", "entity_names")}
        answers.append({**known, **root.images.metadata(row_id)})
        if images:
            picture = root.images.jpeg(row_id)
            if picture is not None:
                answers[-1]["image"] = base64.b64encode(picture).decode()
    return answers
