"""The report in headless Chromium: `pytest tests/report/browser.py` (apt-get install --no-install-recommends chromium).

Not collected by a plain `pytest`: a machine without a browser has nothing to fail. Chromium alone can tell that the policy lets
the page's own style and pictures through, and that nothing hostile runs.
"""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.report import page
from pipeline.report.data import EntityRow, Picture, ReportData, Top
from pipeline.report.page import render, thumbnail
from tests.report.test_page import HOSTILE, RUN, Page, hostile

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--force-color-profile=srgb",
         "--blink-settings=preferredColorScheme=1", "--window-size=1280,1600"]


SCRIPT = (Path(page.__file__).parent.parent / "assets" / "report" / "report.js").read_text()
DRIVER = """<script>
const table = document.querySelector("table.entities"), buttons = table.tHead.rows[0].querySelectorAll("button");
const column = (place) => Array.from(table.tBodies[0].rows, (row) => row.cells[place].textContent);
const sorted = (button, place) => { buttons[button].click(); return column(place); };
const search = (words) => {
  const box = document.getElementById("search");
  box.value = words;
  box.dispatchEvent(new Event("input"));
  return Array.from(document.querySelectorAll("table.entities tbody tr")).filter((row) => !row.hidden).length;
};
const names = [sorted(0, 1), sorted(0, 1)], counts = [sorted(2, 3), sorted(2, 3)], scores = [sorted(3, 4), sorted(3, 4)];
const found = [search("CAT n2"), search("cat dog"), search("")];
const picture = document.querySelector("img.thumb"), small = picture.getBoundingClientRect().width;
picture.focus();
const large = picture.getBoundingClientRect().width > 4 * small;
document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
const again = picture.getBoundingClientRect().width === small;
document.title = JSON.stringify({ names, counts, scores, found, large, again });
</script></body>"""


def chromium(folder: Path, html: str, *flags: str) -> str:
    """The standard output of Chromium after it opened the page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "this test asks a real browser: apt-get install --no-install-recommends chromium"
    (folder / "report.html").write_text(html, encoding="utf-8")
    command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, (folder / "report.html").as_uri()]
    return subprocess.run(command, capture_output=True, check=True, timeout=120, text=True).stdout


def test_a_browser_runs_nothing_hostile_and_shows_style_and_pictures(tmp_path: Path) -> None:
    text = " ".join(HOSTILE)
    dom = Page(chromium(tmp_path, render(hostile(text)), "--dump-dom"))
    assert dom.all("title")[0].text.endswith("1 of 3 kept · shardmill")
    assert [e.text for e in dom.all("script")] == [SCRIPT]
    assert {e.attributes["src"][:16] for e in dom.all("img")} == {"data:image/jpeg;"}
    assert text[:60] in dom.text

    red = np.full((96, 96, 3), (220, 20, 20), np.uint8)
    shots = (Picture("red", "k", "s", thumbnail(red)),)
    html = render(ReportData(replace(RUN, recipe="sample"), 1, 1, kept_pictures=shots))
    chromium(tmp_path, html, f"--screenshot={tmp_path / 'page.png'}")
    seen = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    assert seen[5, 5].tolist() == [0xFA, 0xF9, 0xF6], "the page's own style is blocked"
    assert (np.abs(seen - (220, 20, 20)).max(axis=2) < 12).sum() > 3000, "the picture is blocked"


def test_tables_sort_the_page_is_searched_and_pictures_grow(tmp_path: Path) -> None:
    """Driven by a second script, for which the page's policy is taken out: it would let nothing in."""
    shot = Picture("red", "k", "s", thumbnail(np.full((96, 96, 3), 200, np.uint8)))
    rows = tuple(EntityRow(f"n{count % 7}", name, count, z) for name, count, z in (
        ("cat", 9, 2.5), ("apple", 1200, None), ("dog", 30, 10.25)))
    html = render(ReportData(replace(RUN, recipe="sample"), 1, 1, kept_pictures=(shot,), entities=Top(rows, 3)))
    policy = re.search(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", html)
    assert policy is not None
    driven = html.replace(policy[0], "").replace("</body>", DRIVER)
    said = json.loads(Page(chromium(tmp_path, driven, "--dump-dom")).all("title")[0].text)
    assert said == {
        "names": [["apple", "cat", "dog"], ["dog", "cat", "apple"]], "counts": [["1,200", "30", "9"], ["9", "30", "1,200"]],
        "scores": [["10.25", "2.50", "–"], ["2.50", "10.25", "–"]], "found": [1, 0, 3], "large": True, "again": True,
    }
