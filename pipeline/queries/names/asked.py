"""Names for what is asked of a root, out of its own captions: for a picture, a sample, or a class that has none."""

from functools import cache

from pipeline.entities.knowledge_base import KnowledgeBase
from pipeline.queries.names.candidates import names_things
from pipeline.queries.names.cased import Naming, names
from pipeline.queries.neighbours.catalogue import Catalogue
from pipeline.queries.neighbours.query import Query
from pipeline.vectors import Floats
from schemas.answers.neighbours import Name, QueryNames

MOST = 20
"""Words of an answer."""


def query_names(catalogue: Catalogue, url: str, query: Query, count: int = MOST) -> QueryNames:
    """The words that the captions of a root have for what is asked (a picture, a sample, the centre of a class), the likeliest
    first; `url` is the root's, as it was given. Raises InputError as `Catalogue.vector` does."""
    vector = catalogue.vector(query)
    return QueryNames(root=url, query=query.words, names=tuple(picture_names(catalogue, vector)[:count]))


def picture_names(catalogue: Catalogue, vector: Floats, naming: Naming = Naming()) -> list[Name]:  # noqa: B008 (frozen)
    """The words for a picture's unit vector f32 [d]: the captions of the kept samples that are nearest to it give them. Reads the
    shards that those are in. Raises InputError where the model cannot be had."""
    found = catalogue.nearest(vector[None], naming.captions, modality="text")
    ids = found.ids[0][found.ids[0] >= 0]
    captions = [sample.caption or "" for sample in catalogue.samples(catalogue.located(ids))]
    nouns = known_nouns(catalogue.plan.recipe.entities.knowledge_base)
    words = names(
        vector, captions, catalogue.vectors(ids, "text"), catalogue.encode_text, names_things(nouns), nouns=nouns, naming=naming)
    return [Name(name=word.name, score=word.score) for word in words]


@cache
def known_nouns(knowledge_base: str) -> frozenset[str]:
    """The single words that a knowledge base has names of, in lower case."""
    return frozenset(
        lemma.lower() for lemmas in KnowledgeBase.load(knowledge_base).lemmas for lemma in lemmas if lemma.isalpha())
