"""The report in headless Chromium: `pytest tests/report/browser.py` (apt-get install --no-install-recommends chromium).

Not collected by a plain `pytest`: a machine without a browser has nothing to fail. Chromium alone can tell that the policy lets
the page's own style and pictures through, and that nothing hostile runs.
"""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.report.data import Picture, ReportData
from pipeline.report.page import render, thumbnail
from tests.report.test_page import HOSTILE, RUN, Page, hostile

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--force-color-profile=srgb",
         "--blink-settings=preferredColorScheme=1", "--window-size=1280,1600"]


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
    assert not dom.all("script")
    assert {e.attributes["src"][:16] for e in dom.all("img")} == {"data:image/jpeg;"}
    assert text[:60] in dom.text

    red = np.full((96, 96, 3), (220, 20, 20), np.uint8)
    shots = (Picture("red", "k", "s", thumbnail(red)),)
    page = render(ReportData(replace(RUN, recipe="sample"), 1, 1, kept_pictures=shots))
    chromium(tmp_path, page, f"--screenshot={tmp_path / 'page.png'}")
    seen = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    assert seen[5, 5].tolist() == [0xFA, 0xF9, 0xF6], "the page's own style is blocked"
    assert (np.abs(seen - (220, 20, 20)).max(axis=2) < 12).sum() > 3000, "the picture is blocked"
