"""The report page, read back with an HTML parser. `browser_report.py` beside this file asks a real browser."""

import base64
import hashlib
import io
import re
import tarfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.report.charts import (
    MOST_BINS,
    Histogram,
    Mark,
    apart,
    compact,
    growing_edges,
    growing_ticks,
    histogram,
    plot,
    ticks,
    trimmed,
)
from pipeline.report.data import (
    LIMITS,
    ClassCard,
    ClassEntity,
    Confusable,
    EntityRow,
    Gap,
    Ignored,
    Pair,
    Picture,
    Quarantined,
    ReportData,
    RunFacts,
    Spending,
    Step,
    Timing,
    Top,
)
from pipeline.report.page import (
    LARGE,
    LARGE_BYTES,
    THUMBNAIL_BYTES,
    breakable,
    cut,
    duration,
    image_url,
    large_thumbnail,
    percent,
    render,
    thumbnail,
)
from pipeline.vectors import Bytes
from tests.archives import member_bytes

ASSETS = files("pipeline") / "assets"
RUN = RunFacts("sample", "/out", ("in/00000.tar",), 1, "bundled", datetime(2026, 3, 4, 9, 41, tzinfo=UTC), 12.5)
HOSTILE = [
    "<script>document.title='owned'</script>", "\"><img src=x onerror=\"document.title='owned'\">", "</style><script>1</script>",
    "javascript:alert(1)", "'); background: url(http://evil.example/a.png)", "{{ 7 * 7 }}{% for %}", "--><svg onload=alert(1)>",
]
VOID = {"meta", "img", "wbr", "input"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """Every element with its own attributes and the text below it."""

    source: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.open: list[Element] = []
        self.feed(self.source)
        assert [e.tag for e in self.open] == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, tag: str, name: str | None = None) -> list[Element]:
        """Elements of a tag; with a name, those of that class."""
        return [e for e in self.elements if e.tag == tag and (name is None or name in e.attributes.get("class", "").split())]

    @property
    def text(self) -> str:
        """What is read on the page, white space as one space."""
        return re.sub(r"\s+", " ", self.all("body")[0].text)


@pytest.fixture(scope="module")
def pixels(sample_folder: Path) -> list[Bytes]:
    """Real pictures of the bundled sample."""
    with tarfile.open(sample_folder / "00000.tar") as tar:
        names = [name for name in tar.getnames() if name.endswith(".jpg")][:24]
        return [np.asarray(Image.open(io.BytesIO(member_bytes(tar, name))).convert("RGB")) for name in names]


@pytest.fixture(scope="module")
def full(pixels: list[Bytes]) -> ReportData:
    """A report with every section, of a balanced run."""
    shots = tuple(Picture(f"caption {i}", f"{i:09d}", "00000.tar", thumbnail(p), f"value {i}") for i, p in enumerate(pixels))
    kept, removed, null = np.array([0.1, 0.2]), np.array([-0.3, np.nan]), np.array([0.0])
    similarity = histogram("clip_similarity", np.linspace(-1, 1, 21).tolist(), kept, removed, null)
    return ReportData(
        RUN, 828, 600,
        steps=(Step("failed:image_empty", 5, "no bytes", (Picture("", "k", "s"),)), Step("rejected:language", 0, "not English"),
               Step("rejected:clip_similarity", 223, "cosine below 0.00", shots[:12])),
        kept_pictures=shots[:12], histograms=(replace(similarity, bounds=((0.0, "at least 0"),)),),
        duplicates=Top(tuple(Pair(shots[i], shots[i + 1], "near", "hamming 2") for i in range(10)), 12),
        classes=Top(tuple(ClassCard(i, f"class name {i}", i > 0, 40 - i, 0.5, (ClassEntity("dog", 4.2),), shots[:6], shots[:2],
                                    0.7 if i > 0 else None, "animals", 90, 0.2) for i in range(14)), 32),
        entities=Top(tuple(EntityRow(f"n{i:08d}", f"entity {i}", 30 - i, 2.1, shots[i % 9]) for i in range(30)), 137),
        stages=(Timing("annotate: clip", 8.0, 828), Timing("select", 0.0, 828)),
        shards=Top((Timing("00000", 3.0, 100, 2),), 7), retried=1,
        recipe_yaml="filters:\n  clip_similarity: {min: 0.0}\n", notes=("URLs were not checked",),
        spendings=(Spending("annotate", 16.5, (("model", 0.62), ("decode", 0.3), ("read", 0.06)), "the model is slow: a GPU"),
                   Spending("export", 1.0, (("write", 1.0),), "writing is the bottleneck: a nearer store")),
    )


