"""The commands that show a root in a browser: its report, a file, and the service."""

from typing import Annotated

import typer

from pipeline.cli.options import Quiet, Root, working
from pipeline.cli.streams import answering

LOOPBACK = "127.0.0.1"
PORT = 1234
"""clip-retrieval's."""


def report(root: Root, quiet: Quiet = False) -> None:
    """Write ROOT/report.html again."""
    from pipeline.report.build import write_report
    from pipeline.root.existing import open_root, readable

    with working("writing the report", quiet):
        write_report(readable(open_root(root)))
    with answering():
        typer.echo(f"{root}/report.html")


def serve(  # noqa: PLR0913
    roots: Annotated[list[str], typer.Argument(metavar="ROOT...", help="output roots of runs, or NAME=ROOT")],
    host: Annotated[str, typer.Option(help="address to listen at; another than loopback wants --token-file")] = LOOPBACK,
    port: Annotated[int, typer.Option(help="port to listen at; 0: any that is free")] = PORT,
    token_file: Annotated[
        str, typer.Option(metavar="FILE", help="file with the token that every request must bring; no others may read it")
    ] = "",
    no_token: Annotated[bool, typer.Option("--no-token", help="whoever reaches the address may see these roots")] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="host that pictures may be fetched from (image_url); may be repeated; default: none"),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="origin whose pages may read answers (CORS); may be repeated; default: none"),
    ] = None,
    without_model: Annotated[
        bool, typer.Option("--without-model", help="no texts and pictures as queries: some 700 MB less memory, starts at once")
    ] = False,
    safety_column: Annotated[
        str, typer.Option(metavar="NAME", help="column by which use_safety_model of clip-retrieval's clients leaves samples out")
    ] = "",
    quiet: Quiet = False,
) -> None:
    """Serve roots over HTTP: search, pictures, classes, why a sample was kept; also clip-retrieval's API. Ends with Ctrl-C."""
    with working("loading", quiet):
        from pipeline.serve.server import serve as serve_roots
        from pipeline.serve.settings import Settings, is_loopback, read_token

    settings = Settings(
        token=read_token(token_file) if token_file else None, open_to_all=no_token, local_names_alone=is_loopback(host),
        image_hosts=tuple(name.rstrip(".").lower() for name in allow_host or ()), origins=tuple(origin or ()),
        safety_column=safety_column or None, encoder=not without_model)
    serve_roots(roots, host, port, settings, _tell)


def _tell(url: str) -> None:
    with answering():
        print(f"serving at {url} (Ctrl-C ends it)", flush=True)
