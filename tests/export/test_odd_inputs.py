"""Inputs as people have them, through one curation: what comes out is what trainers read as it is, and nothing is lost."""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from pipeline.api import shardmill
from pipeline.api.shardmill import Root
from pipeline.audit.verify import verify
from pipeline.models.pixels.encoding import NONE, PictureRule, transcoded
from pipeline.store.store import Store
from tests.archives import member_bytes
from tests.manifests import repair
from tests.odd import FORMATS, OBJECTS, OVERRIDES, TEXTS, write_odd
from tests.roots import counted


@dataclass(frozen=True)
class Made:
    """A finished root over all of it."""

    root: Root
    folder: Path
    pictures: dict[str, bytes]
    """By format."""

    def samples(self) -> Iterator[dict[str, bytes]]:
        """The members of each exported sample by extension."""
        for path in sorted(self.folder.glob("shards/*.tar")):
            found: dict[str, dict[str, bytes]] = {}
            with tarfile.open(path) as archive:
                for member in archive:
                    key, _, extension = member.name.partition(".")
                    found.setdefault(key, {})[extension] = member_bytes(archive, member)
            yield from found.values()

    def rows(self) -> list[dict[str, Any]]:
        """The sidecars' rows, each with its members."""
        tables = [pq.read_table(path) for path in sorted(self.folder.glob("shards/*.parquet"))]
        listed = [row for table in tables for row in table.to_pylist()]
        return [{**row, **members} for row, members in zip(listed, self.samples(), strict=True)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sample_folder: Path) -> Made:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "in").mkdir()
    pictures = write_odd(folder / "in", sample_folder)
    root = shardmill.curate("sample", folder / "in", folder / "root", local=True, overrides=OVERRIDES)
    return Made(root, folder / "root", pictures)


def test_all_that_can_be_read_comes_out_and_is_what_verify_expects(made: Made) -> None:
    ledger, expected = made.root.ledger, len(TEXTS) + len(OBJECTS) + 2 * len(FORMATS) + 1
    assert (ledger.read, ledger.kept, dict(ledger.failed)) == (expected + 1, expected, {"caption_undecodable": 1})
    problems = ("empty", "not_an_object", "not_json", "not_utf8")
    assert ledger.ignored == {f"metadata that is no JSON object: {why}": 1 + (why == "not_an_object") for why in problems}
    found = counted(made.folder, deep=True)
    assert (found.faults, found.compared) == ((), expected)


def test_captions_are_written_in_utf8_and_their_bytes_are_in_the_sidecar(made: Made) -> None:
    by_key = {row["source_key"]: row for row in made.rows()}
    for key, (raw, text) in TEXTS.items():
        row = by_key[key]
        assert (row["txt"].decode(), row["caption"]) == (text, text)
        assert row["caption_raw"] == (None if raw == text.encode() else raw)
        assert (row["caption_encoding"] == "utf-8") == (raw == text.encode())
        assert row["uid"] == hashlib.sha256(len(row["jpg"]).to_bytes(8, "big") + row["jpg"] + raw).hexdigest()[:32]


def test_a_strict_reader_takes_every_json_and_all_that_can_be_said_is_in_it(made: Made) -> None:
    def refused(name: str) -> Any:
        raise AssertionError(name)

    rows = made.rows()
    objects = {row["source_key"]: json.loads(row["json"].decode(), parse_constant=refused) for row in rows}
    for key, (_, fields) in OBJECTS.items():
        assert fields.items() <= objects[key].items(), key
    assert objects["big"]["n"] == "1" + "0" * 20
    assert {json.loads(row["json"])["url"] for row in rows if row["txt"] == b"parquet"} == set(FORMATS)


@pytest.mark.parametrize("input", ["tar", "parquet"])
def test_formats_that_trainers_skip_are_written_as_the_recipe_says_from_every_input(made: Made, input: str) -> None:
    rows = {row["source_key"]: row for row in made.rows() if row["txt"] == input.encode()}
    assert set(rows) == set(FORMATS)
    for format in FORMATS:
        image = made.pictures[format]
        row = rows[format]
        if format == "png":
            assert (row["png"], row["written_image_sha256"]) == (image, None)
            continue
        shown = np.asarray(Image.open(io.BytesIO(row["png"])))
        assert np.array_equal(shown, np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))), format
        assert row["image_sha256"] == json.loads(row["json"])["image_sha256"] == hashlib.sha256(image).hexdigest()
        assert row["written_image_sha256"] == hashlib.sha256(row["png"]).hexdigest()


def test_plain_webdataset_reads_every_sample(made: Made) -> None:
    urls = [str(path) for path in sorted(made.folder.glob("shards/*.tar"))]
    read = webdataset.WebDataset(urls, shardshuffle=False).decode("pilrgb").to_tuple("jpg;png;jpeg;webp", "txt", "json")
    assert sum(1 for _ in read) == made.root.ledger.kept


@pytest.mark.parametrize(("extension", "column"), [("txt", "caption_raw"), ("png", "written_image_sha256"), ("jpg", "uid")])
def test_another_byte_of_what_was_decoded_or_encoded_anew_is_found_without_the_inputs(
    made: Made, tmp_path: Path, extension: str, column: str,
) -> None:
    shutil.copytree(made.folder, tmp_path / "root", symlinks=True)
    store = Store(str(tmp_path / "root"))
    path = f"{store.read_json('current.json')['export']}/000000.tar"
    row = next(row for row in made.rows() if extension in row and row[column] is not None)
    content = store.read(path)
    at = content.index(row[extension]) + len(row[extension]) // 2
    store.write(path, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    repair(store, path)
    (fault,) = verify(store.url).faults
    assert fault.startswith(f"{path}: keys or uids")


def test_a_turned_picture_is_written_upright_where_that_is_asked_for(made: Made) -> None:
    (row,) = [row for row in made.rows() if row["source_key"] == "turned"]
    stored, written = made.pictures["turned"], Image.open(io.BytesIO(row["png"]))
    assert row["image_sha256"] == hashlib.sha256(stored).hexdigest()
    assert row["written_image_sha256"] == hashlib.sha256(row["png"]).hexdigest()
    assert written.size == (64, 96)
    assert 0x0112 not in written.getexif()
    upright = Image.open(io.BytesIO(stored)).transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(np.asarray(written), np.asarray(upright))


@pytest.mark.parametrize(("format", "extension"), [("jpeg", "jpg"), ("png", "png"), ("webp", "webp")])
def test_turned_pictures_keep_their_format_and_others_their_bytes(format: str, extension: str) -> None:
    picture, exif, files = Image.effect_noise((40, 24), 60).convert("RGB"), Image.Exif(), {}
    for orientation in (1, 3):
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        picture.save(buffer, format, exif=exif)
        files[orientation] = buffer.getvalue()
    upright = PictureRule(orient="upright")
    assert upright.encoding(format, files[1]) == NONE == PictureRule().encoding(format, files[3])
    found, content = transcoded(files[3], upright.encoding(format, files[3]))
    assert found == extension
    turned = np.asarray(Image.open(io.BytesIO(files[3])).convert("RGB").transpose(Image.Transpose.ROTATE_180)).astype(float)
    assert np.abs(np.asarray(Image.open(io.BytesIO(content))).astype(float) - turned).mean() < 12
