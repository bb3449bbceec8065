"""The notebook in docs/, cell by cell, as Jupyter would run it. The run in its first cell is finished before: others test runs."""

import ast
import html.parser
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def executed(source: str, names: dict[str, Any]) -> Any:
    """Runs a cell; the value of its last line where that is an expression."""
    tree = ast.parse(source)
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


class Tags(html.parser.HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


def test_the_notebook_goes_from_curate_to_a_plot_of_one_class(
    demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(demo_root, tmp_path / "curated", symlinks=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "pipeline" / "api")   # as the installation has it
    names: dict[str, Any] = {}
    values = []
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        assert not cell["outputs"], "clear the outputs: they are somebody's paths and times"
        values.append(executed("".join(cell["source"]), names))
    root, counts, _, rules, classes, _, plot, pictures = values
    assert repr(root) == "shardmill.open('curated')"
    assert counts["read"] == 828 == sum(counts.values()) - 828
    assert ("clip_similarity", False) in [(rule, passed) for rule, _, passed in rules]
    (number, name, size), kept = classes[0], counts["kept"]
    circles = Tags(plot._repr_html_()).of("circle")
    assert len(circles) == kept
    assert sum(circle["fill"] == "crimson" for circle in circles) == size
    shown = Tags(pictures._repr_html_())
    assert len(shown.of("img")) == min(12, size)
    assert all(str(image["src"]).startswith("data:image/jpeg;base64,/9j/") for image in shown.of("img"))
    assert f"<h3>{name}: {size} samples</h3>" in pictures
    assert number in names["table"]["class_id"].to_pylist()
    names["one"] = names["one"].model_copy(update={"name": "<script>"})
    names["table"] = names["table"].set_column(1, "caption", [["<script>"] * kept])
    hostile = Tags(executed("".join(cells[-1]["source"]), names))
    assert len(hostile.of("img")) == min(12, size)
    assert not hostile.of("script")