def hostile(text: str) -> ReportData:
    """A run in which whatever may come from outside is this text."""
    shot = Picture(text, text, text, thumbnail(np.zeros((8, 8, 3), np.uint8)), text, text)
    return ReportData(
        replace(RUN, recipe=text, root=text, inputs=(text,), model=text, facts=((text, text),)), 3, 1,
        (Step("rejected:" + text, 1, text, (shot,)), Step("failed:" + text, 1, text, (replace(shot, thumbnail=None),))),
        (shot,), (Gap(text, text, text),), (Quarantined(text, 3, text),),
        (Histogram(text, (0.0, 1.0), (1,), (2,), bounds=((0.5, text),)),),
        Top((Pair(shot, shot, text, text),), 1),
        Top((ClassCard(0, text, True, 1, 0.5, (ClassEntity(text, 2.0),), (shot,), (shot,), 0.5, text),), 1),
        Top((EntityRow(text, text, 1, 2.0, shot),), 1), (Timing(text, 1.0, 3),), Top((Timing(text, 1.0, 3),), 1), 0, text, (text,),
        (text,), ((text, text),), (Confusable(text, text, 0.1, 0.5),), (Spending(text, 1.0, ((text, 1.0),), text),),
        (Ignored(text, text, 3, text),), text,
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element_and_no_attribute_and_is_shown_as_it_is(text: str) -> None:
    page, harmless = Page(render(hostile(text))), Page(render(hostile("harmless")))
    shape = [(e.tag, sorted(e.attributes)) for e in page.elements]
    assert shape == [(e.tag, sorted(e.attributes)) for e in harmless.elements]
    assert text in page.text
    assert text in {e.attributes["alt"] for e in page.all("img")}


@pytest.mark.parametrize("bad", ["\0", "\u202e", "\u2066", "\u200f", "\x1b", "\x85", "\ud800", "\ufeff"])
def test_characters_that_end_or_reorder_text_are_replaced_wherever_they_come_from(bad: str) -> None:
    html = render(hostile(f"a{bad}b"))
    html.encode()
    assert bad not in html
    assert "a\N{REPLACEMENT CHARACTER}b" in html


def test_scripts_that_need_joiners_and_right_to_left_captions_stay_as_they_are() -> None:
    for caption in ("نمی\u200cخواهم", "👩\u200d🚀 astronaut", "שלום", "naïve\ttab"):
        assert caption in render(hostile(caption))


def test_a_caption_of_two_million_characters_is_cut_with_an_ellipsis() -> None:
    html = render(hostile("spam " * 400_000))
    assert len(html) < 600_000
    assert "spam…" in html


def test_the_page_loads_nothing_and_its_policy_allows_nothing(full: ReportData) -> None:
    page = Page(render(full))
    assert not {"link", "iframe", "object", "embed", "form", "base", "video", "audio"} & {e.tag for e in page.elements}
    for element in page.elements:
        assert not [name for name in element.attributes if name.startswith("on") or name in ("style", "srcset", "xlink:href")]
        assert element.attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert element.attributes.get("href", "#").startswith("#")
    style = page.all("style")[0].text
    assert not re.search(r"url\(|@import|https?:", style)
    policy = next(e for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy").attributes["content"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (script,) = page.all("script")
    assert script.attributes == {}
    assert script.text == (ASSETS / "report" / "report.js").read_text()
    own = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'", f"style-src 'sha256-{digest}'", f"script-src 'sha256-{own}'", "img-src data:", "base-uri 'none'",
        "form-action 'none'",
    ]


def test_the_script_only_moves_and_hides() -> None:
    """What could make code, markup or a request of text is not in it."""
    script = (ASSETS / "report" / "report.js").read_text()
    dangerous = r"innerHTML|outerHTML|insertAdjacent|\.write|eval|Function|fetch|XMLHttp|import|location|\.src|href|setTimeout"
    assert not re.search(dangerous, script)


def test_every_name_of_a_sample_and_its_whole_caption_are_shown(full: ReportData) -> None:
    long = "a word " * 200
    shot = replace(full.kept_pictures[0], caption=long, uid="0123456789abcdef" * 2)
    page = Page(render(replace(full, kept_pictures=(shot,))))
    (whole,) = [e for e in page.all("details", "whole") if long in e.text]
    assert whole.text.startswith(long[:100])
    assert [e.text for e in page.all("code", "uid")].count(shot.uid) == 1
    (picture,) = [e for e in page.all("img") if e.attributes["title"].startswith(shot.uid)]
    assert picture.attributes["tabindex"] == "-1"   # it grows where a click gave it the focus
    assert "img.thumb:focus" in page.all("style")[0].text


def test_every_table_can_be_sorted_and_the_page_searched(full: ReportData) -> None:
    page = Page(render(full))
    assert page.all("table")
    assert all("sortable" in e.attributes["class"] for e in page.all("table"))
    assert [e.attributes for e in page.all("label", "search")] == [{"class": "search", "hidden": ""}]   # until the script is there
    assert len(page.all("table", "entities")) == 1
    times = [e.attributes["data-sort"] for e in page.all("td", "n") if "data-sort" in e.attributes]
    assert times == ["8.0", "0.0", "3.0"]


def test_the_first_screen_answers_whether_it_worked_how_much_was_kept_and_why_the_rest_was_not(full: ReportData) -> None:
    hero = Page(render(full)).all("section", "hero")[0].text
    hero = re.sub(r"\s+", " ", hero.replace("\N{NO-BREAK SPACE}", " "))
    assert "Complete: every sample is accounted for" in hero
    assert "600 of 828 samples kept" in hero
    assert "Lost most to clip_similarity (223) and image_empty (5)." in hero
    assert "600 kept 72.5 %" in hero
    assert "223 rejected by a rule 26.9 %" in hero
    assert "5 could not be processed 0.6 %" in hero


def test_the_funnel_takes_from_read_what_leads_to_kept(full: ReportData) -> None:
    page = Page(render(full))
    taken = [int(e.text.replace("−", "-").replace(",", "")) for e in page.all("b", "taken")]
    left = [int(e.text.removeprefix("left: ")) for e in page.all("span", "left") if e.text]
    assert taken == [828, -5, 0, -223, 600]
    assert left == [823, 823, 600]
    assert sum(taken[:-1]) == taken[-1]


def test_every_section_shows_what_it_was_given(full: ReportData) -> None:
    text = Page(render(full)).text
    for words in ("class name 13", "18 more classes not shown", "entity 29", "107 more entities not shown", "×4.2",
                  "2 more pairs not shown", "a label of 90 samples · mean weight 0.20", "7 shards, 1 tried more than once",
                  "6 more shards not shown", "104",
                  "clip_similarity: {min: 0.0}", "URLs were not checked", "1 without a value", "at least 0", "hamming 2",
                  "no picture", "(empty caption)"):
        assert words in text, words


@pytest.mark.parametrize(("change", "words"), [
    ({"kept": 599}, "Does not balance: +1 samples are unaccounted for"),
    ({"run": replace(RUN, finished=False)}, "Stopped before the end"),
    ({"quarantined": (Quarantined("00007.tar", 3, "WorkerDied"),)}, "Finished with 1 quarantined shard"),
    ({"gaps": (Gap("a.tar", "truncated", ""), Gap("b.tar", "truncated", ""))}, "Finished with 2 unreadable parts"),
    ({"nothing_kept": "nothing was kept: no captions"}, "Finished, but nothing was kept: no captions"),
])
def test_whatever_went_wrong_is_said_in_the_first_line(full: ReportData, change: dict[str, Any], words: str) -> None:
    page = Page(render(replace(full, **change)))
    assert words in page.all("p", "status")[0].text
    assert "every sample is accounted for" not in page.text
    for shard in change.get("quarantined", ()):
        assert shard.shard in page.text
        assert shard.error in page.text


def test_an_empty_run_and_a_run_without_classes_or_entities_have_a_page(full: ReportData) -> None:
    empty = Page(render(ReportData(replace(RUN, shards=0, seconds=0.0, inputs=()), 0, 0))).text
    assert "there was no sample to read" in empty
    assert "0 of 0 samples kept" in empty
    bare = Page(render(replace(full, classes=Top(), entities=Top(), duplicates=Top(), histograms=()))).text
    assert "This run made no classes." in bare
    assert "This run confirmed no entities." in bare
    assert "Duplicates" not in bare


def test_a_huge_run_has_a_page_of_a_few_megabytes(pixels: list[Bytes]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    shot = Picture("word " * 5000, "k" * 5000, "s" * 5000, thumbnail(noise), "v" * 5000, "u" * 5000)
    larger = replace(shot, thumbnail=large_thumbnail(np.repeat(np.repeat(noise[:64, :64], 4, 0), 4, 1)))
    assert larger.thumbnail is not None
    assert len(larger.thumbnail) > THUMBNAIL_BYTES
    data = ReportData(
        RUN, 10**9, 10**9 - 30,
        tuple(Step(f"rejected:{i}", 1, "e" * 5000, (larger,) * 50) for i in range(30)), (larger,) * 50,
        (Gap("s", "truncated", "d" * 5000),) * 5000, (Quarantined("s", 3, "e" * 5000),) * 5000,
        duplicates=Top((Pair(larger, larger, "near", ""),) * 500, 10**7),
        entities=Top((EntityRow("n", "e", 1, 2.0, shot),) * 500, 10**6),
        classes=Top((ClassCard(0, "c", True, 9, 0.5, (), (shot,) * 50, (shot,) * 50),) * 500, 10**6),
        shards=Top((Timing("s", 1.0, 1),) * 500, 5000), recipe_yaml="a: b\n" * 100_000, notes=("n" * 5000,) * 500,
    )
    html = render(data)
    assert len(html.encode()) < 20e6   # every thumbnail at its largest; usually a third
    assert len(Page(html).all("img")) <= 31 * LIMITS["pictures"] + 2 * LIMITS["pairs"] + 32 * (16 + 16) + 60


def test_the_page_can_be_read_without_eyes_and_its_links_lead_somewhere(full: ReportData) -> None:
    page = Page(render(full))
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    assert {e.attributes["href"].removeprefix("#") for e in page.all("a")} <= set(ids)
    assert {e.attributes["aria-labelledby"] for e in page.elements if "aria-labelledby" in e.attributes} <= set(ids)
    assert all(e.attributes["alt"] for e in page.all("img"))
    outer = [e for e in page.all("svg") if "viewbox" not in e.attributes]
    assert all("aria-label" in e.attributes or e.attributes.get("aria-hidden") == "true" for e in outer)
    levels = [int(e.tag[1]) for e in page.elements if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def luminance(colour: str) -> float:
    channels = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1])
def test_text_has_the_contrast_that_wcag_aa_asks_for_in_both_themes(theme: int) -> None:
    css = (ASSETS / "report" / "report.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", re.findall(r":root \{(.*?)\}", css, re.S)[theme]))
    pairs = [("ink", "paper"), ("ink", "card"), ("muted", "paper"), ("muted", "card"), ("muted", "soft"), ("muted", "warn-soft"),
             ("link", "paper"), ("kept", "paper"), ("kept", "good-soft"), ("rejected", "paper"), ("failed", "paper"),
             ("warn", "warn-soft"), ("bad", "bad-soft")]
    for text, behind in pairs:
        dark, light = sorted((luminance(colours[text]), luminance(colours[behind])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, behind)


def test_the_same_data_gives_the_same_page_and_it_is_html_from_the_first_byte(full: ReportData) -> None:
    assert render(full) == render(full)
    assert render(full).startswith("<!doctype html>\n<html lang=\"en\">")


@pytest.mark.parametrize("content", [b"<svg onload=alert(1)>", b"\x89PNG\r\n", b"", b"\xff\xd8\xff" + bytes(LARGE_BYTES)])
def test_bytes_that_no_thumbnail_has_never_reach_the_page(full: ReportData, content: bytes) -> None:
    with pytest.raises(ValueError, match="did not make"):
        image_url(content)


@pytest.mark.parametrize("shape", [(1, 1, 3), (14, 256, 3), (256, 1, 3), (900, 1300, 3)])
def test_a_thumbnail_is_a_small_jpeg_of_any_picture_even_of_noise(shape: tuple[int, int, int]) -> None:
    made = thumbnail(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))
    picture = Image.open(io.BytesIO(made))
    assert picture.format == "JPEG"
    assert max(picture.size) <= 112
    assert len(made) <= THUMBNAIL_BYTES
    assert image_url(made)


