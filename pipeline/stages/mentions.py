"""The mentions stage: which words of a caption name something the knowledge base (or the recogniser of names) knows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.entities import recogniser as names
from pipeline.entities.aliases import AliasIndex, build
from pipeline.entities.knowledge_base import BUNDLED, KnowledgeBase, content_id
from pipeline.entities.lemmas import words
from pipeline.stage import Contract, Stage, Transform
from schemas.columns import MENTIONS

Mention = dict[str, Any]


@dataclass(frozen=True)
class MentionsStage(Stage):
    """Finds mentions, longest match first, in the normalised caption; nulls where there is no caption.

    `knowledge` is "bundled:wordnet" or the URL of a parquet file in schemas.tables.KNOWLEDGE_BASE; `stop` are further
    aliases that are never mentions; `ner` adds names that the knowledge base lacks (extra `ner`).
    """

    contract = Contract("mentions", version=1, reads=("caption_text",), writes=MENTIONS)

    knowledge: str = BUNDLED
    ner: bool = False
    stop: tuple[str, ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        """The knowledge base and the recogniser by their content."""
        recogniser = names.identity() if self.ner else None
        return {"knowledge": content_id(self.knowledge), "ner": recogniser, "stop": sorted(self.stop)}

    @contextmanager
    def open(self) -> Iterator[Transform]:
        index = build(KnowledgeBase.load(self.knowledge), self.stop)
        yield partial(mention_columns, index, names.name_finder() if self.ner else None)


def mention_columns(index: AliasIndex, find_names: names.NameFinder | None, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Columns of schemas MENTIONS for a batch with `uid` and `caption_text`."""
    texts: list[str | None] = batch["caption_text"].to_pylist()
    mentions = [None if text is None else alias_mentions(index, text) for text in texts]
    if find_names is not None:
        for text, caption_mentions, spans in zip(texts, mentions, find_names([text or "" for text in texts]), strict=True):
            if text is not None and caption_mentions is not None:
                add_names(text, caption_mentions, spans)
    return pa.RecordBatch.from_arrays(
        [
            batch["uid"],
            pa.array(mentions, MENTIONS.field("mentions").type),
            pa.array([None if text is None else index.known_share(text) for text in texts], pa.float32()),
            pa.nulls(len(texts), pa.string()),
        ],
        schema=MENTIONS,
    )


def alias_mentions(index: AliasIndex, text: str) -> list[Mention]:
    """The aliases that a caption mentions, left to right."""
    return [_mention(text, m.start, m.end, m.alias, "aliases") for m in index.matches(text)]


def add_names(text: str, mentions: list[Mention], spans: Sequence[names.Name]) -> None:
    """Adds the names that overlap no mention, in their places; their alias is the folded text."""
    free = [span for span in spans if all(span.end <= m["start"] or span.start >= m["end"] for m in mentions)]
    mentions += [_mention(text, span.start, span.end, " ".join(words(text[span.start : span.end])), "ner") for span in free]
    mentions.sort(key=lambda mention: int(mention["start"]))


def _mention(text: str, start: int, end: int, alias: str, source: str) -> Mention:
    return {"text": text[start:end], "alias": alias, "start": start, "end": end, "source": source}
