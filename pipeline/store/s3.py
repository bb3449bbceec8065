"""What an S3 API can do beyond a file system: whole files in one request, conditional creation, uploads to clear; and how
patient its client is. Nothing here imports s3fs: the file system is handed in."""

import logging
import uuid
from collections.abc import Iterator
from typing import Any

from pipeline.store.retries import described, retried

REQUEST_TRIES = 7
"""Tries of one request by botocore itself, in its standard mode: full jitter, at most 1, 2, 4 … 20 s, in the mean 25 s in
all. It is what a part of an upload relies on; around whole operations come the tries of `retries`, bounded in time."""
CONNECT_SECONDS = 10
READ_SECONDS = 20
"""A connection that brings nothing for so long is broken."""
IN_ONE_REQUEST = {"max_concurrency": 1}
"""For s3fs's `cat_file`: an object that another replaces meanwhile is read whole, the old one or the new one. By itself it reads
large ones in several requests at once, and so could mix them."""
WRITER = "shardmill-writer"

PROTOCOLS = ("s3", "s3a")
AT_ONCE = 1000
"""Objects that one request may name."""

log = logging.getLogger(__name__)


def client_options() -> dict[str, Any]:
    """Options of botocore's Config: time limits and tries."""
    return {
        "connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS,
        "retries": {"mode": "standard", "total_max_attempts": REQUEST_TRIES},
    }


def is_s3(fs: Any) -> bool:
    """Whether this fsspec file system is s3fs."""
    return "s3" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def create_new(fs: Any, path: str, content: bytes) -> bool:
    """Makes an object unless it is there. Raises what the store raises: the caller tries again.

    A writer's mark in the object's metadata tells whether an object that is there came of a try whose answer was lost.
    """
    mark = uuid.uuid4().hex

    def put() -> bool:
        try:
            fs.pipe_file(path, content, mode="create", Metadata={WRITER: mark})
        except FileExistsError:
            return bool(fs.metadata(path, refresh=True).get(WRITER) == mark)
        return True

    return retried(put, path)


def remove_objects(fs: Any, path: str) -> None:
    """Removes an object and those below it as a folder, by their keys. Raises FileNotFoundError where there is none. Objects that
    the store keeps for some reason are left."""
    bucket, key, _ = fs.split_path(path)
    keys = [key] if fs.info(path)["type"] == "file" else []   # a versioned bucket would mark one that is not there as removed
    keys += _keys_below(fs, bucket, f"{key}/")
    for start in range(0, len(keys), AT_ONCE):
        chosen = [{"Key": name} for name in keys[start : start + AT_ONCE]]
        fs.call_s3("delete_objects", Bucket=bucket, Delete={"Objects": chosen, "Quiet": True})


def _keys_below(fs: Any, bucket: str, prefix: str) -> Iterator[str]:
    further: dict[str, str] = {}
    while True:
        page = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **further)
        yield from (entry["Key"] for entry in page.get("Contents", []))
        if not page.get("IsTruncated"):
            return
        further = {"ContinuationToken": page["NextContinuationToken"]}


def clear_uploads(fs: Any, root: str) -> int:
    """Aborts the uploads that killed processes left below this folder, and no others; returns how many."""
    bucket, key, _ = fs.split_path(root)
    prefix, marker, count = f"{key}/" if key else "", dict[str, str](), 0
    try:
        while True:
            page = _page(fs, bucket, prefix, marker)
            uploads = [upload for upload in page.get("Uploads", []) if upload["Key"].startswith(prefix)]
            for upload in uploads:
                _abort(fs, bucket, upload)
            count += len(uploads)
            if not page.get("IsTruncated"):
                return count
            marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    except OSError as error:   # a right that only this needs, or an S3 without it; a lifecycle rule of the bucket does it as well
        log.warning("%s: uploads of killed processes, if any, are left: %s", root, described(error))
        return count


def _page(fs: Any, bucket: str, prefix: str, marker: dict[str, str]) -> Any:
    return retried(lambda: fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **marker), f"s3://{bucket}/{prefix}")


def _abort(fs: Any, bucket: str, upload: dict[str, Any]) -> None:
    def abort() -> None:
        try:
            fs.abort_mpu(bucket, upload["Key"], upload["UploadId"])
        except FileNotFoundError:
            return   # gone in the meantime

    retried(abort, f"s3://{bucket}/{upload['Key']}")
