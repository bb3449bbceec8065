"""The hits of a query as one HTML page that loads nothing. Captions and names come from the open web: see `page.py` for how they
are kept from being anything but text."""

from pipeline.plan import Plan
from pipeline.queries.neighbours.saved import place_of, tidied
from pipeline.report.page import rendered
from pipeline.report.pictures import read_pictures, thumbnail_of
from schemas.answers.neighbours import QueryHits

SHOWN = 500
"""Hits on a page, at most: some megabytes of thumbnails."""


def hits_page(plan: Plan, answer: QueryHits, asked_picture: bytes | None = None) -> str:
    """The page as HTML. Reads the pictures of the first SHOWN hits from the input shards that they are in; one that is gone or
    changed leaves its card without a picture. `asked_picture`: what was asked about, encoded."""
    hits = answer.hits[:SHOWN]
    rows = [(hit.shard_id, hit.row) for hit in hits]
    pictures = read_pictures(plan, rows, large=rows)
    best = max((hit.similarity for hit in hits), default=0.0)
    entries = [
        (hit, pictures.picture(row), f"{100 * max(0.0, hit.similarity) / best:.1f}" if best > 0 else "0")
        for hit, row in zip(hits, rows, strict=True)]
    thumbnail = None if asked_picture is None else thumbnail_of(asked_picture, plan.recipe, large=True)
    return rendered("hits", "hits", answer=answer, entries=entries, asked_picture=thumbnail)


def write_hits_page(plan: Plan, answer: QueryHits, path: str, asked_picture: bytes | None = None) -> None:
    """Writes the page to a file or URL that ends in .html, and replaces what is there. Raises InputError for another ending,
    OutputError where it cannot be written."""
    store, name = place_of(path, [".html"])
    page = hits_page(plan, answer, asked_picture)
    with tidied(store):
        store.write(name, page.encode())
