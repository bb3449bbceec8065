"""Versions of what computes: they go into run.json, so that a difference between two runs can be explained."""

import platform
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = (
    "shardmill", "ray", "torch", "torchvision", "open_clip_torch", "faiss-cpu", "faiss-gpu", "numpy", "pyarrow", "pillow",
    "webdataset",
)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue   # faiss-cpu and faiss-gpu are alternatives; a source tree on the path has no distribution
    return found
