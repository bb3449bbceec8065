"""Which model: names, and what is known of a model without loading its weights. Neither torch nor open_clip is needed for it: they
take seconds to import."""

import difflib
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.models.pretrained import WEIGHTS, Source, hub_folder, is_cached, tags_of
from pipeline.store.reach import unreachable

ASSETS = Path(__file__).parent.parent / "assets"
BUNDLED_MODELS = {"bundled": ASSETS / "model", "bundled:tinyclip-oc": ASSETS / "model"}
LOCAL, HUB = "local-dir:", "hf-hub:"
RANDOM = "random"
"""As `pretrained`: seeded random weights. They score noise; benchmarks use them."""

CONTENT = (".json", *WEIGHTS, ".txt", ".model")
"""Suffixes of the files of a model's folder that make the model: config, weights, tokenizer."""
NO_WEIGHTS = {
    b"": "is empty: fetch it again",
    b"version https://git-lfs": "is a pointer of Git LFS, not the weights: run `git lfs pull` where it comes from",
    b"<": "is a web page, not weights: fetch the file itself",
}
"""What a file begins with that was not fetched as it should be."""


TOKENIZER = (".json", ".txt", ".model")
"""Suffixes of a tokenizer's files."""


@dataclass(frozen=True)
class ModelSpec:
    """A model by name: `bundled`, `local-dir:FOLDER`, `hf-hub:ORG/REPO`, or open_clip's name with its `pretrained` tag or file."""

    name: str = "bundled"
    pretrained: str | None = None

    @property
    def resolved(self) -> str:
        """The name that open_clip takes."""
        if self.name.startswith("bundled"):
            if self.name not in BUNDLED_MODELS:
                raise InputError(f"model {self.name} is not in this package; there is {', '.join(BUNDLED_MODELS)}")
            return f"{LOCAL}{BUNDLED_MODELS[self.name]}"
        return self.name

    @property
    def folder(self) -> Path | None:
        """The folder of a local model."""
        name = self.resolved
        return Path(name.removeprefix(LOCAL)) if name.startswith(LOCAL) else None


@dataclass(frozen=True)
class Description:
    """What the columns of a model depend on, known without loading its weights."""

    dimension: int
    image_size: tuple[int, int]
    identity: str
    """`sha256:…` of config and weights where they are at hand, else the name and tag."""


def describe(spec: ModelSpec) -> Description:
    """What the columns of the model depend on. Raises InputError, naming the model and what to write instead, for one that does not
    exist."""
    config = _config(spec)
    if _asks(config, "trust_remote_code"):
        raise InputError(f"model {label(spec)} asks to run code of its own (trust_remote_code), which shardmill never does")
    size = config["vision_cfg"].get("image_size", 224)
    rows, columns = (size, size) if isinstance(size, int) else size
    return Description(int(config["embed_dim"]), (rows, columns), _identity(spec))


def _asks(config: Any, key: str) -> bool:
    """Whether this key is set anywhere in a config; open_clip hands a tokenizer's settings on to transformers as they are."""
    if isinstance(config, Mapping):
        return bool(config.get(key)) or any(_asks(value, key) for value in config.values())
    return isinstance(config, list) and any(_asks(item, key) for item in config)


def label(spec: ModelSpec) -> str:
    """The model's name and the tag of its weights, for messages."""
    return f"{spec.name}/{spec.pretrained}" if spec.pretrained else spec.name


def _config(spec: ModelSpec) -> Mapping[str, Any]:
    """open_clip's config of the model, after the weights were found to have a name."""
    if spec.folder is not None:
        return _folder_config(spec, spec.folder)
    if spec.name.startswith(HUB):
        return _hub_config(spec)
    name, config = spec.name.replace("/", "-"), architecture(spec.name.replace("/", "-"))
    if config is None:
        near = difflib.get_close_matches(spec.name, architectures(), n=1)
        hint = f"; the nearest that it knows is {near[0]}" if near else ""
        raise InputError(f"open_clip knows no model {spec.name}{hint}")
    if spec.pretrained != RANDOM and not (spec.pretrained and Path(spec.pretrained).is_file()):
        _has_tag(spec, name)
    return config


def architecture(name: str) -> Mapping[str, Any] | None:
    """open_clip's config of an architecture; None where there is none of this name. Where open_clip is loaded it is asked, for a
    program may have added some; else its files are read, which takes no seconds."""
    config: Mapping[str, Any] | None
    if "open_clip" in sys.modules:
        config = sys.modules["open_clip"].get_model_config(name)
        return config
    path = _config_folder() / f"{name}.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.name in {file.name for file in path.parent.iterdir()} else None
    return config


def architectures() -> list[str]:
    """The names of the architectures that open_clip brings."""
    return sorted(path.stem for path in _config_folder().glob("*.json"))


def _config_folder() -> Path:
    package = find_spec("open_clip")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name("model_configs")


