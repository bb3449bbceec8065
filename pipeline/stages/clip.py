"""The clip stage: embeddings of picture and raw caption, and how well the two agree.

The similarity is open_clip's: its preprocessing of the upright picture, the model's own tokenizer, cosine in float32.
The few pictures that it would see otherwise than as the shared RGB pixels (palettes, transparency, CMYK, more than 4
megapixels) are opened once more. Captions are embedded raw, not normalised: that is what the model saw in training.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.models.pixels.decoding import Pixels, reopened
from pipeline.models.route import parse
from pipeline.models.spec import Description, ModelSpec, describe
from pipeline.stage import Contract, Stage, Transform
from pipeline.stages.pixels import pixel_arrays
from pipeline.timing.clock import spent
from pipeline.vectors import Floats
from schemas.columns import PIXELS, clip_schema
from schemas.reasons import ClipFault

if TYPE_CHECKING:
    from pipeline.models.clip import Embedder
    from pipeline.models.preprocess import Picture


@dataclass(frozen=True)
class ClipStage(Stage):
    """Embeds the samples that have both a readable picture and a caption; the others failed before and get nulls.

    `route` is settled by a worker (`models.machine.local_route`). Threads are not a field: they change no bit.
    """

    contract = Contract("clip", version=1, reads=("image", "caption", *PIXELS.names), writes=clip_schema(1))

    model: str
    pretrained: str | None
    precision: str
    route: str
    micro_batch: int = 16

    @property
    def overlap(self) -> int:
        """While one batch is with the GPU, another one is decoded and a third one comes back."""
        return 3 if parse(self.route).device == "cuda" else 1

    @property
    def together(self) -> int:
        """A GPU's server fills its calls from the batches of many workers."""
        return 1 if parse(self.route).device == "cuda" else self.micro_batch

    @property
    def spec(self) -> ModelSpec:
        """The model by name, as `models.weights` takes it."""
        return ModelSpec(self.model, self.pretrained)

    @cached_property
    def description(self) -> Description:
        """What the columns depend on, read from the model's config and files. Raises InputError for a model that does not exist."""
        return describe(self.spec)

    @property
    def writes(self) -> pa.Schema:
        """The columns, with the model's dimension."""
        return clip_schema(self.description.dimension)

    @property
    def identity(self) -> dict[str, Any]:
        """The model by its content, so that a folder may move and changed weights are another model."""
        return {
            "model": self.description.identity, "precision": self.precision, "route": self.route, "micro_batch": self.micro_batch,
        }

    @contextmanager
    def open(self) -> Iterator[Transform]:
        from pipeline.models.clip import open_encoder  # brings torch; who only plans needs the stage's name and identity

        if parse(self.route).precision != self.precision:
            raise InputError(f"the route {self.route} is not one of precision {self.precision}")
        with open_encoder(self.spec, self.route, self.micro_batch) as embedder:
            yield partial(clip_columns, embedder)


def clip_columns(embedder: "Embedder", batch: pa.RecordBatch) -> pa.RecordBatch:
    """Columns of `clip_schema` for a batch with `uid`, `image`, `caption` and PIXELS."""
    pictures, captions, encoded = pixel_arrays(batch), batch["caption"], batch["image"]
    complete = np.array([picture is not None and captions[row].is_valid for row, picture in enumerate(pictures)], bool)
    rows = np.flatnonzero(complete).tolist()
    with spent("preprocess"):
        pixels = embedder.preprocess(encoder_pictures(pictures, batch["pixels_plain"].to_pylist(), encoded, rows))
    with spent("model"):
        images, texts = embedder.encode_pairs(pixels, [captions[row].as_py() for row in rows])
    return columns_of(batch["uid"], complete, images, texts)


def encoder_pictures(
    pictures: Sequence[Pixels | None], plain: Sequence[bool | None], encoded: pa.Array, rows: Sequence[int]
) -> Iterator["Picture"]:
    """Yields the pictures of these rows as open_clip's transform takes them, one at a time: the pixels uint8 [rows, columns, 3]
    where `plain`, else the picture opened again."""
    for row in rows:
        other = None if plain[row] else reopened(encoded[row].as_py())
        picture = pictures[row] if other is None else other
        if picture is not None:
            yield picture


def columns_of(uids: pa.Array, complete: NDArray[np.bool_], images: Floats, texts: Floats) -> pa.RecordBatch:
    """Columns of `clip_schema` for unit vectors f32 [m, d] of the m rows in `complete`, in order; vectors that are not finite
    become an error."""
    finite = np.isfinite(images).all(axis=1) & np.isfinite(texts).all(axis=1)
    good = complete.copy()
    good[complete] = finite
    similarity = np.zeros(len(complete), np.float32)
    similarity[good] = (images[finite] * texts[finite]).sum(axis=1, dtype=np.float32)
    errors = [ClipFault.NOT_FINITE.value if lost else None for lost in complete & ~good]
    return pa.RecordBatch.from_arrays([
        uids,
        pa.array(similarity, pa.float32(), mask=~good),
        vectors(images[finite], good),
        vectors(texts[finite], good),
        pa.array(errors, pa.string()),
    ], schema=clip_schema(images.shape[1]))


def vectors(rows: Floats, good: NDArray[np.bool_]) -> pa.Array:
    """A float16 fixed-size list column with `rows` where `good`, null (zeros behind it) elsewhere."""
    values = np.zeros((len(good), rows.shape[1]), np.float16)
    values[good] = rows
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), rows.shape[1], mask=pa.array(~good))
