"""The page's own files, read once: what is asked for is looked up by its name, so no path is made of it."""

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent.parent.parent / "assets" / "explorer"
MEDIA_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
               ".svg": "image/svg+xml"}
INDEX = "index.html"


class PageFile(NamedTuple):
    """A file as it is sent."""

    content: bytes
    media_type: str
    etag: str
    """changes with the content"""


@cache
def page_files() -> dict[str, PageFile]:
    """Every file of the page by its name."""
    files = {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in MEDIA_TYPES:
            content = path.read_bytes()
            files[path.name] = PageFile(content, MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return files
