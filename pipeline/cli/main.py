"""The command line.

Exit codes: 0 ok, 1 a fault was found, 2 bad recipe or input, 3 finished, but with quarantined shards or with nothing kept, 130
stopped; 141 and 2 where the answer cannot be told (`streams.py`).
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.api.signals import stop_on_sigterm
from pipeline.cli import class_printing, counts, pages, printing, query, recipes
from pipeline.cli.colours import Warnings
from pipeline.cli.commands import App, Commands
from pipeline.cli.options import (
    Address,
    AsJson,
    Inputs,
    Local,
    Overrides,
    Quiet,
    RecipeName,
    Root,
    Stages,
    Version,
    Workers,
    told,
    working,
)
from pipeline.cli.options import print_answer as _print
from pipeline.cli.streams import exit_with_streams
from pipeline.cli.tables.embeddings import embeddings
from pipeline.cli.tables.sql import sql
from pipeline.errors import InputError
from pipeline.process.own_code import leave_out_working_folder
from pipeline.timing.progress import phase

if TYPE_CHECKING:
    from pipeline.root.lifecycle import Result

FORMS = "uid (or its first 6 digits), uid of the input, SHARD:ROW or key"
OUTPUTS = "shards, tars (a brace pattern), verdicts, subset, labels, classes, centroids, embeddings or report"

app = App(
    name="shardmill", cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Curate web image-text shards into labelled, trainer-ready WebDataset shards.",
)
app.add_typer(recipes.app, name="recipes")


@app.callback()
def options(version: Version = False) -> None:
    """Options of the command itself."""


@app.command()
def run(
    recipe: RecipeName,
    inputs: Inputs = None,
    output: Annotated[str, typer.Option("--output", "-o", metavar="ROOT", help="output root, a folder or URL")] = "",
    workers: Workers = None,
    threads: Annotated[int, typer.Option(min=1, help="batches that an actor has in work at once")] = 1,
    actors_per_gpu: Annotated[
        int | None, typer.Option(min=1, max=64, help="actors that share a GPU; default: one per CPU that its node has for it")
    ] = None,
    address: Address = None,
    local: Local = False,
    retry_quarantined: Annotated[bool, typer.Option("--retry-quarantined", help="try the shards in quarantine again")] = False,
    stall_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=1, help="a shard without progress for so long is hung; default: 600")
    ] = None,
    overrides: Overrides = None,
    stages: Stages = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run a curation, or continue it: the same command again does only what is missing."""
    with phase(tell := told(quiet, as_json), "loading"):
        from pipeline.api.engines import Execution
        from pipeline.api.run import Request, run_curation

    if not output:
        raise InputError("give an output root: --output ROOT")
    execution = Execution(threads, retry_quarantined, workers, address, stall_timeout, actors_per_gpu, local)
    request = Request(recipe, inputs or [], overrides or [], stages or [])
    result, seconds = run_curation(request, output, tell, execution)
    _tell(as_json, result, output, seconds)


@app.command()
def plan(
    recipe: RecipeName, inputs: Inputs = None, overrides: Overrides = None, stages: Stages = None,
    workers: Annotated[int, typer.Option(min=1, help="actors to plan for, in all")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="machines like this one that they are on")] = 1,
    rows: Annotated[
        float | None, typer.Option(min=1, metavar="COUNT", help="samples to plan for, e.g. 1e9; default: those of the inputs")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """What a run would read, and the time, memory, files and disk of every pass, from a probe of the first samples."""
    from pipeline.api.run import Request, planned

    request = Request(recipe, inputs or [], overrides or [], stages or [])
    with working("probing the first samples", quiet, as_json):
        answer = planned(request, workers, nodes, None if rows is None else int(rows))
    _print(as_json, answer, printing.plan)


@app.command()
def pack(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="folders of images, tables of their paths")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FOLDER", help="new folder or URL for the shards")],
    root: Annotated[
        str, typer.Option(metavar="FOLDER", help="where the paths of a table begin; none leaves it; default: the table's folder")
    ] = "",
    image_column: Annotated[str, typer.Option(metavar="NAME", help="column of paths; default: found by its name")] = "",
    caption_column: Annotated[str, typer.Option(metavar="NAME", help="column of captions; default: found by its name")] = "",
    encoding: Annotated[str, typer.Option(metavar="NAME", help="of csv, tsv and JSON lines; default: UTF-8, or its mark")] = "",
    shard_samples: Annotated[int, typer.Option(min=1, help="samples of a shard at most")] = 10_000,
    shard_size: Annotated[int, typer.Option(metavar="MIB", min=1, help="size that ends a shard")] = 256,
    quiet: Quiet = False, as_json: AsJson = False,
) -> None:
    """Pack loose images with captions beside them, or named by a table, into shards. The same command continues it."""
    from pipeline.input.loose.pack import Packing, pack

    packing = Packing(tuple(inputs), root, image_column, caption_column, encoding, shard_samples, shard_size << 20)
    with phase(tell := told(quiet, as_json), "packing"):
        answer = pack(packing, output, tell.note)
    _print(as_json, answer, printing.packed)
    raise typer.Exit(3 if answer.incomplete else 0)


@app.command()
def status(root: Root, as_json: AsJson = False) -> None:
    """How far a run is, and its account: read, kept, rejected and failed by reason."""
    from pipeline.queries.status import status as read_status

    _print(as_json, read_status(root), printing.status)


