"""`shardmill embeddings`: the vectors of a root for other tools."""

from typing import Annotated, Literal

import typer

from pipeline.cli.options import AsJson, Quiet, Root, print_answer, working
from pipeline.errors import InputError
from pipeline.quantities import clean, counted
from schemas.answers.tables import Embedded


def embeddings(  # noqa: PLR0913 (its options)
    root: Root,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FOLDER", help="new folder or URL; again: goes on there")],
    layout: Annotated[
        Literal["clip-retrieval"], typer.Option(help="clip-retrieval: img_emb/, text_emb/, metadata/: for autofaiss, clip-back")
    ] = "clip-retrieval",
    of: Annotated[Literal["kept", "all"], typer.Option(help="which samples")] = "kept",
    partition: Annotated[int, typer.Option(metavar="SAMPLES", min=1, help="samples of a file, about")] = 1_000_000,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write the embeddings of a root as other tools read them: vectors as .npy, what is known of them as parquet beside."""
    from pipeline.queries.embeddings.clip_retrieval import write_clip_retrieval

    if not output:
        raise InputError("give a folder: --output FOLDER")
    with working("writing embeddings", quiet, as_json):
        answer = write_clip_retrieval(root, output, of, partition)
    print_answer(as_json, answer, _written)


def _written(answer: Embedded) -> None:
    files = f"{counted(answer.partitions, 'partition')} of {answer.dimension} dimensions"
    print(f"{counted(answer.samples, 'sample')} in {files}: {clean(answer.output)}")
