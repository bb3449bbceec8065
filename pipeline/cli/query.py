"""`shardmill query`: what is near a text, a picture, a sample, a class, an entity, or a file of queries."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len, set_cell_size

from pipeline.cli.options import Address, AsJson, Quiet, Root, Workers, print_answer, told, working
from pipeline.errors import InputError
from pipeline.quantities import clean, counted
from pipeline.timing.progress import phase
from schemas.answers.neighbours import BatchAnswers, Hit, QueryHits, QueryNames

if TYPE_CHECKING:
    from pipeline.api.engines import Execution
    from pipeline.queries.neighbours.asked import Scope
    from pipeline.queries.neighbours.batch import Batch
    from pipeline.queries.neighbours.query import Query

BAR = 12
"""Characters of a bar: the best hit's similarity."""
EIGHTHS = " ▏▎▍▌▋▊▉█"
MOST_BYTES = 256 << 20
"""Of a picture's file that is asked about."""


def query(  # noqa: PLR0913
    root: Root,
    text: Annotated[str | None, typer.Option(metavar="WORDS", help="what a caption would say")] = None,
    minus_text: Annotated[str | None, typer.Option(metavar="WORDS", help="what is taken away from it")] = None,
    image: Annotated[str, typer.Option(metavar="FILE", help="a picture: its path, or - for standard input")] = "",
    uid: Annotated[str | None, typer.Option(metavar="SAMPLE", help="a sample of the run, by any of its names")] = None,
    class_id: Annotated[int | None, typer.Option("--class", metavar="CLASS", help="the centre of a class, by its id")] = None,
    entity: Annotated[str | None, typer.Option(metavar="ENTITY", help="an entity of the run, by its id or name")] = None,
    name: Annotated[str, typer.Option(metavar="FILE", help="a picture that gets words out of the run's own captions")] = "",
    names: Annotated[bool, typer.Option("--names", help="words, not samples: for --uid, or a --class without a name")] = False,
    count: Annotated[int, typer.Option("-k", metavar="COUNT", help="neighbours of a query, up to 100,000")] = 10,
    modality: Annotated[str, typer.Option(metavar="KIND", help="image or text: whose vectors are compared")] = "image",
    verdict: Annotated[
        str, typer.Option(metavar="VERDICT", help="kept, rejected, failed, one as rejected:clip_similarity, or any")] = "kept",
    where: Annotated[str, typer.Option(metavar="SQL", help="a condition on columns: \"language = 'en' AND width > 512\"")] = "",
    effort: Annotated[int | None, typer.Option(min=1, help="lists or width that an index looks into; default: as measured")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="compare every vector, though there is an index")] = False,
    save: Annotated[str, typer.Option(metavar="FILE", help="the hits as .parquet, or their uids as .npy (DataComp's form)")] = "",
    html: Annotated[str, typer.Option(metavar="FILE", help="a page of the hits, with their pictures, that loads nothing")] = "",
    queries: Annotated[str, typer.Option(metavar="FILE", help="many: .parquet with a column text or vectors, or .npy [q, d]")] = "",
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="answers to --queries, as .parquet")] = "",
    ray: Annotated[bool, typer.Option("--ray", help="--queries on a Ray cluster: the same bytes; else in this process")] = False,
    workers: Workers = None,
    address: Address = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """The samples nearest to a text, a picture, a sample, a class or an entity, to what these come to together, or to each query of
    a file."""
    from pipeline.api.engines import Execution
    from pipeline.queries.neighbours.asked import Scope
    from pipeline.queries.neighbours.batch import Batch

    _refuse(modality not in ("image", "text"), f"--modality {modality}: choose image or text")
    on_ray = bool(ray or workers or address)
    asked = _query(text, minus_text, image or name, uid, class_id, entity)
    scope = Scope(count, modality, verdict, where, effort, exact)   # type: ignore[arg-type]
    if name or names:
        _refuse((image and name) or save or html or queries or output,
                "--name FILE and --names give words: leave out --image beside --name, --save, --html and --queries")
        _names(root, asked, count, quiet, as_json)
    elif queries or output:
        _refuse(asked.asks or save or html or not (queries and output),
                "--queries FILE and --output FILE go together, without another query, --save and --html")
        _batch(Batch(root, queries, output, scope), Execution(workers=workers, address=address, local=not on_ray), quiet, as_json)
    else:
        _refuse(on_ray, "--ray, --workers and --address are for a file of queries: give --queries FILE and --output FILE")
        _hits(root, asked, scope, (save, html), quiet, as_json)


