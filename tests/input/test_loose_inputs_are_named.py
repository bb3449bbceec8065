"""What `run` and `plan` say of inputs that are loose: within seconds, with the command that helps. And that command, tried."""

import functools
import http.server
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.input.discovery import discover
from pipeline.input.loose.commands import by_url, packing
from tests.loose import JPEG, files, packed, samples
from tests.roots import asked

RECORDED = Path(__file__).parent / "img2dataset"
"""What img2dataset 1.47.0 wrote for PICTURES and one that its server did not have, by the command of `by_url`."""
PICTURES = ("000000002", "000000008", "000000016")
"""Keys of the bundled sample."""
DOCS = Path(__file__).parents[2] / "docs" / "inputs.md"


def said(pattern: object) -> str:
    with pytest.raises(InputError) as error:
        discover([str(pattern)])
    return str(error.value)


PACK = "pack it first, then give `shards` as the input (docs/inputs.md): shardmill pack "
URLS = "shardmill downloads nothing. Let img2dataset (pip install img2dataset) do it, then give `shards`"


def test_a_folder_of_loose_images_is_refused_with_the_command_that_packs_it(tmp_path: Path) -> None:
    files(tmp_path, **{"my set/sub/A.JPG": JPEG, "my set/readme.md": b"", "none/readme.md": b""})
    folder = tmp_path / "my set"
    assert said(folder).endswith(f"it holds loose images (sub/A.JPG): {PACK}'{folder}' --output shards")
    assert f"{PACK}'{folder}/sub'" in said(f"{folder}/sub/*.JPG")
    assert f"it is an image: name its folder or a table of paths, and {PACK}'{folder}/sub'" in said(f"{folder}/sub/A.JPG")
    assert said(tmp_path / "none").endswith(".parquet")
    assert packing(str(folder)).endswith(shlex.join(["shardmill", "pack", str(folder), "--output", "shards"]))


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
@pytest.mark.parametrize("kind", ["url", "image", "image by url", "caption"])
def test_a_table_is_refused_with_the_command_that_its_column_needs(tmp_path: Path, name: str, kind: str) -> None:
    value = "https://example.org/a.jpg" if "url" in kind else "a.jpg"
    column = {"url": "URL", "image": "image", "image by url": "image", "caption": "what"}[kind]
    pq.write_table(pa.table({column: [value], "caption": ["c"]}), tmp_path / "t.parquet")
    files(tmp_path, **{"t.csv": f"{column},caption\n{value},c\n".encode(), "t.tsv": f"{column}\tcaption\n{value}\tc\n".encode(),
                       "t.jsonl": f'{{"{column}": "{value}", "caption": "c"}}\n'.encode()})
    text = said(tmp_path / name)
    assert (PACK in text) == (kind == "image" or (kind == "caption" and name != "t.parquet"))
    assert (URLS in text) == ("url" in kind)
    if "url" in kind:
        assert text.endswith(by_url(str(tmp_path / name), column, "caption"))
        assert f"--input_format {name[2:]} --url_col {column} --caption_col caption" in text
    only = tmp_path / "only"
    only.mkdir()
    shutil.copy(tmp_path / name, only)
    assert (PACK in said(only)) == (PACK in text)
    assert (URLS in said(only)) == (URLS in text)


def test_lists_of_urls_without_a_header_are_known_too(tmp_path: Path) -> None:
    files(tmp_path, **{"urls.txt": b"https://example.org/a.jpg\n", "words.txt": b"words\n",
                       "cc3m.tsv": b"a caption\thttps://example.org/a.jpg\n"})
    assert f"it is a list of URLs: {URLS}" in said(tmp_path / "urls.txt")
    assert "--input_format txt" in said(tmp_path / "urls.txt")
    assert said(tmp_path / "words.txt").endswith(".parquet")
    with pytest.raises(InputError, match="first line is data"):
        packed(tmp_path / "cc3m.tsv", output=tmp_path / "out")


def test_plan_run_and_pack_say_so_and_start_nothing(tmp_path: Path) -> None:
    files(tmp_path, **{"t.csv": b"url,caption\nhttps://example.org/a.jpg,c\n", "a/a.jpg": JPEG})
    out = str(tmp_path / "out")
    for command in (["plan", "sample"], ["run", "sample", "--output", out], ["pack", "--output", out]):
        assert URLS in asked(*command, str(tmp_path / "t.csv"), check=2).stderr
    assert PACK in asked("run", "sample", str(tmp_path / "a"), "--output", out, check=2).stderr
    assert not Path(out).exists()


@pytest.fixture
def pictures(tmp_path: Path, sample: Path) -> Path:
    """Loose pairs of the bundled sample."""
    with tarfile.open(sample / "00000.tar") as tar:
        for key in PICTURES:
            for kind in ("jpg", "txt"):
                file = tar.extractfile(f"{key}.{kind}")
                assert file is not None
                files(tmp_path / "pictures", **{f"{key}.{kind}": file.read()})
    return tmp_path / "pictures"


@pytest.fixture
def downloaded(pictures: Path, tmp_path: Path) -> Iterator[Path]:
    """What img2dataset makes of a table of URLs of them: by the command that we name where it is installed, else as recorded."""
    program = shutil.which("img2dataset")
    if program is None:
        yield RECORDED
        return
    handler = functools.partial(_Silent, directory=str(pictures))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        captions = [(pictures / f"{key}.txt").read_text() for key in PICTURES]
        urls = [f"{base}/{key}.jpg" for key in (*PICTURES, "gone")]
        pq.write_table(pa.table({"url": urls, "caption": [*captions, "gone"]}), tmp_path / "t.parquet")
        command = by_url("t.parquet", "url", "caption").rpartition("(docs/inputs.md): ")[2]
        few = ["--processes_count", "1", "--thread_count", "2"]
        subprocess.run([program, *shlex.split(command)[1:], *few], cwd=tmp_path, check=True, capture_output=True,
                       env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"})
        server.shutdown()
    yield tmp_path / "shards"


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


def test_what_img2dataset_downloads_has_the_uids_of_the_same_pairs_packed(pictures: Path, downloaded: Path, tmp_path: Path) -> None:
    packed(pictures, output=tmp_path / "packed")
    assert len(samples(downloaded)) == len(PICTURES)
    assert {row["uid"] for row in samples(downloaded).values()} == {row["uid"] for row in samples(tmp_path / "packed").values()}


def test_the_page_on_inputs_names_the_commands_that_the_errors_name() -> None:
    text = re.sub(r"\s+", " ", DOCS.read_text().replace("\\\n", ""))
    assert by_url("urls.parquet", "url", "caption").rpartition("(docs/inputs.md): ")[2] in text
    assert "shardmill pack /data/pictures --output shards" in text
