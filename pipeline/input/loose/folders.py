"""A folder of images with a caption (`.txt`, `.caption`) or metadata (`.json`) of the same name beside each."""

import os
from collections.abc import Iterator
from itertools import groupby

from pipeline.input.loose.below import Below
from pipeline.input.loose.items import Candidate, Item, LeftOut, extension_of, is_image, key_of, shown
from pipeline.input.samples import IMAGE_EXTENSIONS
from pipeline.store.store import Store

CAPTIONS = ("txt", "caption")
"""Extensions of captions; the first that is there counts."""
JSON = "json"


def folder_items(below: Below, prefix: str = "") -> Iterator[Item]:
    """What is in the folder `below.base` and the folders in it, in the order of the names; those of one folder are held at once.

    Links are followed as far as they stay below the root, each folder is visited once. `prefix`: of the keys.
    """
    waiting, visited = [""], set[str]()
    while waiting:
        folder = waiting.pop()
        try:
            files, folders, refused = _local(below, folder, visited) if below.is_local else _remote(below, folder)
        except PermissionError:
            yield LeftOut("not_allowed", shown(folder or below.base))
            continue
        yield from refused
        yield from _pairs(folder, files, prefix)
        waiting += sorted(folders, reverse=True)


def _local(below: Below, folder: str, visited: set[str]) -> tuple[list[str], list[str], list[LeftOut]]:
    """Names of files, paths of folders, and what is neither or leads out of the root."""
    files, folders, refused = list[str](), list[str](), list[LeftOut]()
    here = os.path.join(below.base, folder)
    if os.path.realpath(here) in visited:
        return files, folders, refused
    visited.add(os.path.realpath(here))
    with os.scandir(here) as entries:
        for entry in entries:
            path = f"{folder}{entry.name}"
            if entry.name.startswith("."):
                refused.append(LeftOut("hidden", shown(path)))
            elif entry.is_dir():
                if entry.is_symlink() and not below.holds(os.path.realpath(entry.path)):
                    refused.append(LeftOut("outside_root", shown(path)))
                else:
                    folders.append(f"{path}/")
            elif entry.is_file() or entry.is_symlink():   # a link that leads nowhere is named by who opens it
                files.append(entry.name)
            else:
                refused.append(LeftOut("not_a_file", shown(path)))
    return files, folders, sorted(refused)


def _remote(below: Below, folder: str) -> tuple[list[str], list[str], list[LeftOut]]:
    store = Store(below.base)
    inside = folder.rstrip("/")
    names, folders = store.names(inside), store.folders(inside)
    refused = [LeftOut("hidden", f"{folder}{name}") for name in (*names, *folders) if name.startswith(".")]
    return ([name for name in names if not name.startswith(".")],
            [f"{folder}{name}/" for name in folders if not name.startswith(".")], refused)


def _pairs(folder: str, names: list[str], prefix: str) -> Iterator[Item]:
    """The samples of one folder. Names of one stem are a sample, whatever the case of their extensions."""
    names.sort(key=_stem_first)
    for stem, same in groupby(names, lambda name: name.rpartition(".")[0] or name):
        yield from _sample(folder, stem, list(same), prefix)


def _stem_first(name: str) -> str:
    stem, dot, extension = name.rpartition(".")
    return f"{stem}\0{extension}" if dot else name


def _sample(folder: str, stem: str, names: list[str], prefix: str) -> Iterator[Item]:
    images = sorted(filter(is_image, names), key=lambda name: (IMAGE_EXTENSIONS.index(extension_of(name)), name))
    captions = sorted((n for n in names if extension_of(n) in CAPTIONS), key=lambda n: (CAPTIONS.index(extension_of(n)), n))
    objects = [name for name in names if extension_of(name) == JSON]
    if images:
        text, metadata = (folder + some[0] if some else None for some in (captions, objects))
        yield Candidate(prefix + key_of(folder + stem), shown(folder + images[0]), folder + images[0], text, metadata)
        left = [("further_image", images[1:]), ("further_caption", captions[1:] + objects[1:])]
    else:
        left = [("no_image", captions + objects)]
    known = {*images, *captions, *objects}
    for reason, some in (*left, ("other_file", [name for name in names if name not in known])):
        yield from (LeftOut(reason, shown(folder + name)) for name in some)