def test_a_large_thumbnail_has_more_pixels_where_its_bytes_allow(pixels: list[Bytes]) -> None:
    sizes = [max(Image.open(io.BytesIO(large_thumbnail(picture))).size) for picture in pixels]
    assert sizes == [min(LARGE, max(picture.shape[:2])) for picture in pixels]
    noise = np.random.default_rng(1).integers(0, 256, (900, 1300, 3), dtype=np.uint8)
    assert len(large_thumbnail(noise)) <= LARGE_BYTES


def test_a_thumbnail_shows_its_picture(pixels: list[Bytes]) -> None:
    shown = np.asarray(Image.open(io.BytesIO(thumbnail(pixels[0]))), np.float32)
    wanted = np.asarray(Image.fromarray(pixels[0]).resize(shown.shape[1::-1], Image.Resampling.LANCZOS), np.float32)
    assert np.abs(shown - wanted).mean() < 8


def test_a_histogram_loses_no_value() -> None:
    rng = np.random.default_rng(2)
    kept, removed = rng.normal(0, 2, 500), np.r_[rng.normal(0, 2, 300), np.nan, np.nan, np.inf, -np.inf]
    made = histogram("x", [-1.0, 0.0, 0.5, 1.0], kept, removed, kept)
    assert sum(made.kept) + sum(made.removed) + made.without == 804
    assert made.without == 2
    assert made.beyond == (np.abs(kept) > 1).sum() + (np.abs(removed) > 1).sum()
    assert made.kept[1] == ((kept >= 0) & (kept < 0.5)).sum()
    assert sum(made.null) == pytest.approx(1)
    on_edges = histogram("x", [0.0, 1.0, 2.0], np.array([0.0, 1.0, 2.0]), np.zeros(0))
    assert (on_edges.kept, on_edges.beyond) == ((1, 2), 0)


