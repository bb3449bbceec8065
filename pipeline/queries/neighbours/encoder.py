"""Texts and pictures of who asks, as vectors of the model that made a root's embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import InputError, RouteError, SampleFailure
from pipeline.plan import Plan
from pipeline.store.tables import read_columns, read_vector_rows
from pipeline.vectors import Floats, unit

if TYPE_CHECKING:
    from pipeline.models.clip import Embedder
    from pipeline.models.preprocess import Picture

SAME = 0.99
"""Least cosine of a stored caption's vector and the one made anew. Routes of one model differ by less than 0.001, float16 too;
other weights give about anything."""
TRIED = 8
"""Shards in which a caption to compare is looked for."""


@dataclass
class QueryEncoder:
    """The model of a root's recipe, with the numeric route of its embeddings where this machine has that, else with its own: a
    query is stored nowhere, and another route turns its vector by less than float16 does. Loaded at `open` or at the first use;
    safe for many threads."""

    plan: Plan
    """Over the readable shards."""
    wanted: str = ""
    """The route to use; empty: as said above."""
    route: str = ""
    """The one that is used; empty before the model is loaded."""
    _embedder: "Embedder | None" = None
    _lock: Lock = field(default_factory=Lock)

    def open(self) -> "Embedder":
        """The loaded model. Raises InputError, which says what is missing, where it cannot be had, and where its vectors are not
        those that the root has."""
        with self._lock:
            if self._embedder is None:
                embedder, route = self._loaded()
                self._check(embedder)
                self._embedder, self.route = embedder, route
            return self._embedder

    def texts(self, texts: Sequence[str]) -> Floats:
        """Unit vectors f32 [n, d] of raw texts, cut to the model's context. Raises as `open`."""
        return self.open().encode_texts([text.encode("utf-8", "replace").decode() for text in texts])

    def images(self, images: Sequence[bytes]) -> tuple[Floats, list[str | None]]:
        """Unit vectors f32 [n, d] of encoded images, by the recipe's formats and bound of pixels; for each the code of ImageFault
        that says why it cannot be read, whose row is zeros, else None. Raises as `open`."""
        pictures: list[Picture] = []
        errors: list[str | None] = []
        for image in images:
            try:
                pictures.append(self._picture(image))
                errors.append(None)
            except SampleFailure as failure:
                errors.append(failure.code)
        embedder = self.open() if pictures else None
        vectors = np.zeros((len(images), self.plan.clip.description.dimension), np.float32)
        if embedder is not None:
            vectors[[error is None for error in errors]] = embedder.encode_images(embedder.preprocess(pictures))
        return vectors, errors

    def _picture(self, image: bytes) -> "Picture":
        """What the model's transform takes. Raises SampleFailure."""
        from pipeline.models.pixels.decoding import decode, reopened

        rules = self.plan.recipe.image
        decoded = decode(image, allowed_formats=rules.allowed_formats, max_pixels=rules.max_pixels)
        other = None if decoded.plain else reopened(image)
        return decoded.pixels if other is None else other

    def _loaded(self) -> "tuple[Embedder, str]":
        from pipeline.models.clip import open_encoder  # brings torch
        from pipeline.models.machine import local_route
        from pipeline.models.route import RouteWish
        from pipeline.models.spec import refuse_missing_weights

        stage = self.plan.clip
        refuse_missing_weights(stage.spec)
        try:
            with open_encoder(stage.spec, self.wanted or stage.route, stage.micro_batch) as embedder:
                return embedder, self.wanted or stage.route
        except RouteError:
            if self.wanted:
                raise
            route = local_route(RouteWish())
            with open_encoder(stage.spec, route, stage.micro_batch) as embedder:
                return embedder, route

    def _check(self, embedder: "Embedder") -> None:
        """Raises InputError where the model gives a stored caption another vector than the root has."""
        store, folders = self.plan.root, self.plan.columns.folders
        for shard in self.plan.shards[:TRIED]:
            valid = np.asarray(read_columns(store, folders["clip"], shard.shard_id, ["text_embedding_valid"]).column(0))
            if not valid.any():
                continue
            row = int(np.argmax(valid))
            caption = read_columns(store, folders["samples"], shard.shard_id, ["caption"]).column(0)[row].as_py()
            stored = unit(read_vector_rows(store, folders["clip"], shard.shard_id, "text_embedding", np.array([row])))
            made = embedder.encode_texts([caption])
            if made.shape != stored.shape or float(np.vdot(made, stored)) < SAME:
                raise InputError(
                    f"model {self.plan.recipe.model.name} gives other vectors here than {store.url} was made with: its weights are "
                    "others now; bring back those of the run, or run it again")
            return