@app.command()
def path(root: Root, what: Annotated[str, typer.Argument(metavar="OUTPUT", help=OUTPUTS)], as_json: AsJson = False) -> None:
    """Where a published output is, as one absolute path or URL: true on every store, and for scripts."""
    from pipeline.queries.places import place

    _print(as_json, place(root, what), lambda answer: typer.echo(answer.path))


@app.command()
def verify(
    root: Root,
    deep: Annotated[bool, typer.Option("--deep", help="also read every input again and compare every output sample")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="files read at once; by default the CPUs, 16 of a remote root")] = None,
    quiet: Quiet = False, as_json: AsJson = False,
) -> None:
    """Recompute conservation, hashes and counts from the files. Exits non-zero on any fault."""
    from pipeline.audit.verify import verify as check

    with working("reading the root and its inputs" if deep else "reading the root", quiet, as_json):
        answer = check(root, deep=deep, workers=workers)
    _print(as_json, answer, printing.verify)
    raise typer.Exit(1 if answer.faults else 0)


@app.command()
def gc(
    root: Root, dry_run: Annotated[bool, typer.Option("--dry-run", help="list it, remove nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what the last recipe and the published export do not need: outputs of other recipes, leftovers of stopped runs."""
    from pipeline.audit.gc import collect

    _print(as_json, collect(root, dry_run=dry_run), printing.gc)


@app.command()
def explain(
    root: Root, sample: Annotated[str, typer.Argument(metavar="SAMPLE", help=FORMS)], as_json: AsJson = False,
) -> None:
    """Every column of a sample, every rule's value and bound, and the verdict."""
    from pipeline.queries.simulate import explain_sample

    _print(as_json, explain_sample(root, sample), printing.explanation)


@app.command()
def samples(
    root: Root,
    names: Annotated[list[str] | None, typer.Argument(metavar="[SAMPLE]...", help=f"only these: {FORMS}")] = None,
    verdict: Annotated[str | None, typer.Option(metavar="VERDICT", help="kept, rejected, failed, or one as rejected:tiny")] = None,
    class_id: Annotated[int | None, typer.Option("--class", metavar="CLASS", help="id of their nearest class")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="how many, in the order of the input")] = 20,
    columns: Annotated[
        list[str] | None, typer.Option("--column", metavar="NAME", help="shown; default: what the rules read; may be repeated")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Some samples: every name they have, caption, verdict, class, and the values that the rules saw."""
    from pipeline.queries.samples import Wanted, list_samples

    _print(as_json, list_samples(root, Wanted(names or (), verdict, class_id, columns or ()), count), printing.samples)


app.command()(sql)
app.command()(query.query)
app.command()(embeddings)


@app.command()
def simulate(root: Root, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Count what other rules would keep, from stored columns: no pixels, nothing written."""
    from pipeline.queries.simulate import simulate_rules

    with working("reading the columns", as_json):
        answer = simulate_rules(root, overrides or [])
    _print(as_json, answer, counts.simulation)


@app.command()
def classes(
    root: Root,
    class_id: Annotated[int | None, typer.Argument(metavar="[CLASS]", help="id of a class: everything that is known of it")] = None,
    level: Annotated[int, typer.Option(min=0, help="0: the classes that label samples; above: coarser ones")] = 0,
    compare: Annotated[str, typer.Option(metavar="OTHER", help="root whose classes these are compared with")] = "",
    suggest: Annotated[str, typer.Option(metavar="K,K,…", help="advise on the number of classes, from a sample")] = "",
    as_json: AsJson = False,
) -> None:
    """The pseudo-classes of a run: list them, show one, compare them with another run's, or advise how many there should be."""
    from pipeline.queries.class_number import suggest_class_numbers
    from pipeline.queries.classes import class_details, class_rows, compare_roots

    if compare:
        _print(as_json, compare_roots(root, compare), class_printing.comparison)
    elif suggest:
        with working("clustering samples of the root", as_json):
            advice = suggest_class_numbers(root, suggest)
        _print(as_json, advice, class_printing.suggestion)
    elif class_id is not None:
        _print(as_json, class_details(root, class_id, level), class_printing.class_details)
    else:
        _print(as_json, class_rows(root, level), class_printing.classes)


@app.command()
def label(
    root: Root,
    other: Annotated[str, typer.Option("--classes", metavar="OTHER", help="root whose published classes are used")],
    workers: Workers = None, address: Address = None, local: Local = False, stages: Stages = None,
    quiet: Quiet = False, as_json: AsJson = False,
) -> None:
    """Label and export a run again with the classes of another root: same ids and names, nothing is fitted."""
    with phase(tell := told(quiet, as_json), "loading"):
        from pipeline.api.engines import Execution
        from pipeline.api.run import label_by

    execution = Execution(workers=workers, address=address, local=local)
    result, seconds = label_by(root, other, tell, execution, stages or [])
    _tell(as_json, result, root, seconds)


app.command()(pages.report)
app.command()(pages.serve)


def _tell(as_json: bool, result: "Result", root: str, seconds: float) -> None:
    """Prints what a run came to. Raises typer.Exit with its exit code."""
    from pipeline.api.run import answer_of

    _print(as_json, answer_of(result, root, seconds), lambda answer: printing.run(answer, result))
    raise typer.Exit(0 if result.ledger.kept and not result.ledger.quarantined else 3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits. Standard streams that are closed, or that cannot be written, are as for other Unix tools."""
    leave_out_working_folder()
    exit_with_streams(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", handlers=[Warnings()])
    stop_on_sigterm()
    app(None if arguments is None else list(arguments))


if __name__ == "__main__":
    main()
