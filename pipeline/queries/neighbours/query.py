"""What is asked for, as one vector: texts, pictures, samples, classes and entities, added and taken away."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.entities.table import CONFIRMING, ENTITIES
from pipeline.errors import InputError, RootError
from pipeline.plan import Plan
from pipeline.queries.naming import UID, find_samples, first_of_uid, names_of
from pipeline.queries.neighbours.encoder import QueryEncoder
from pipeline.queries.rows.columns import RootColumns
from pipeline.recipe.rule_columns import spelling_hint
from pipeline.reduce.classes.taxonomy import class_place
from pipeline.store.remote.matrices import matrix_row
from pipeline.store.tables import read_table
from pipeline.vectors import Floats, unit
from schemas.reasons import ImageFault

TEXT = 10_000
"""Characters of a text, at most; models see the first hundred words."""
GLOSS = 60
"""Characters of an entity's description that tell it from another."""
LEAST = 1e-3
"""Length of a sum of unit vectors below which nothing but rounding is left of it."""
WORDS = {
    ImageFault.EMPTY: "it is empty",
    ImageFault.NOT_AN_IMAGE: "it is no image",
    ImageFault.FORMAT_NOT_ALLOWED: "its format is none of those that the root's recipe allows (image.allowed_formats)",
    ImageFault.TOO_MANY_PIXELS: "it has more pixels than the root's recipe allows (image.max_pixels)",
    ImageFault.TRUNCATED: "it ends early",
    ImageFault.UNDECODABLE: "it is damaged",
    ImageFault.TOO_COMPLEX: "it has more parts than a picture needs",
}
"""Why a picture cannot be read."""


@dataclass(frozen=True)
class Query:
    """What is asked for. The vectors of all that is given are added, each at length 1, and that of `minus_text` is taken away."""

    text: str | None = None
    minus_text: str | None = None
    image: bytes | None = None
    """an encoded picture"""
    uid: str | None = None
    """a sample, by any of its names (`naming.find_samples`): the vector of its picture"""
    class_id: int | None = None
    """a class that labels samples: its centre"""
    entity: str | None = None
    """an entity of the run, by its id or its name: the vector of its text"""
    vector: Sequence[float] | Floats | None = None

    @property
    def asks(self) -> bool:
        """Whether anything is added."""
        added = (self.text, self.image, self.uid, self.class_id, self.entity, self.vector)
        return any(value is not None for value in added)

    @property
    def words(self) -> str:
        """For people; never empty."""
        said = [] if self.text is None else [f'"{self.text}"']
        said += [f"{name} {value}" for name, value in (
            ("sample", self.uid), ("class", self.class_id), ("entity", self.entity)) if value is not None]
        said += [name for name, value in (("a picture", self.image), ("a vector", self.vector)) if value is not None]
        return " + ".join(said) + (f' - "{self.minus_text}"' if self.minus_text is not None else "")


def query_vector(plan: Plan, columns: RootColumns, encoder: QueryEncoder, query: Query) -> Floats:
    """The unit vector f32 [d] of a query. Raises InputError, which says what to do, for one that is empty or comes to nothing, a
    text, picture, sample, class, entity or vector that cannot be used, and where the model is not to be had."""
    dimension = columns.dimension
    if not query.asks:
        raise InputError("nothing is asked for: give a text, a picture, a sample, a class, an entity or a vector")
    plus: list[Floats] = []
    texts = [text for text in (query.text, query.minus_text) if text is not None]
    for problem in filter(None, map(text_problem, texts)):
        raise InputError(problem)
    if query.vector is not None:
        plus.append(checked_vectors(_numbers(query.vector), dimension)[0])
    if query.uid is not None:
        plus.append(_of_sample(plan, columns, query.uid))
    if query.class_id is not None:
        plus.append(_of_class(plan, query.class_id))
    if query.entity is not None:
        plus.append(_of_entity(plan, query.entity))
    if query.image is not None:
        vectors, [error] = encoder.images([query.image])
        if error is not None:
            raise InputError(f"the picture cannot be read: {WORDS.get(ImageFault(error), error)}")
        plus.append(vectors[0])
    encoded = list(encoder.texts(texts)) if texts else []
    minus = [encoded.pop()] if query.minus_text is not None else []
    plus += encoded
    total = np.stack([*plus, *(-vector for vector in minus)]).sum(axis=0, dtype=np.float64)
    if float(np.linalg.norm(total)) < LEAST:
        raise InputError(f"{query.words} comes to nothing: what is added and what is taken away are the same")
    return _unit(total)


def text_problem(text: str) -> str | None:
    """Why a text cannot be embedded; None where it can."""
    if not text.strip():
        return "the text is empty: say in words what to look for"
    if len(text) > TEXT:
        return f"the text has {len(text):,} characters: at most {TEXT:,} are taken, and a model sees about 100 words"
    return None


