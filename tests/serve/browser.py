"""The explorer page in headless Chromium, over a real service: `pytest tests/serve/browser.py`.

Needs Debian's chromium (apt-get install --no-install-recommends chromium) and axe-core, of which the wheel of axe-playwright-python
brings a copy (pip install --no-deps axe-playwright-python). Not collected by a plain `pytest`. Every tab must end without a word in
red on its console, without a request to another host, and without a layout that shifts by itself; what it looked like lies in
build/ui.
"""

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.api import shardmill
from pipeline.serve.settings import Settings
from tests.report.test_page import HOSTILE
from tests.serve.chrome import Tab, chromium
from tests.serve.running import Running, running

SHOTS = Path(__file__).parent.parent.parent / "build" / "ui"
SAMPLE = Path(__file__).parent.parent.parent / "pipeline" / "assets" / "sample"
TOKEN = "a-token-of-a-test-1234"
SHIFT = 0.05
"""Of the layout, that no input caused: half of what is called good (web.dev/cls)."""
TILES = "JSON.stringify([...document.querySelectorAll('.results .tile')].map((tile) => tile.dataset.uid))"
PHONE = {"width": 390, "height": 844, "phone": True}
Opener = Callable[..., Tab]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled sample and captions that would like to be scripts, with two levels of classes."""
    folder = tmp_path_factory.mktemp("explorer")
    pixels = np.random.default_rng(0)
    with tarfile.open(folder / "hostile.tar", "w") as archive:
        for number, caption in enumerate(HOSTILE):
            picture = io.BytesIO()
            Image.fromarray(pixels.integers(0, 255, (8, 8, 3), np.uint8)).resize((128, 128)).save(picture, "PNG")
            for extension, content in (("png", picture.getvalue()), ("txt", caption.encode())):
                member = tarfile.TarInfo(f"{number:05d}.{extension}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    shardmill.curate("sample", [SAMPLE, folder / "hostile.tar"], folder / "root", local=True,
                     overrides=["classes.levels=[8]", "model.compile=false"])
    return folder / "root"


@pytest.fixture(scope="module")
def served(root: Path) -> Iterator[Running]:
    with running([f"run={root}"]) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Opener]:
    SHOTS.mkdir(parents=True, exist_ok=True)
    with chromium() as tab:
        yield tab


@pytest.fixture
def page(browser: Opener, served: Running) -> Iterator[Opener]:
    """Opens an address of the page in a tab; at the end, all that a tab must not have done is looked for. A test takes out of
    `problems` what it wanted."""
    tabs: list[Tab] = []

    def opened(address: str = "", server: Running = served, **options: Any) -> Tab:
        tabs.append(browser(**options))
        tabs[-1].open(f"{server.url}/{address}")
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.js("1")   # events that are on their way
        assert tab.problems == []
        hosts = {re.sub(r"^(https?://[^/]+|blob:https?://[^/]+|data:).*", r"\1", url).removeprefix("blob:") for url in tab.requests}
        assert all(host.startswith("http://127.0.0.1:") for host in hosts), hosts
        assert tab.js("window.shift") < SHIFT
        assert not tab.js("document.documentElement.scrollWidth > innerWidth"), "it scrolls sideways"
        tab.close()


def axe() -> str:
    """axe-core's script."""
    package = find_spec("axe_playwright_python")
    assert package is not None, "the tests of the page need axe-core: pip install --no-deps axe-playwright-python"
    assert package.submodule_search_locations is not None
    return (Path(package.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


def faults(tab: Tab) -> list[str]:
    """Faults of accessibility that axe-core calls serious or critical, each with an element that has it."""
    if not tab.js("!!window.axe"):
        tab.js(f"{axe()}; 1")
    found = tab.js(
        "axe.run(document, {resultTypes: ['violations']}).then((all) => all.violations"
        ".filter((fault) => ['serious', 'critical'].includes(fault.impact))"
        ".map(({id, help, nodes: [node]}) => `${id}: ${help}: ${node.html.slice(0, 200)} ${node.failureSummary}`))")
    return list(found)


def text(tab: Tab, selector: str) -> str:
    return str(tab.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))


def texts(tab: Tab, selector: str) -> list[str]:
    return list(tab.js(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText.trim())"))


def shown(tab: Tab) -> list[str]:
    """The uids of the tiles."""
    tab.settled()
    return list(tab.js("[...document.querySelectorAll('.results .tile')].map((e) => e.dataset.uid)"))


def where(tab: Tab) -> str:
    return str(tab.js("location.search"))


def choose(tab: Tab, label: str, value: str) -> None:
    """A value for a field, as somebody who leaves it sets it."""
    tab.js(f"(() => {{ const e = document.querySelector('[aria-label={json.dumps(label)}]'); e.value = {json.dumps(value)};"
           "e.dispatchEvent(new Event('change', {bubbles: true})); })()")


def searched(served: Running, **asked: Any) -> list[str]:
    return [hit["uid"] for hit in served.post("/search", {"k": 60, **asked}).json["hits"]]


def test_words_find_samples_and_the_back_button_goes_back(page: Opener, served: Running) -> None:
    tab = page()
    first = shown(tab)
    tab.shot(SHOTS / "find.png")
    assert len(first) == 60
    assert text(tab, ".results-head").startswith("835 samples")
    tab.press("/")
    tab.write("pear")
    tab.press("Enter")
    tab.until("location.search.includes('text=pear') && document.querySelector('.results-head').innerText.includes('nearest')")
    found = shown(tab)
    assert found == searched(served, text="pear")
    tab.click("#minus")
    tab.write("apple")
    tab.press("Enter")
    tab.until("location.search.includes('minus=apple')")
    wanted = json.dumps(searched(served, text="pear", minus_text="apple"), separators=(",", ":"))
    tab.until(f"{TILES} === {json.dumps(wanted)}")
    tab.shot(SHOTS / "minus.png")
    tab.js("history.back()")
    tab.until("!location.search.includes('minus')")
    assert tab.until(f"document.querySelector('.results .tile')?.dataset.uid === {json.dumps(found[0])}")
    assert tab.js("document.getElementById('minus').value") == ""
    tab.js("history.back()")
    tab.until(f"document.querySelector('.results .tile')?.dataset.uid === {json.dumps(first[0])}")
    assert where(tab) == ""
    tab.click(".foot .button")
    tab.until("document.querySelectorAll('.results .tile').length === 120")
    assert tab.js("document.activeElement.dataset.uid") == shown(tab)[60]


def test_a_picture_is_looked_for_by_file_by_drop_and_by_paste(page: Opener, served: Running, tmp_path: Path) -> None:
    tab = page("?verdict=kept")
    own = shown(tab)[5]
    (tmp_path / "picture").write_bytes(served.get(f"/image/{own}").content)
    tab.give("#file", tmp_path / "picture")
    tab.until("location.search.includes('picture=')")
    assert own in shown(tab)[:2]   # a duplicate may stand before it
    assert text(tab, ".chip") == "like your picture"
    tab.shot(SHOTS / "picture.png")
    address = where(tab)
    tab.js("window.before = true; location.reload()")
    tab.until("!window.before && document.querySelector('.chip canvas')")
    assert own in shown(tab)[:2]

    blob = ("const blob = await (await fetch('image/%s')).blob(), data = new DataTransfer();"
            "data.items.add(new File([blob], 'p.png', {type: blob.type}));")
    for event in ("new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true})",
                  "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})"):
        other = page()
        shown(other)
        other.js(f"(async () => {{ {blob % own} document.body.dispatchEvent({event}); }})()")
        other.until("location.search.includes('picture=')")
        assert own in shown(other)[:2]

    stranger = page(address.replace("picture=", "picture=0"))
    stranger.until("document.querySelector('.notice')")
    assert "is not here" in text(stranger, ".notice")
    stranger.shot(SHOTS / "picture-of-another-tab.png")

    (tmp_path / "text").write_text("no picture")
    stranger.give("#file", tmp_path / "text")
    stranger.until("document.querySelector('.notice.bad')")
    assert "no picture" in text(stranger, ".notice.bad")


def test_keys_move_open_select_and_look_for_more(page: Opener, served: Running) -> None:
    tab = page("?verdict=kept")
    uids = shown(tab)
    tab.press("ArrowDown")
    tab.press("ArrowRight")
    tab.press("ArrowRight")
    assert tab.js("document.activeElement.dataset.uid") == uids[2]
    tab.press("x")
    tab.until("!document.getElementById('tray').hidden")
    assert text(tab, ".tray strong") == "1 sample selected"
    tab.shot(SHOTS / "selected.png")
    tab.press("Enter")
    tab.until("document.querySelector('dialog.sample[open] .banner')")
    assert text(tab, ".banner") == "Kept: it meets every rule."
    assert text(tab, ".figure .button[aria-pressed]") == "Selected"
    tab.press("ArrowRight")
    tab.until(f"location.search.includes('sample={uids[3]}')")
    tab.press("ArrowLeft")
    tab.until(f"location.search.includes('sample={uids[2]}') && document.querySelector('.banner')")
    tab.press("Escape")
    tab.until("!document.querySelector('dialog.sample[open]')")
    assert tab.js("document.activeElement.dataset.uid") == uids[2]
    tab.press("l")
    tab.until(f"location.search.includes('like={uids[2]}')")
    assert shown(tab) == searched(served, uid=uids[2])
    tab.press("?")
    tab.until("document.querySelector('dialog.sheet[open]')")
    tab.shot(SHOTS / "help.png")
    assert faults(tab) == []
    tab.press("Escape")
    tab.until("!document.querySelector('dialog[open]')")


def test_each_filter_leaves_what_meets_it(page: Opener, served: Running) -> None:
    tab = page()
    shown(tab)
    roots = served.get("/roots").json["roots"][0]

    def listed(bound: dict[str, Any]) -> list[str]:
        page = served.get(f"/samples?limit=60&where={json.dumps(bound).replace(' ', '%20')}").json
        return [sample["uid"] for sample in page["samples"]]

    def meets(bound: dict[str, Any]) -> None:
        wanted = json.dumps(listed(bound), separators=(",", ":"))
        tab.until(f"{TILES} === {json.dumps(wanted)}")
        assert listed(bound)

    tab.js("document.querySelector('input[value=\"rejected:near_duplicate\"]').click()")
    meets({"verdict": ["rejected:near_duplicate"]})
    assert set(texts(tab, ".results .verdict")) == {"rejected: near duplicate"}
    tab.click(".filters-head .button")
    choose(tab, "Similarity of picture and caption, at least", "0.45")
    meets({"clip_similarity": {"min": 0.45}})
    choose(tab, "Similarity of picture and caption, at most", "0.5")
    meets({"clip_similarity": {"min": 0.45, "max": 0.5}})
    tab.click(".filters-head .button")
    tab.until("document.querySelectorAll('[aria-label=Class] option').length > 5")
    chosen = str(tab.js("document.querySelector('[aria-label=Class]').options[1].value"))
    choose(tab, "Class", chosen)
    meets({"class_id": int(chosen)})
    tab.click(".filters-head .button")
    language = list(roots["languages"])[1]
    choose(tab, "Language", language)
    meets({"language": language})
    tab.click(".filters-head .button")
    choose(tab, "Duplicates", "near")
    meets({"near_duplicate": True})
    tab.click(".filters-head .button")
    tab.click("[aria-label=Entity]")
    tab.write("pear")
    tab.until("document.querySelector('#entities option[value=pear]')")
    tab.press("Enter")
    tab.js("document.activeElement.blur()")
    pear = next(one["id"] for one in served.get("/entities?q=pear").json["entities"] if one["name"] == "pear")
    meets({"entities": [pear]})
    assert all("pear" in caption.lower() for caption in texts(tab, ".results .caption"))
    tab.click(".filters-head .button")
    meets({})


def test_classes_lead_from_coarse_to_fine_to_samples(page: Opener, served: Running) -> None:
    tab = page("?view=classes&level=1")
    tab.until("document.querySelectorAll('.card img').length >= 16")
    tab.settled()
    tab.shot(SHOTS / "classes-coarse.png")
    assert faults(tab) == []
    tab.click(".card a")
    tab.until("location.search.includes('parent=') && document.querySelectorAll('.card .row a').length")
    tab.settled()
    parent = re.search(r"parent=(\d+)", where(tab))
    assert parent is not None
    fine = served.get(f"/classes?level=0&parent={parent[1]}").json["classes"]
    assert texts(tab, ".card-name") == [one["name"] for one in fine]
    tab.shot(SHOTS / "classes-fine.png")
    tab.click(".card a")
    tab.until("location.search.includes('class=') && document.querySelector('.results .tile')")
    assert len(shown(tab)) == min(fine[0]["size"], 60)

    tab = page("?view=classes")
    tab.settled()
    tab.shot(SHOTS / "classes.png")
    assert faults(tab) == []
    tab.press("/")
    tab.write("zzzz")
    tab.until("document.querySelector('.notice')")
    tab.shot(SHOTS / "classes-none.png")
    tab.click(".notice .button")
    tab.until("document.querySelectorAll('.card').length > 10")


def test_the_map_is_drawn_coloured_lassoed_and_its_points_opened(page: Opener, served: Running) -> None:
    tab = page("?view=map")
    tab.until("document.querySelector('.cover .notice') || document.querySelector('.legend li')")
    tab.shot(SHOTS / "map-in-work.png")
    tab.until("document.querySelectorAll('.legend li').length > 10", 120)
    tab.settled()
    tab.shot(SHOTS / "map.png")
    assert faults(tab) == []
    answer = served.get("/map").json
    assert len(answer["x"]) == len(answer["uid"]) > 800

    left, top, width, height = tab.js("(() => { const r = document.querySelector('.stage canvas').getBoundingClientRect();"
                                      "return [r.left, r.top, r.width, r.height]; })()")
    unit = 0.46 * min(width, height)
    place = [(left + width / 2 + x * unit, top + height / 2 - y * unit) for x, y in zip(answer["x"], answer["y"], strict=True)]
    spots = np.array(place)
    apart = np.abs(spots[:, None] - spots[None]).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    alone = int(apart.min(axis=1).argmax())
    tab.send("Input.dispatchMouseEvent", type="mouseMoved", x=place[alone][0], y=place[alone][1])
    tab.until("!document.querySelector('.tip').hidden && document.querySelector('.tip img')?.complete")
    tab.shot(SHOTS / "map-hover.png")
    tab.mouse(*place[alone])
    tab.until(f"location.search.includes('sample={answer['uid'][alone]}') && document.querySelector('.banner')")
    tab.press("Escape")
    tab.until("!document.querySelector('dialog[open]')")

    corner = (left + 30, top + 30)
    around = [(left + width / 2, top + 30), (left + width / 2, top + height - 30), (left + 30, top + height - 30), corner]
    tab.click("[aria-label^=Lasso]")
    steps = [(a[0] + (b[0] - a[0]) * t / 6, a[1] + (b[1] - a[1]) * t / 6)
             for a, b in zip([corner, *around], around, strict=False) for t in range(1, 7)]
    tab.mouse(*corner, *steps)
    inside = [uid for uid, (x, y) in zip(answer["uid"], place, strict=True)
              if left + 30 < x < left + width / 2 and top + 30 < y < top + height - 30]
    tab.until("document.querySelector('.lassoed h2')")
    said = int(re.sub(r"\D", "", text(tab, ".lassoed h2")))
    assert abs(said - len(inside)) <= 3
    tab.settled()
    tab.shot(SHOTS / "map-lasso.png")
    assert faults(tab) == []
    tab.click(".lassoed .button")
    tab.until("!document.getElementById('tray').hidden")
    assert text(tab, ".tray strong") == f"{len(set(tab.js('JSON.parse(sessionStorage.getItem(`selection:`))')))} samples selected"
    tab.click(".tray .quiet")
    tab.click(".legend .group")
    tab.until("document.querySelector('.legend [aria-pressed=true]')")
    tab.shot(SHOTS / "map-one-class.png")
    for kind, name in (("verdict", "Verdicts"), ("value", "Similarity of picture and caption")):
        tab.click(f".tabs [data-kind={kind}]")
        tab.until(f"document.querySelector('.legend h2').innerText === {json.dumps(name)}")
        tab.shot(SHOTS / f"map-{kind}.png")


def test_a_sample_explains_its_verdict_as_explain_does(page: Opener, served: Running) -> None:
    rejected = served.get("/samples?verdict=rejected:clip_similarity&limit=1").json["samples"][0]["uid"]
    explained = served.get(f"/explain/{rejected}").json[0]
    tab = page(f"?sample={rejected}")
    tab.until("document.querySelector('.banner')")
    tab.settled()
    tab.shot(SHOTS / "sample.png")
    assert text(tab, ".banner").startswith("Rejected by clip similarity: clip similarity is ")
    assert texts(tab, ".sample tbody th") == [rule["rule"].replace("_", " ") for rule in explained["rules"]]
    fails = [rule["rule"].replace("_", " ") for rule in explained["rules"] if not rule["passes"]]
    assert texts(tab, ".sample tr.fails th") == fails
    tab.click(".names-of .button")
    tab.until("document.querySelector('.names-of a.tag')")
    tab.js("document.querySelectorAll('.sample details').forEach((part) => { part.open = true; })")
    written = dict(zip(texts(tab, ".sample details dt"), texts(tab, ".sample details dd"), strict=True))
    assert written["phash"] == str(explained["columns"]["hashes"]["phash"]), "rounded by JavaScript"
    assert set(written) >= set(explained["columns"]["image"]) | {"uid", "url"}
    assert faults(tab) == []

    failed = served.get("/samples?verdict=failed&limit=1").json["samples"][0]["uid"]
    tab = page(f"?sample={failed}")
    tab.until("document.querySelector('.banner')")
    tab.shot(SHOTS / "sample-failed.png")
    assert text(tab, ".banner").startswith("Failed: image")
    assert not any("/image/" in url or f"/thumb/{failed}" in url for url in tab.requests)

    tab = page("?sample=" + "f" * 32)
    tab.until("document.querySelector('.sample .notice.bad')")
    tab.shot(SHOTS / "sample-unknown.png")
    assert all("404" in problem for problem in tab.problems)
    tab.problems.clear()


def test_what_a_caption_says_is_shown_and_never_done(page: Opener, served: Running) -> None:
    hostile = served.get("/samples?limit=60&offset=828").json["samples"]
    tab = page("?verdict=any")
    elements = tab.js("document.querySelectorAll('script, svg[onload], iframe, object, style').length")
    for sample in hostile:
        tab.js(f"history.pushState({{}}, '', '?sample={sample['uid']}'); dispatchEvent(new PopStateEvent('popstate'))")
        tab.until(f"document.querySelector('blockquote')?.innerText === {json.dumps(sample['caption'])}")
    assert {sample["caption"] for sample in hostile} == set(HOSTILE)
    assert tab.js("document.querySelectorAll('script, svg[onload], iframe, object, style').length") == elements
    assert "owned" not in tab.js("document.title")
    tab = page("?text=" + HOSTILE[0].replace("<", "%3C").replace(">", "%3E"))
    shown(tab)
    assert tab.js("document.getElementById('text').value") == HOSTILE[0]
    assert "<script>" in tab.js("document.title")


def test_the_selection_is_exported_in_three_forms(page: Opener, served: Running, tmp_path: Path) -> None:
    tab = page("?verdict=rejected:tiny")
    tab.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    uids = shown(tab)
    tab.click(".results-head .button:last-child")
    tab.click(".tray .main")
    tab.until("document.querySelector('dialog.sheet[open]')")
    tab.shot(SHOTS / "export.png")
    assert faults(tab) == []
    for place, form in enumerate(("txt", "npy", "parquet")):
        tab.click(f".choices li:nth-child({place + 1}) button")
        tab.until(f"document.getElementById('said').textContent.includes('selection.{form}')")
    end = 200
    while len(list(tmp_path.glob("selection.*"))) < 3 and (end := end - 1):
        tab.js("new Promise((done) => setTimeout(done, 50))")
    assert (tmp_path / "selection.txt").read_text().split() == list(dict.fromkeys(uids))
    assert pq.read_table(tmp_path / "selection.parquet")["uid"].to_pylist() == list(dict.fromkeys(uids))
    halves = np.load(tmp_path / "selection.npy", allow_pickle=False)
    assert sorted(f"{a:016x}{b:016x}" for a, b in halves.tolist()) == sorted(set(uids))


def test_empty_and_wrong_answers_are_said_and_lead_on(page: Opener, served: Running) -> None:
    tab = page("?from=0.99")
    tab.until("document.querySelector('.notice')")
    tab.shot(SHOTS / "empty.png")
    assert faults(tab) == []
    tab.click(".notice .button")
    assert len(shown(tab)) == 60

    tab = page("?text=cat&root=nowhere")
    tab.until("document.querySelector('.notice.bad')")
    assert "The service has run." in text(tab, ".notice")

    tab = page()
    shown(tab)
    tab.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    tab.press("/")
    tab.write("dog")
    tab.press("Enter")
    tab.until("document.querySelector('.notice.bad')")
    assert "The service does not answer" in text(tab, ".notice")
    tab.shot(SHOTS / "error.png")
    assert faults(tab) == []
    tab.send("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    tab.click(".notice .button")
    tab.until("document.querySelector('.results .tile')")
    assert all("ERR_INTERNET_DISCONNECTED" in problem for problem in tab.problems)
    tab.problems.clear()


def test_several_runs_and_a_token(page: Opener, root: Path) -> None:
    with running([f"run={root}", f"again={root}"], Settings(token=TOKEN)) as guarded:
        tab = page("?verdict=kept", guarded)
        tab.until("document.getElementById('token')")
        tab.shot(SHOTS / "token.png")
        assert faults(tab) == []
        assert all("401" in problem for problem in tab.problems)
        tab.problems.clear()
        tab.click("#token")
        tab.write(TOKEN)
        tab.press("Enter")
        tab.until("document.querySelector('.results .tile img')?.naturalWidth > 0")
        shown(tab)
        choose(tab, "Run", "again")
        tab.until("location.search.includes('root=again') && document.querySelector('.results .tile')")
        shown(tab)
        assert any("/thumb/" in url and "root=again" in url for url in tab.requests)
        tab.until("[...document.images].every((image) => image.complete)")
        assert tab.problems == []
        tab.problems.clear()
        tab.send("Page.navigate", url="about:blank")   # the service ends here, the page's pictures need not


@pytest.mark.parametrize(("size", "dark"), [({}, False), (PHONE, True)], ids=["desktop-light", "phone-dark"])
def test_every_view_is_accessible_in_both_colours_and_on_a_phone(
    page: Opener, served: Running, size: dict[str, Any], dark: bool
) -> None:
    name = f"{'phone' if size else 'desktop'}-{'dark' if dark else 'light'}"
    rejected = served.get("/samples?verdict=rejected:language&limit=1").json["samples"][0]["uid"]
    views = {"find": "?text=flower&verdict=any", "classes": "?view=classes", "map": "?view=map", "sample": f"?sample={rejected}"}
    for view, address in views.items():
        tab = page(address, dark=dark, **size)
        tab.until("document.querySelector('.results .tile, .card img, .legend li')", 120)
        if view == "sample":
            tab.until("document.querySelector('.banner')")
            assert not tab.js("document.querySelector('dialog').scrollWidth > innerWidth")
        tab.settled()
        tab.shot(SHOTS / f"{view}-{name}.png")
        assert faults(tab) == []
        if size and view == "find":
            tab.click(".fold")
            tab.until("document.querySelector('.filters.open')")
            tab.shot(SHOTS / f"filters-{name}.png")
            assert faults(tab) == []


def test_the_colours_can_be_chosen(page: Opener) -> None:
    tab = page("?view=map")
    tab.until("document.querySelector('.legend li')", 120)
    paper = "getComputedStyle(document.body).backgroundColor"
    light = tab.js(paper)
    tab.click("[aria-label^=Colours]")
    assert tab.js(paper) == light
    tab.click("[aria-label^=Colours]")
    assert tab.js(paper) != light
    tab.js("window.before = true; location.reload()")
    tab.until(f"!window.before && document.documentElement.dataset.theme === 'dark' && {paper} !== {json.dumps(light)}")
