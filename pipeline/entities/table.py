"""The entities that a run mentions, with what is needed to link them: text embeddings, priors, background, threshold."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.entities.aliases import Written
from pipeline.errors import InputError
from pipeline.store.store import Store
from pipeline.store.tables import npy_bytes, read_npy, read_table, write_table
from pipeline.vectors import Floats

ENTITIES = "entities.parquet"
SENSES = "senses.parquet"
CHOOSING = "choosing.npy"
CONFIRMING = "confirming.npy"
CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Texts:
    """Embeddings of one text for each entity, and their cosines to background images of the run."""

    embeddings: NDArray[np.float16]
    """float16 [entities, d], unit rows"""
    mean: Floats
    std: Floats


@dataclass(frozen=True)
class Senses:
    """The senses of all aliases, sorted by alias; parallel arrays."""

    aliases: tuple[str, ...]
    entities: NDArray[np.int32]
    """row of the entity"""
    log_priors: Floats
    written: NDArray[np.int8]
    """ways to write the mention (Written)"""

    @cached_property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Alias -> [start, end) in the arrays."""
        starts = [i for i, alias in enumerate(self.aliases) if i == 0 or self.aliases[i - 1] != alias]
        return {self.aliases[i]: (i, end) for i, end in zip(starts, [*starts[1:], len(self.aliases)], strict=True)}

    def of(self, alias: str, text: str) -> list[int]:
        """Positions of the senses that a mention may have, written as it is."""
        start, end = self.spans.get(alias, (0, 0))
        form, ways = int(Written.of(text)), self._ways
        return [i for i in range(start, end) if ways[i] & form]

    @cached_property
    def _ways(self) -> list[int]:
        """`written` as Python's integers, which are looked up one by one."""
        ways: list[int] = self.written.tolist()
        return ways


@dataclass(frozen=True)
class EntityTable:
    """The entities and senses that the entities stage links to. It is small (the entities mentioned, not the knowledge base), and
    saved whole."""

    ids: tuple[str, ...]
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    depictability: Floats
    senses: Senses
    choosing: Texts
    confirming: Texts
    threshold: float
    """z from which an entity is confirmed"""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """how the threshold was found: false-positive rate, pairs, seed; see `calibration.py`"""
    texts: str = ""
    """what the vectors follow from beside an entity's id, as a digest; tables with the same one have the same vectors"""

    def save(self, store: Store, folder: str) -> None:
        """Writes the folder; `calibration.json` is last, so its existence means the whole table is there."""
        entities = pa.table({
            "id": pa.array(self.ids, pa.string()), "name": pa.array(self.names, pa.string()),
            "description": pa.array(self.descriptions, pa.string()), "depictability": self.depictability,
            "choosing_mean": self.choosing.mean, "choosing_std": self.choosing.std,
            "confirming_mean": self.confirming.mean, "confirming_std": self.confirming.std,
        })
        senses = pa.table({
            "alias": pa.array(self.senses.aliases, pa.string()), "entity": self.senses.entities,
            "log_prior": self.senses.log_priors, "written": self.senses.written,
        })
        write_table(store, f"{folder}/{ENTITIES}", entities, {})
        write_table(store, f"{folder}/{SENSES}", senses, {})
        store.write(f"{folder}/{CHOOSING}", npy_bytes(self.choosing.embeddings))
        store.write(f"{folder}/{CONFIRMING}", npy_bytes(self.confirming.embeddings))
        names = (ENTITIES, SENSES, CHOOSING, CONFIRMING)
        hashes = {name: hashlib.sha256(store.read(f"{folder}/{name}")).hexdigest() for name in names}
        calibration = {"threshold": self.threshold, "facts": dict(self.facts), "files": hashes, "texts": self.texts}
        store.write_json(f"{folder}/{CALIBRATION}", calibration)

    @classmethod
    def load(cls, store: Store, folder: str = "") -> "EntityTable":
        """Reads what `save` wrote. Raises InputError when the folder has no whole table."""
        path = f"{folder}/" if folder else ""
        try:
            calibration = store.read_json(path + CALIBRATION)
        except FileNotFoundError as error:
            raise InputError(f"no entity table in {(store / folder).url}: {CALIBRATION} is missing; calibrate first") from error
        entities = read_table(store, path + ENTITIES)
        senses = read_table(store, path + SENSES)

        def numbers(table: pa.Table, name: str, dtype: Any) -> NDArray[Any]:
            return np.asarray(table[name].to_numpy(), dtype)

        def texts(name: str, file: str) -> Texts:
            mean, std = (numbers(entities, f"{name}_{moment}", np.float32) for moment in ("mean", "std"))
            return Texts(read_npy(store, path + file), mean, std)

        return cls(
            ids=tuple(entities["id"].to_pylist()),
            names=tuple(entities["name"].to_pylist()),
            descriptions=tuple(entities["description"].to_pylist()),
            depictability=numbers(entities, "depictability", np.float32),
            senses=Senses(
                tuple(senses["alias"].to_pylist()), numbers(senses, "entity", np.int32),
                numbers(senses, "log_prior", np.float32), numbers(senses, "written", np.int8),
            ),
            choosing=texts("choosing", CHOOSING),
            confirming=texts("confirming", CONFIRMING),
            threshold=float(calibration["threshold"]),
            facts=calibration["facts"],
            texts=calibration.get("texts", ""),   # roots of before have none
        )
