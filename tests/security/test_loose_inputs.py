"""Tables and folders from others are packed: what they name may be anywhere."""

import os
from pathlib import Path

import pytest

from pipeline.input.loose.below import Below, Refused
from tests.loose import JPEG, files, packed, reasons, samples

SECRET = b"secret"


@pytest.fixture
def received(tmp_path: Path) -> Path:
    """A folder with a picture, beside a secret."""
    files(tmp_path, **{"secret.jpg": SECRET, "received-secrets/x.jpg": SECRET, "received/good.jpg": JPEG})
    return tmp_path / "received"


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_table_reads_no_file_outside_of_its_folder(received: Path, tmp_path: Path) -> None:
    (received / "link").symlink_to(tmp_path)
    (received / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    paths = ["good.jpg", "../secret.jpg", f"{tmp_path}/secret.jpg", f"file://{tmp_path}/secret.jpg", "link.jpg", "link/secret.jpg",
             "/etc/passwd", "../received-secrets/x.jpg", "x/../../secret.jpg", "..\\secret.jpg", "pipe:cat ../secret.jpg",
             "local://../secret.jpg", f"simplecache::file://{tmp_path}/secret.jpg", "~/secret.jpg", "secret.jpg\\0",
             "s3://bucket/secret.jpg"]
    files(received, **{"t.csv": "\n".join(["path,caption", *(f"{path},c" for path in paths)]).encode()})
    answer = packed(received / "t.csv", output=tmp_path / "out")
    assert answer.samples == 1
    assert [row["image"] for row in samples(tmp_path / "out").values()] == [JPEG]
    assert reasons(answer)["outside_root"] >= 8
    assert set(reasons(answer)) <= {"outside_root", "no_such_file", "not_an_image"}
    assert SECRET not in contents(tmp_path / "out").replace(b"secret.jpg", b"").replace(b"received-secrets", b"")


def test_a_link_in_a_loose_folder_leads_nowhere_outside(received: Path, tmp_path: Path) -> None:
    (received / "image.jpg").symlink_to(tmp_path / "secret.jpg")
    (received / "good.txt").symlink_to("/etc/passwd")
    files(received, **{"b.jpg": JPEG})
    (received / "b.json").symlink_to("/etc/hostname")
    (received / "folder").symlink_to("/etc")
    answer = packed(received, output=tmp_path / "out")
    assert (answer.samples, reasons(answer)) == (0, {"outside_root": 4})
    assert not list((tmp_path / "out").glob("*.tar"))


def test_a_table_that_names_a_pipe_is_not_waited_for(received: Path, tmp_path: Path) -> None:
    os.mkfifo(received / "pipe.jpg")
    files(received, **{"t.csv": b"path,caption\npipe.jpg,c\ngood.jpg,c\n"})
    answer = packed(received / "t.csv", output=tmp_path / "out")
    assert (answer.samples, reasons(answer)) == (1, {"not_a_file": 1})


@pytest.mark.parametrize("path", [
    "../secret", "s3://bucket/secret", "s3://bucket/in/../secret", "s3://other/in/a", "/etc/passwd", "s3://bucket/input/a",
    "https://bucket/in/a", "x::s3://bucket/in/a", "a/../../secret", "a?versionId=1"])
def test_a_table_in_a_bucket_reads_no_object_outside_of_its_folder(path: str) -> None:
    with pytest.raises(Refused) as refused:
        Below("s3://bucket/in").read(path, 10)
    assert refused.value.why == "outside_root"