def test_bars_and_bounds_are_drawn_where_their_values_are() -> None:
    drawn = plot(Histogram("x", (1.0, 10.0, 100.0), (30, 0), (10, 20), null=(0.5, 0.5), bounds=((10.0, "at 10"),)))
    assert [bar.x for bar in drawn.bars] == [0, 50]
    assert drawn.bounds[0].at == 50
    assert [(mark.at, mark.wording) for mark in drawn.x][::3] == [(0, "1"), (50, "10"), (100, "100")]
    assert drawn.bars[0].kept == pytest.approx(3 * drawn.bars[0].removed, abs=0.05)
    assert drawn.bars[0].wording == "1 to 10: 30 kept, 10 removed"
    assert drawn.null == "25.00,29.25 75.00,29.25"


def test_an_empty_histogram_can_be_drawn() -> None:
    drawn = plot(Histogram("x", (0.0, 1.0), (0,), (0,)))
    assert (drawn.bars[0].kept, drawn.bars[0].removed, drawn.null) == (0, 0, "")


def test_histograms_of_shards_add_up_to_that_of_the_run() -> None:
    values = np.random.default_rng(3).normal(0, 1, 900)
    parts = [histogram("x", [-1, 0, 1], part[:100], part[100:]) for part in np.split(values, 3)]
    whole = histogram("x", [-1, 0, 1], np.concatenate([p[:100] for p in np.split(values, 3)]), np.zeros(0))
    total = parts[0] + parts[1] + parts[2]
    assert total.kept == whole.kept
    assert total.beyond == (np.abs(values) > 1).sum()
    with pytest.raises(ValueError, match="other edges"):
        parts[0] + histogram("x", [0, 1], values, values)


