"""Every attack of hostile.py in one curation: nothing runs, nothing leaves the root, everything is accounted for."""

import json
import re
import shutil
import tarfile
import unicodedata
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.audit.verify import verify
from pipeline.cli import class_printing, printing
from pipeline.input.metadata import MAX_DEPTH, nesting_depth
from pipeline.queries.classes import class_rows
from pipeline.queries.samples import Wanted, list_samples
from pipeline.queries.simulate import explain_sample
from pipeline.queries.status import status
from pipeline.report.data import ReportData
from pipeline.report.page import render
from tests.archives import member_bytes
from tests.report.browser import chromium
from tests.report.test_page import Page, full, hostile, pixels  # noqa: F401  (fixtures)
from tests.security.conftest import Attacked
from tests.security.hostile import CONTROLS, DEPTHS, SCRIPTS


def test_no_member_column_or_side_file_of_an_input_is_unpickled(attacked: Attacked) -> None:
    assert [event for event in attacked.seen if event.startswith("pickle")] == []
    assert not (attacked.sandbox / "canary").exists()
    assert attacked.result.ledger.read == attacked.samples


def test_no_name_caption_or_object_of_an_input_starts_a_program(attacked: Attacked) -> None:
    assert [event for event in attacked.seen if not event.startswith(("pickle", "socket"))] == []
    assert not (attacked.sandbox / "canary").exists()


def test_a_local_curation_asks_no_network(attacked: Attacked) -> None:
    assert [event for event in attacked.seen if event.startswith("socket")] == []


def test_names_from_archives_never_become_paths(attacked: Attacked) -> None:
    assert attacked.after == attacked.before
    allowed = re.compile(r"[A-Za-z0-9._@-]+")
    strange = [path for path in attacked.root.rglob("*") if not allowed.fullmatch(path.name)]
    assert strange == []
    members: list[str] = []
    for path in attacked.root.glob("exports/*/*.tar"):
        with tarfile.open(path) as archive:
            members += archive.getnames()
    assert members
    assert all(re.fullmatch(r"\d{10}\.(jpg|txt|json)", name) for name in members)


def test_hostile_samples_are_accounted_for_like_any_other(attacked: Attacked) -> None:
    ledger = attacked.result.ledger
    assert ledger.read == attacked.samples
    assert ledger.kept == attacked.samples
    assert verify(str(attacked.root)).faults == ()


def test_json_too_deep_costs_its_sample_nothing_but_the_json(attacked: Attacked) -> None:
    exported = [pq.read_table(path) for path in attacked.root.glob("exports/*/*.parquet")]
    keys = {key for table in exported for key in table.column("source_key").to_pylist()}
    assert len([key for key in keys if key.startswith("depth")]) == len(DEPTHS)
    too_deep = attacked.result.ledger.ignored["metadata that is no JSON object: too_deep"]
    assert 0 < too_deep < len(DEPTHS)
    nested = 0
    for path in attacked.root.glob("exports/*/*.tar"):
        with tarfile.open(path) as archive:
            objects = [member_bytes(archive, one) for one in archive if one.name.endswith(".json")]
        assert all(nesting_depth(content) <= MAX_DEPTH for content in objects)
        nested += sum(content.startswith(b'{"a": {"a"') for content in objects)
    assert nested == len(DEPTHS) - too_deep


def test_side_files_name_tars_that_we_named_so_their_readers_open_no_pipe(attacked: Attacked) -> None:
    export = next(attacked.root.glob("exports/*"))
    urls = [shard["url"] for shard in json.loads((export / "wids.json").read_text())["shardlist"]]
    urls += json.loads((export / "sizes.json").read_text())
    assert urls
    assert all(re.fullmatch(r"\d{6}\.tar", url) for url in urls)


def shape(html: str) -> set[tuple[str, str]]:
    """Every element, and every attribute with its element."""
    return {(element.tag, name) for element in Page(html).elements for name in ["", *element.attributes]}


def test_the_report_shows_hostile_text_as_text(attacked: Attacked, full: ReportData, tmp_path: Path) -> None:   # noqa: F811
    html = (attacked.root / "report.html").read_text()
    page = Page(html)
    assert any(script in page.text for script in SCRIPTS)
    assert page.all("title")[0].text.startswith("<script>document.title=1</script>")
    assert not any(bad in html for bad in CONTROLS if not bad.isspace() and not bad.isprintable())
    known, here = shape(render(hostile("harmless"))) | shape(render(full)), shape(html)
    assert here <= known, sorted(here - known)
    if shutil.which("chromium"):
        dom = Page(chromium(tmp_path, html, "--dump-dom"))
        made = {"tbody", "button"}   # by the browser, and by the page's own script
        assert {e.tag for e in dom.elements} <= {tag for tag, _ in known} | made
        assert dom.all("title")[0].text == page.all("title")[0].text, "a script ran"
    for element in page.elements:
        assert element.attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert element.attributes.get("href", "#").startswith("#")


def test_no_control_or_direction_character_of_an_input_reaches_the_terminal(
    attacked: Attacked, capsys: pytest.CaptureFixture[str],
) -> None:
    root = str(attacked.root)
    printing.status(status(root))
    printing.verify(verify(root))
    class_printing.classes(class_rows(root))
    samples = pq.read_table(next(attacked.root.glob("columns/samples@*/_img*.parquet")), columns=["uid"]).column("uid").to_pylist()
    printing.explanation(explain_sample(root, samples[16]))
    listed = list_samples(root, Wanted(), 1000)
    printing.samples(listed)
    text = capsys.readouterr().out + printing.as_json([status(root), listed, *class_rows(root), *explain_sample(root, samples[16])])
    assert any(script in text for script in SCRIPTS), "the caption is shown"
    strange = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"}
    assert strange == set()
