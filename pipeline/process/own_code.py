"""Where Python looks for code: our own packages are found whatever else is called as they are, and the working folder, which may
hold anybody's data, is no place for code.

Python puts the working folder on its path for `python -m`, and for an empty or relative entry of PYTHONPATH. What PYTHONPATH names
by a full path was put there on purpose, and stays.
"""

import os
import site
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
"""The folder of our packages: a checkout, or where the distribution is installed."""
NAMES = ("pipeline", "schemas")


def leave_out_working_folder() -> None:
    """Takes it off the path of this process and of those that it starts; also the folder of the script that was started, which
    `ray submit` copies into somebody's home. Our own folder stays."""
    named = _named()
    here = {"", os.getcwd(), os.path.dirname(os.path.realpath(sys.argv[0]))}
    here |= {os.path.abspath(path) for path in _python_path() if not os.path.isabs(path)}
    kept = {ROOT, *named, *_installed()}
    sys.path[:] = [path for path in sys.path if path in kept or path not in here]
    os.environ.pop("PYTHONPATH", None)
    if named:
        os.environ["PYTHONPATH"] = os.pathsep.join(named)


def workers_path() -> list[str]:
    """What workers have to look at before their own path: our folder, unless they find our packages as it is. Their path is what is
    installed, and PYTHONPATH before it; those of a cluster that was there before may have another PYTHONPATH, or none."""
    return _ours_first(_installed()) or _ours_first([*_named(), *_installed()])


def child_environment() -> dict[str, str]:
    """The environment of a Python process that finds the code that this one finds. It is to be started with -P."""
    paths = [path for path in sys.path if os.path.isabs(path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys([*_ours_first(paths), *paths]))}


def _ours_first(paths: Iterable[str]) -> list[str]:
    specs = [PathFinder.find_spec(name, list(paths)) for name in NAMES]
    found = [spec.origin if spec else None for spec in specs]
    return [] if found == [os.path.join(ROOT, name, "__init__.py") for name in NAMES] else [ROOT]


def _python_path() -> list[str]:
    text = os.environ.get("PYTHONPATH")
    return text.split(os.pathsep) if text else []


def _named() -> list[str]:
    return [path for path in _python_path() if os.path.isabs(path)]


def _installed() -> list[str]:
    return [*site.getsitepackages(), site.getusersitepackages()]
