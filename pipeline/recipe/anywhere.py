"""Files that a recipe names, so that they mean the same on every machine: a worker has another working folder than the command."""

from pathlib import Path

from pipeline.errors import InputError
from pipeline.store.store import absolute, is_chain

BUNDLED = "bundled:"
LOCAL_MODEL = "local-dir:"


def one_place(url: str) -> str:
    """Raises ValueError for what is not one file or folder."""
    if is_chain(url):
        raise ValueError(f"{url} is a chain of file systems or a command, which shardmill never opens: name one file or folder")
    return url


def file_anywhere(url: str) -> str:
    """The URL of a file; what comes with the package stays as it is."""
    return url if url.startswith(BUNDLED) else _absolute(one_place(url))


def model_anywhere(name: str) -> str:
    """A model's name, in which a folder is absolute."""
    return LOCAL_MODEL + _absolute(name.removeprefix(LOCAL_MODEL)) if name.startswith(LOCAL_MODEL) else name


def weights_anywhere(weights: str | None) -> str | None:
    """A tag of open_clip as it is; the path of a file that is there, absolute."""
    return _absolute(weights) if weights is not None and Path(weights).expanduser().is_file() else weights


def label_anywhere(label: str | None) -> str | None:
    """`NAME` or `NAME/WEIGHTS`, as the model's own label has it."""
    if label is None or label.startswith(LOCAL_MODEL):
        return label and model_anywhere(label)
    name, slash, weights = label.partition("/")
    return f"{name}/{weights_anywhere(weights)}" if slash else label


def _absolute(url: str) -> str:
    try:
        return absolute(url)
    except InputError as error:
        raise ValueError(str(error)) from error
