"""The sections of a recipe: each key with its type, limits, default and meaning."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from pipeline.rules import STRICT

Names = Annotated[tuple[str, ...], Field(strict=False)]
SomeNames = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
BUNDLED = "bundled:"


def _one_place(url: str) -> str:
    if "::" in url or url.startswith("pipe:"):
        raise ValueError(f"{url} is a chain of file systems or a command, which shardmill never opens: name one file or folder")
    return url


Url = Annotated[str, AfterValidator(_one_place)]
NAMES_ITS_WEIGHTS = (BUNDLED, "local-dir:", "hf-hub:")


class Model(BaseModel):
    """The image-text model behind the embeddings and clip_similarity."""

    model_config = STRICT

    name: str
    """`bundled:tinyclip-oc`, or a name that open_clip knows: `ViT-L-14`, `hf-hub:…`, `local-dir:…`"""
    pretrained: str | None = None
    """open_clip's name of the weights, or a checkpoint; null where `name` already says it"""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """arithmetic of the towers; fp32 keeps clip_similarity within 2e-3 of open_clip's"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where a GPU answers"""
    compile: Literal["auto"] | bool = "auto"
    """compile the towers; auto: where it was measured to pay"""
    micro_batch: int = Field(default=16, ge=1)
    """samples per call of the model; fixed, padded, never across shards"""

    @property
    def label(self) -> str:
        """`NAME/PRETRAINED`, or the name alone."""
        return f"{self.name}/{self.pretrained}" if self.pretrained else self.name

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        if self.pretrained is None and not self.name.startswith(NAMES_ITS_WEIGHTS):
            raise ValueError(f"{self.name} has no weights and would score noise: set model.pretrained, e.g. openai")
        if self.pretrained is not None and self.name.startswith(BUNDLED):
            raise ValueError(f"{self.name} brings its own weights: drop model.pretrained, or name another model in model.name")
        return self


class Image(BaseModel):
    """Which images are decoded; the others fail with a reason of their own."""

    model_config = STRICT

    allowed_formats: SomeNames = ("jpeg", "png", "webp")
    """formats, as found in the bytes, that may be decoded: of jpeg, png, webp (what open_clip reads), gif, bmp, tiff, avif"""
    max_pixels: int = Field(default=89_478_485, ge=1)
    """larger images fail before they are decoded (Pillow's own limit)"""


class Caption(BaseModel):
    """Where the caption is."""

    model_config = STRICT

    keys: SomeNames = ("txt", "caption", "text")
    """the first that a sample has: `txt` is the text member, another name a field of the JSON object or a parquet column"""


class Entities(BaseModel):
    """Entities that a caption mentions and its image confirms."""

    model_config = STRICT

    knowledge_base: Url = "bundled:wordnet"
    """a parquet file in the schema KNOWLEDGE_BASE, or `bundled:wordnet`"""
    ner: Literal["auto"] | bool = "auto"
    """spaCy adds names to the mentions; auto: where the extra `ner` is installed"""
    false_positive_rate: float = Field(default=0.05, gt=0, lt=1)
    """share of the entities of shuffled captions that may be confirmed"""
    background: int = Field(default=128, ge=2)
    """images of the run, drawn by the seed, that similarities are standardised against"""
    min_count: int = Field(default=1, ge=1)
    """entities confirmed in fewer samples of the run are dropped (MOFI's n_min)"""


class Duplicates(BaseModel):
    """Near duplicates: perceptual hashes within a radius, confirmed by the thumbnails' correlation."""

    model_config = STRICT

    radius: int = Field(default=8, ge=0, le=64)
    """bits in which the 64-bit perceptual hashes may differ"""
    correlation: float = Field(default=0.97, ge=-1, le=1)
    """least Pearson correlation of the 16 x 16 RGB thumbnails"""


class Classes(BaseModel):
    """Pseudo-classes: spherical k-means of the image embeddings, and the classes each sample is labelled with."""

    model_config = STRICT

    k: int | None = Field(default=None, ge=1)
    """number of classes; null: none, unless `fit_on` names a run that has some"""
    fit_on: Url = "kept"
    """samples that the centroids are fitted on: `kept`, `all`, or the output root of another run whose centroids are used;
    with the last two, classes survive a new threshold"""
    iterations: int = Field(default=25, ge=1)
    """k-means iterations at most"""
    labels: int = Field(default=8, ge=1)
    """nearest classes per sample (MLCD: 8)"""
    floor: float | None = Field(default=None, ge=-1, le=1)
    """labels are the classes at least this similar, `labels` at most; null: no floor"""
    temperature: float = Field(default=0.1, gt=0)
    """of the softmax over similarities that gives the label weights"""


class Export(BaseModel):
    """The output shards."""

    model_config = STRICT

    shard_size: int = Field(default=10_000, ge=1)
    """samples per output shard"""
    group: int = Field(default=10, ge=1)
    """input shards that are shuffled together"""
    shuffle: bool = True
    """shuffle the input shards, then the samples within each group; by the seed"""