def _refuse(wrong: object, message: str) -> None:
    """Raises InputError where something is wrong."""
    if wrong:
        raise InputError(message)


def _hits(root: str, asked: "Query", scope: "Scope", files: tuple[str, str], quiet: bool, as_json: bool) -> None:  # noqa: PLR0913
    from pipeline.queries.neighbours.asked import query_hits
    from pipeline.queries.neighbours.catalogue import Catalogue
    from pipeline.queries.neighbours.saved import FORMS, place_of, save_hits

    save, html = files
    for path, forms in ((save, FORMS), (html, [".html"])):
        if path:
            place_of(path, forms)   # a wrong name is said before the work
    with working("looking for neighbours", quiet, as_json):
        catalogue = Catalogue.open(root)
        answer = query_hits(catalogue, root, asked, scope)
        if save:
            save_hits(answer.hits, save)
        if html:
            from pipeline.report.hits_page import write_hits_page

            write_hits_page(catalogue.plan, answer, html, asked.image)
    print_answer(as_json, answer, _show)


def _names(root: str, asked: "Query", count: int, quiet: bool, as_json: bool) -> None:
    from pipeline.queries.names.asked import query_names
    from pipeline.queries.neighbours.catalogue import Catalogue

    with working("looking for words", quiet, as_json):
        answer = query_names(Catalogue.open(root), root, asked, count)
    print_answer(as_json, answer, _show_names)


def _show_names(answer: QueryNames) -> None:
    """Prints the words for something, the likeliest first."""
    print(f"{clean(answer.query)}:")
    best = max(name.score for name in answer.names)
    for name in answer.names:
        print(f"  {name.score:>6.3f} {bar(name.score, best)}  {clean(name.name)}")


def _batch(batch: "Batch", execution: "Execution", quiet: bool, as_json: bool) -> None:
    with phase(tell := told(quiet, as_json), "loading"):
        from pipeline.api.answering import answered

    print_answer(as_json, answered(batch, execution, tell), _show_batch)


def _show_batch(answer: BatchAnswers) -> None:
    """Prints what became of a file of queries."""
    bad = f", {answer.errors:,} of them cannot be answered: see the column error" if answer.errors else ""
    how = "every vector was compared" if answer.exact else "by the index"
    print(f"{counted(answer.queries, 'query', 'queries')}, {how}{bad}: {clean(answer.output)}")


def _query(  # noqa: PLR0913
    text: str | None, minus_text: str | None, image: str, uid: str | None, class_id: int | None, entity: str | None
) -> "Query":
    from pipeline.queries.neighbours.query import Query

    return Query(text, minus_text, _picture(image) if image else None, uid, class_id, entity)


def _picture(path: str) -> bytes:
    """The bytes of a picture's file. Raises InputError where it cannot be read, or is larger than MOST_BYTES."""
    try:
        if path == "-":
            content = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(content) > MOST_BYTES:
        raise InputError(f"{path} has more than {MOST_BYTES >> 20} MiB: give a smaller picture")
    return content


def _show(answer: QueryHits) -> None:
    """Prints the hits, the nearest first, one line each: as wide as the terminal, in whole where nobody looks."""
    hits = answer.hits
    among = "samples" if answer.verdict == "any" else f"{answer.verdict} samples"
    how = "every one was compared" if answer.exact else "by the index"
    kind = "pictures" if answer.modality == "image" else "captions"
    print(f"{clean(answer.query)}: {len(hits):,} nearest {kind} of {clean(among)}, {how}")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    best = max((hit.similarity for hit in hits), default=0.0)
    for rank, hit in enumerate(hits, start=1):
        print(_line(rank, hit, best, width))


def _line(rank: int, hit: Hit, best: float, width: int | None) -> str:
    head = f"{rank:>3}  {hit.similarity:>6.3f} {bar(hit.similarity, best)}  {hit.uid}  "
    of_class = "" if hit.class_name is None else f"[{clean(hit.class_name)}] "
    rejected = "" if hit.verdict in ("kept", None) else f"{clean(hit.verdict)}  "
    tail = f"{rejected}{of_class}{clean(hit.caption or '(no caption)')}"
    room = None if width is None else max(20, width - cell_len(head))
    return head + (tail if room is None or cell_len(tail) <= room else set_cell_size(tail, room - 1).rstrip() + "…")


def bar(value: float, best: float) -> str:
    """A bar of BAR characters, full at the best similarity."""
    eighths = round(8 * BAR * max(0.0, value) / best) if best > 0 else 0
    full, rest = divmod(min(eighths, 8 * BAR), 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(BAR)
