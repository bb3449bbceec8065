"""The weights that open_clip knows by a tag: which there are, where they come from, and whether they are on this machine. open_clip
is not imported for it, which takes seconds: its list is read as text."""

import ast
import os
import sys
from collections.abc import Container, Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

WEIGHTS = (".safetensors", ".bin", ".pth", ".pt")
"""Suffixes of checkpoints."""
LIST = "_PRETRAINED"


class Source(NamedTuple):
    """Where the weights of a tag come from: a repository of the Hugging Face hub, or else a URL."""

    repository: str
    url: str


def tags_of(architecture: str) -> Mapping[str, Source]:
    """The tags of an architecture, with their sources; empty for one without weights. Where open_clip is loaded it is asked, for a
    program may have added some."""
    if "open_clip" in sys.modules:
        return {tag: source(sys.modules["open_clip"].pretrained.get_pretrained_cfg(architecture, tag))
                for tag in sys.modules["open_clip"].list_pretrained_tags_by_model(architecture)}
    return _listed().get(architecture, {})


def source(config: Mapping[str, object]) -> Source:
    """The source that an entry of open_clip's list names. A repository may be followed by the name of the file."""
    repository = "/".join(str(config.get("hf_hub") or "").split("/")[:2])
    return Source(repository, "" if repository else str(config.get("url") or ""))


@lru_cache(maxsize=1)
def _listed() -> Mapping[str, Mapping[str, Source]]:
    """Every architecture's tags, as the text of open_clip's `pretrained.py` has them."""
    package = find_spec("open_clip")
    assert package is not None
    assert package.origin is not None
    tree = ast.parse(Path(package.origin).with_name("pretrained.py").read_text(encoding="utf-8"))
    named = {target.id: node.value for node in tree.body if isinstance(node, ast.Assign)
             for target in node.targets if isinstance(target, ast.Name)}
    listed, models = dict[str, dict[str, Source]](), named.get(LIST)
    for key, value in zip(models.keys, models.values, strict=True) if isinstance(models, ast.Dict) else ():
        tags = named.get(value.id) if isinstance(value, ast.Name) else value
        name = key.value if isinstance(key, ast.Constant) else None
        if not isinstance(name, str) or not isinstance(tags, ast.Call):
            continue
        for tag, config in _entries(tags):
            listed.setdefault(name, {})[tag] = source(config)
            if config.get("quick_gelu"):
                listed.setdefault(f"{name}-quickgelu", {})[tag] = source(config)
    return listed


def _entries(tags: ast.Call) -> Iterator[tuple[str, dict[str, object]]]:
    """(tag, constant settings) of a call dict(tag=_pcfg(setting=…, …), …); the first argument without a name is the URL."""
    for entry in tags.keywords:
        if entry.arg is not None and isinstance(entry.value, ast.Call):
            config = {k.arg: k.value.value for k in entry.value.keywords if k.arg and isinstance(k.value, ast.Constant)}
            url = next((a.value for a in entry.value.args if isinstance(a, ast.Constant)), "")
            yield entry.arg, {"url": url, **config}


def hub_cache() -> Path:
    """The folder that the Hugging Face hub's client keeps files in."""
    environment = os.environ
    home = environment.get("HF_HOME") or f"{environment.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return Path(environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub").expanduser()


def hub_folder(source: Source) -> Path:
    """What that client keeps of a repository."""
    return hub_cache() / f"models--{source.repository.replace('/', '--')}"


def is_cached(source: Source, suffixes: Container[str] = WEIGHTS) -> bool:
    """Whether a file of this source with one of these suffixes is on this machine."""
    if source.repository:
        return any(path.suffix in suffixes for path in hub_folder(source).glob("snapshots/*/*"))
    return (Path("~/.cache/clip").expanduser() / source.url.rpartition("/")[2]).exists()