def vector_problems(vectors: NDArray[Any]) -> list[str | None]:
    """For each of the queries [q, d] why nothing can be near it; None where something can."""
    wide = vectors.astype(np.float64)
    finite = np.asarray((np.abs(wide) <= np.finfo(np.float32).max).all(axis=1))   # NaN is not below either
    longer = np.asarray((wide != 0).any(axis=1))
    return ["has values that are no finite float32 numbers" if not is_finite else None if has_length else "is all zeros"
            for is_finite, has_length in zip(finite.tolist(), longer.tolist(), strict=True)]


def checked_vectors(vectors: NDArray[Any], dimension: int) -> Floats:
    """Queries [q, d] at length 1, f32. Raises InputError for another shape or type, values that are not finite, and for zeros."""
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise InputError(f"queries are numbers [q, {dimension}], not {vectors.dtype} of shape {list(vectors.shape)}")
    if vectors.shape[1] != dimension:
        raise InputError(f"a vector of this root has {dimension} values, a query {vectors.shape[1]}: embed it by the same model")
    for number, problem in enumerate(vector_problems(vectors)):
        if problem is not None:
            raise InputError(f"query {number} {problem}, so nothing is near it")
    return unit(vectors)


def _unit(vector: NDArray[Any]) -> Floats:
    """The vector [d] at length 1, f32."""
    rows = unit(vector[None])
    return rows.reshape(-1)


def _numbers(vector: Sequence[float] | Floats) -> NDArray[Any]:
    """[1, d]. Raises InputError for what is no list of numbers."""
    try:
        return np.asarray([vector], None if isinstance(vector, np.ndarray) else np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError("a vector is a list of numbers") from None


def _of_sample(plan: Plan, columns: RootColumns, name: str) -> Floats:
    """The picture's vector. Rows of one uid are copies of one sample, so any of them will do: for a whole uid that column alone is
    read, shard by shard, and no further than it must; for another name those of all shards; for SHARD:ROW neither."""
    first = first_of_uid(plan, name.lower()) if UID.fullmatch(name) else None
    rows = find_samples(plan, name) if first is None else (first,)
    uids = {names["uid"] for names in names_of(plan, rows).values()}
    if len(uids) > 1:
        some = ", ".join(sorted(uids)[:3])
        raise InputError(f"{len(uids):,} samples of {plan.root.url} are named {name!r}: name one by its whole uid, e.g. {some}")
    for shard_id, row in rows:
        vector = columns.vector_rows(shard_id, "image_embedding", np.array([row]))
        if vector.any():
            return _unit(vector[0])
    shard_id, row = rows[0]
    raise InputError(f"sample {name} has no embedding, for it failed before: `shardmill explain {plan.root.url} {shard_id}:{row}`")


def _of_class(plan: Plan, class_id: int) -> Floats:
    fitted = plan.fitted
    try:
        place = class_place(plan.root, fitted.centroids, class_id)
        if place is None:
            raise InputError(f"{plan.root.url} has no class {class_id}; `shardmill classes {plan.root.url}` lists them")
        return _unit(matrix_row(plan.root, f"{fitted.centroids}/centroids.npy", place))
    except FileNotFoundError:
        raise RootError(f"{plan.root.url} has no classes yet: run its command again first") from None


def _of_entity(plan: Plan, wanted: str) -> Floats:
    """The vector of the text by which the entity is confirmed in pictures."""
    try:
        table = read_table(plan.root, f"{plan.calibration}/{ENTITIES}", ["id", "name", "description"])
    except FileNotFoundError:
        raise RootError(f"{plan.root.url} has no entities yet: run its command again first") from None
    for column, value in ((table.column("id"), wanted), (pc.utf8_lower(table.column("name")), wanted.lower())):
        places = np.flatnonzero(np.asarray(pc.equal(column, value)))
        if len(places) > 1:
            some = table.take(places[:8]).to_pylist()
            ids = "; ".join(f"{entity['id']} ({entity['description'][:GLOSS]})" for entity in some)
            raise InputError(f"{len(places)} entities of {plan.root.url} are named {wanted!r}: give the id of one: {ids}")
        if len(places):
            return _unit(matrix_row(plan.root, f"{plan.calibration}/{CONFIRMING}", int(places[0])))
    names = [] if re.fullmatch(r"[nQ]?\d+", wanted) else table.column("name").to_pylist()
    hint = spelling_hint(wanted, names) or ": give an id or a name that its report lists"
    raise InputError(f"no caption of {plan.root.url} mentions an entity {wanted!r}{hint}")