def _has_tag(spec: ModelSpec, name: str) -> None:
    tags = list(tags_of(name))
    if spec.pretrained is None:
        raise InputError(f"model {spec.name} needs weights: set model.pretrained to one of {', '.join(tags)}, or a checkpoint file")
    if spec.pretrained in tags:
        return
    path = Path(spec.pretrained)
    if path.is_dir():
        raise InputError(f"model.pretrained: {path} is a folder: name the checkpoint in it, or set model.name={LOCAL}{path}")
    if path.suffix in WEIGHTS or len(path.parts) > 1 or spec.pretrained.startswith("~"):
        raise InputError(
            f"model.pretrained: no such file {path}: give a checkpoint file by the path that every worker has it under, or a name "
            f"of open_clip's weights for {spec.name}, e.g. {tags[0] if tags else 'openai'}")
    near = difflib.get_close_matches(spec.pretrained, tags, n=1)
    hint = f"did you mean {near[0]}? there is" if near else "use"
    raise InputError(f"model {spec.name} has no weights {spec.pretrained!r}: {hint} {', '.join(tags)}, or a checkpoint file")


def refuse_missing_weights(spec: ModelSpec, files: tuple[str, ...] = WEIGHTS) -> None:
    """Raises InputError, which says how to bring them, where the weights of a model that exists are not on this machine and cannot
    be downloaded to it either. `files`: suffixes, of which one is enough."""
    if spec.folder is not None:
        if not any(path.suffix in WEIGHTS for path in spec.folder.glob("*")):
            raise InputError(f"model {spec.name}: there are no weights in {spec.folder} (*{', *'.join(WEIGHTS)})")
        return
    if spec.name.startswith(HUB):
        _refuse_missing("weights", spec, Source(spec.name.removeprefix(HUB).partition("@")[0], ""), files)
        return
    name = spec.name.replace("/", "-")
    if spec.pretrained not in (None, RANDOM) and not Path(str(spec.pretrained)).is_file():
        _refuse_missing("weights", spec, tags_of(name).get(str(spec.pretrained), Source("", "")), files)
    tokenizer = str((architecture(name) or {}).get("text_cfg", {}).get("hf_tokenizer_name") or "")
    if not Path(tokenizer).exists():
        _refuse_missing("tokenizer", spec, Source(tokenizer, ""), TOKENIZER)


def _refuse_missing(what: str, spec: ModelSpec, source: Source, files: tuple[str, ...]) -> None:
    """Raises InputError where no file of this source with one of these suffixes is here, and none can be downloaded."""
    if source == ("", "") or is_cached(source, files):
        return
    server = source.url or os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    why = "HF_HUB_OFFLINE is set" if offline() and source.repository else unreachable(server)
    if why:
        ways = [f"copy {hub_folder(source)} from a machine that has it"] if source.repository else []
        if what == "weights":
            ways.append("download the checkpoint elsewhere and give its path as model.pretrained, or its folder as "
                        f"model.name={LOCAL}FOLDER")
        absent = f"{'are' if what == 'weights' else 'is'} not on this machine, and cannot be downloaded ({why})"
        raise InputError(f"the {what} of model {label(spec)} {absent}: {', or '.join(ways)}")


def offline() -> bool:
    """Whether the environment tells the client of the Hugging Face hub to ask nobody."""
    said = (os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value in ("1", "ON", "YES", "TRUE") for value in said)


def _hub_config(spec: ModelSpec) -> Mapping[str, Any]:
    _no_tag(spec)
    refuse_missing_weights(spec, (".json",))
    from open_clip import get_model_config  # takes seconds to import

    try:
        config: Mapping[str, Any] = get_model_config(spec.name)
    except (RuntimeError, OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise InputError(f"model {spec.name} cannot be read from the Hugging Face hub: {error}") from error
    return config


def _folder_config(spec: ModelSpec, folder: Path) -> Mapping[str, Any]:
    _no_tag(spec)
    path = folder / "open_clip_config.json"
    try:
        config: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
    except FileNotFoundError as error:
        raise InputError(f"model {spec.name}: there is no {path}") from error
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"model {spec.name}: {path} is not an open_clip config ({error})") from error
    return config


def _no_tag(spec: ModelSpec) -> None:
    if spec.pretrained is not None:
        raise InputError(f"model {spec.name} brings its own weights: leave model.pretrained out")


def _identity(spec: ModelSpec) -> str:
    if spec.folder is not None:
        files = sorted(path for path in spec.folder.iterdir() if path.suffix in CONTENT)
        for weights in (path for path in files if path.suffix in WEIGHTS):
            _check_begin(spec, weights)
        return "sha256:" + _content(tuple((path, path.name, *_stamp(path)) for path in files))
    if spec.pretrained not in (None, RANDOM) and Path(str(spec.pretrained)).is_file():
        path = Path(str(spec.pretrained))
        _check_begin(spec, path)
        return f"{spec.name}/sha256:" + _content(((path, "", *_stamp(path)),))
    return label(spec)


def _check_begin(spec: ModelSpec, path: Path) -> None:
    """Raises InputError for a file of weights that shows at its first bytes that it is none."""
    with path.open("rb") as file:
        head = file.read(64)
    for begin, why in NO_WEIGHTS.items():
        if head.startswith(begin) if begin else not head:
            raise InputError(f"model {spec.name}: {path} {why}")


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=8)
def _content(files: tuple[tuple[Path, str, int, int], ...]) -> str:
    """SHA-256 of the files' names and contents. Their time and size are arguments so that a changed file is read again."""
    digest = hashlib.sha256()
    for path, name, _, size in files:
        digest.update(f"{name}\0{size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
