"""A run that keeps or reads nothing says so, names the likely cause, and is no success."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.input.discovery import discover
from pipeline.plan import Plan
from pipeline.queries.nothing_kept import failed_shards, first_samples, likely_cause
from pipeline.recipe.recipe import load
from pipeline.recipe.settled import Settled
from pipeline.select.ledger import Ledger
from pipeline.store.store import Store
from tests.roots import asked
from tests.store.conftest import archive  # noqa: F401 (fixture)

DOTTED = [(f"IMG 2023.11.{i:02} at 10.02.{end}", b"1") for i in range(20) for end in ("jpg", "txt")]


def test_a_run_that_keeps_nothing_names_the_cause_in_its_last_line_and_exits_3(
    archive: Callable[..., Path], tmp_path: Path,  # noqa: F811
) -> None:
    archive(*DOTTED, name="in/dots.tar")
    pq.write_table(pa.table({"img": [b"1"] * 3, "alt_text": ["a dog"] * 3}), tmp_path / "in" / "hf.parquet")
    root, key = str(tmp_path / "root"), "--set 'caption.keys=[alt_text]'"
    arguments = ["sample", str(tmp_path / "in"), "--set", "model.compile=false"]
    planned = json.loads(asked("plan", *arguments, "--json").stdout)["warnings"]
    assert len([warning for warning in planned if key in warning]) == 1
    for _ in range(2):   # it is the same when it is finished
        last = asked("run", *arguments, "--output", root, "--local", check=3).stdout.splitlines()[-1]
        assert last.startswith("shardmill: nothing was kept: 3 of 3 samples are failed:missing_caption")
        assert "the fields img, alt_text" in last
        assert key in last
    answer = json.loads(asked("run", *arguments, "--output", root, "--local", "--json", check=3).stdout)
    assert key in answer["nothing_kept"]
    (ignored,) = answer["ignored_in"]
    assert (ignored["reason"], ignored["count"]) == ("dots in the name", 40)
    assert ignored["examples"] == [name for name, _ in DOTTED[:3]]
    for command in ("status", "verify"):
        assert json.loads(asked(command, root, "--json").stdout)["ignored_in"] == [ignored]
        assert "dots.tar" not in asked(command, root).stdout
        assert f"40  {ignored['shard_id']}: {DOTTED[0][0]}" in asked(command, root).stdout
    page = (tmp_path / "root" / "report.html").read_text()
    assert asked("verify", root).stdout.splitlines()[-1] == "verify: ok (the run kept nothing: `shardmill status` says why)"
    assert "Complete" not in page
    assert "Finished, but nothing was kept" in page
    assert "IMG 2023.11.00 at 10.02.jpg" in page


@pytest.mark.parametrize(("members", "cause"), [
    (DOTTED, "40 archive members are ignored for dots in the name, e.g. IMG 2023.11.00 at 10.02.jpg: the key ends at the first"),
    ([("a.heic", b"1")], "1 archive member is ignored for other extension, e.g. a.heic"),
    ([], "the input shards are empty"),
    ([("a.txt", b"1"), ("a.heic", b"1")], "1 of 1 sample is failed:missing_image; 1 archive member is ignored for other extension"),
    ([("a.jpg", b"1"), ("a.caption", b"1")], "caption.keys is txt, caption, text, and no sample has one; 1 archive member is"),
    ([("a.jpg", b"1"), ("a.json", b'{"alt": "dog", "url": "u"}')],
     "the fields alt, url, and caption.keys is txt, caption, text; --set 'caption.keys=[alt]' reads that one"),
    ([("a.jpg", b"1"), ("a.json", b'{"captions": ["dog"]}')], "there are the fields captions, and"),
    ([("a.jpg", b"1"), ("a.json", b'{"captions": ["dog"]}')], "; none of them is text"),
])
def test_the_cause_is_what_most_samples_or_members_say(
    archive: Callable[..., Path], members: list[tuple[str, bytes]], cause: str,  # noqa: F811
) -> None:
    (shard,) = discover([str(archive(*members))])
    recipe = load("sample")
    assert cause in likely_cause([shard], first_samples(shard, recipe), recipe)


def test_shards_of_which_nothing_was_kept_beside_others_are_named_with_the_cause(
    archive: Callable[..., Path], tmp_path: Path,  # noqa: F811
) -> None:
    archive(("a.jpg", b"1"), ("a.txt", b"a dog"), name="in/good.tar")
    for name in ("0.parquet", "1.parquet"):
        pq.write_table(pa.table({"image": [b"1"] * 3, "alt_text": ["a dog"] * 3}), tmp_path / "in" / name)
    shards = tuple(discover([str(tmp_path / "in")]))
    plan = Plan.of(Store(str(tmp_path / "root")), load("sample"), shards, Settled("cpu-avx2-fp32-eager"))
    counts = {shard.shard_id: {"failed:missing_caption": 3} if shard.kind == "parquet" else {"kept": 1} for shard in shards}
    warning = failed_shards(plan, Ledger(7, {"kept": 1, "failed:missing_caption": 6}, shards=counts))
    assert warning.startswith("nothing was kept of 2 shards, e.g. 0.parquet: 3 of 3 samples are failed:missing_caption: there are")
    assert "--set 'caption.keys=[alt_text]' reads that one" in warning
    mixed = {shard_id: {**found, "kept": 1} for shard_id, found in counts.items()}
    assert failed_shards(plan, Ledger(9, {"kept": 3, "failed:missing_caption": 6}, shards=mixed)) == ""
    rejected = {shard.shard_id: {"rejected:tiny": 3} for shard in shards[:2]} | {shards[2].shard_id: {"kept": 1}}
    assert failed_shards(plan, Ledger(7, {"kept": 1, "rejected:tiny": 6}, shards=rejected)) == "", "as the rules ask"


@pytest.mark.parametrize(("verdict", "cause"), [
    ("failed:image_format_not_allowed", "image.allowed_formats is jpeg, png, webp"),
    ("rejected:clip_similarity", "--set filters.clip_similarity=null"),
])
def test_a_rule_or_a_setting_that_takes_all_is_named_with_its_key(verdict: str, cause: str) -> None:
    assert cause in likely_cause([], Ledger(5, {verdict: 4, "rejected:tiny": 1}), load("sample"))