def test_growing_edges_are_whole_and_part_at_every_bound() -> None:
    edges = growing_edges(0.0, True, [32, 5000])
    assert edges[:11] == list(range(11))
    assert {32, 5000} < set(edges)
    assert edges == sorted(set(edges))
    assert all(edge == int(edge) for edge in edges)
    assert edges[-1] >= 1e12
    ratios = np.array(growing_edges(1.0, False, [6.0]))
    assert 6.0 in ratios
    assert (ratios[1:] / ratios[:-1]).max() < 1.11


def test_a_histogram_is_trimmed_to_what_is_there_and_loses_nothing() -> None:
    fine = np.linspace(-1, 1, 201)
    some = histogram("x", fine.tolist(), np.array([0.105, 0.11]), np.array([0.305]), np.array([0.2]))
    drawn = trimmed(replace(some, bounds=((0.0, "b"),)))
    assert drawn.edges[0] == pytest.approx(0.0, abs=0.011)
    assert drawn.edges[-1] == pytest.approx(0.31)
    assert (sum(drawn.kept), sum(drawn.removed), sum(drawn.null)) == (2, 1, 1)
    wide = histogram("x", fine.tolist(), np.random.default_rng(4).uniform(-1, 1, 5000), np.zeros(0), fine)
    merged = trimmed(wide)
    assert len(merged.kept) == len(merged.edges) - 1 <= MOST_BINS
    assert sum(merged.kept) == 5000
    assert sum(merged.null) == pytest.approx(1)
    assert max(np.diff(merged.edges)[:-1]) == pytest.approx(min(np.diff(merged.edges)[:-1]))
    assert trimmed(Histogram("x", (0.0, 1.0), (0,), (0,))) == Histogram("x", (0.0, 1.0), (0,), (0,))


