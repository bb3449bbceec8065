"""Versions of what computes: they go into run.json, so that a difference between two runs can be explained."""

import platform
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = (
    "shardmill", "ray", "torch", "torchvision", "open_clip_torch", "faiss-cpu", "faiss-gpu", "numpy", "pyarrow", "pillow",
    "webdataset",
)


def versions() -> dict[str, str]:
    """The versions of Python and of the installed libraries, by name."""
    by_name = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            by_name[name] = version(name)
        except PackageNotFoundError:
            continue   # faiss-cpu and faiss-gpu are alternatives; a source tree on the path has no distribution
    return by_name
