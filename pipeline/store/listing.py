"""Files and folders of one fsspec file system, which is handed in: what is listed, which version of a file is there."""

import errno
import os
import shutil
from dataclasses import dataclass
from typing import Any

from pipeline.store.s3 import is_s3, remove_objects
from pipeline.store.source import local_files, local_kind


@dataclass(frozen=True)
class FileInfo:
    """A file as its store lists it. `version` changes when the content does: etag, or modification time and size."""

    url: str
    size: int
    version: str


def version(info: dict[str, Any]) -> str:
    """The version of a remote file, from what its store says of it."""
    for key in ("ETag", "etag", "md5", "crc32c", "generation"):
        if info.get(key):
            return str(info[key]).strip('"')
    modified = next((info[key] for key in ("mtime", "LastModified", "Last-Modified", "created") if info.get(key)), "")
    return f"{modified}-{info.get('size')}"


def is_local(fs: Any) -> bool:
    """Whether this fsspec file system is the local one."""
    return "file" in fs.protocol


def folder_entries(fs: Any, path: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(path, "file" or "directory", info) of what is directly in a folder; empty when there is no such folder."""
    try:
        listing = fs.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    entries = [(str(item["name"]).rstrip("/"), str(item["type"]), item) for item in listing]
    if is_local(fs):   # fsspec calls a symbolic link "other", whatever it points to
        entries = [(name, local_kind(name) if kind == "other" else kind, item) for name, kind, item in entries]
    return [item for item in entries if item[0] != path]   # an object store lists the folder's own marker


def files_below(fs: Any, path: str, depth: int | None = None) -> dict[str, dict[str, Any] | None]:
    """Every file below a folder, at most `depth` levels down, and what the listing says of it."""
    if is_local(fs):
        return dict.fromkeys(local_files(path, depth))
    return {n: i for n, i in fs.find(path, maxdepth=depth, detail=True).items() if i and i["type"] == "file"}


def file_info(fs: Any, name: str, info: dict[str, Any] | None) -> FileInfo:
    """`info` is what a listing said; locally the file is asked anew: a listing describes a link, not its target."""
    if is_local(fs):
        status = os.stat(name)
        return FileInfo(name, status.st_size, stat_version(status))
    info = fs.info(name) if info is None else info
    return FileInfo(str(fs.unstrip_protocol(name)), int(info["size"]), version(info))


def stat_version(status: os.stat_result) -> str:
    """The version of a local file: modification time in nanoseconds, and size."""
    return f"{status.st_mtime_ns}-{status.st_size}"


def remove(fs: Any, path: str) -> None:
    """Removes a file or folder if it is there, by its name: fsspec's own `rm` takes `[1]` for a pattern. Raises OSError EAGAIN when
    something of it is left."""
    try:
        if is_local(fs):
            _remove_local(path)
        elif is_s3(fs):
            remove_objects(fs, path)
        elif fs.exists(path):
            _remove_each(fs, path)
    except FileNotFoundError:
        pass   # somebody else removes it too
    if fs.exists(path):   # a store does not say so when some of many are refused
        raise BlockingIOError(errno.EAGAIN, "it is still there")


def _remove_local(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _remove_each(fs: Any, path: str) -> None:
    entries = fs.find(path, withdirs=True, detail=True)
    for name, info in sorted(entries.items(), reverse=True):   # what is in a folder comes before it
        fs.rmdir(name) if info["type"] == "directory" else fs.rm_file(name)
    if fs.isdir(path) and path not in entries:
        fs.rmdir(path)