def test_an_axis_that_starts_at_zero_has_labels_that_do_not_overlap() -> None:
    drawn = plot(trimmed(histogram("caption_words", growing_edges(0.0, True), np.r_[0, 3, 200], np.zeros(0))))
    assert [float(mark.wording) for mark in drawn.x] == sorted(float(mark.wording) for mark in drawn.x)
    assert min(after.at - before.at for before, after in pairwise(drawn.x)) >= 5
    assert apart([Mark(0, "1"), Mark(4, "2"), Mark(9, "3")]) == [Mark(0, "1"), Mark(9, "3")]


def test_ticks_are_round_and_inside() -> None:
    assert ticks(-0.4, 0.8) == [-0.25, 0, 0.25, 0.5, 0.75]
    assert ticks(0, 260) == [0, 50, 100, 150, 200, 250]
    assert ticks(3, 3) == [3]
    assert growing_ticks(1, 20) == [1, 2, 5, 10, 20]
    assert growing_ticks(1, 1e6) == [10.0**i for i in range(7)]


def test_names_of_rules_break_after_underscores_only_and_stay_escaped() -> None:
    assert breakable("caption_is_filename") == "caption_<wbr>is_<wbr>filename"
    assert breakable("<b>_\u202e") == "&lt;b&gt;_<wbr>\N{REPLACEMENT CHARACTER}"


def test_what_was_not_measured_is_left_out(full: ReportData) -> None:
    row = EntityRow("n1", "dog", 3, None)
    card = replace(full.classes.items[0], labelled=None)
    page = Page(render(replace(full, run=replace(RUN, started=None), entities=Top((row,), 1), classes=Top((card,), 1))))
    assert "Started" not in page.text
    assert "a label · mean weight 0.20" in page.text
    assert [e.text for e in page.all("td", "n")][:2] == ["3", "–"]


def test_the_page_says_where_the_time_of_each_pass_went_and_what_to_change(full: ReportData) -> None:
    page = Page(render(full))
    assert "annotate 16.5 s The model is slow: a GPU." in page.text
    tables = [e.text.split() for e in page.all("table", "timings") if "Where" in e.text]
    assert tables[0][-6:] == ["model62.0", "%", "decode30.0", "%", "read6.0", "%"]
    bars = [(e.attributes["width"], e.attributes["class"]) for e in page.all("rect")]
    assert {("62.0%", "time"), ("30.0%", "time"), ("6.0%", "rejected"), ("100.0%", "rejected")} <= set(bars)
    assert "Where the time went" not in Page(render(replace(full, spendings=()))).text


def test_conditions_that_nobody_checked_and_notes_on_the_numbers_stand_apart(full: ReportData) -> None:
    text = Page(render(replace(full, conditions=("a bloom filter",), notes=("z from 1.7",)))).text
    assert "source asks for and nobody checked a bloom filter How these numbers were made z from 1.7" in text


def test_numbers_are_worded_without_rounding_something_to_nothing_or_a_part_to_all() -> None:
    assert [percent(*pair) for pair in ((0, 9), (1, 10**6), (1, 8), (10**6 - 1, 10**6), (9, 9), (0, 0))] == [
        "0.0 %", "<0.1 %", "12.5 %", ">99.9 %", "100.0 %", "–"]
    assert [duration(s) for s in (0, 0.042, 8.31, 59.96, 250, 7500)] == [
        "0 s", "0.042 s", "8.31 s", "1 min 0 s", "4 min 10 s", "2 h 5 min"]
    assert [compact(v) for v in (0, 950, 1200, 35e6)] == ["0", "950", "1.2k", "35M"]
    assert (cut("abcdef", 6), cut("abcdefg", 6)) == ("abcdef", "abcde…")


def test_a_reason_that_is_no_verdict_and_a_list_longer_than_its_total_are_refused() -> None:
    with pytest.raises(ValueError, match="neither"):
        Step("clip_similarity", 3, "")
    with pytest.raises(ValueError, match="2 items"):
        Top((1, 2), 1)
