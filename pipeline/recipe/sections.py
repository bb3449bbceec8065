"""The sections of a recipe: each key with its type, limits, default and meaning."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, model_validator

from pipeline.input.text import WINDOWS_1252, checked_fallback
from pipeline.models.pixels.encoding import NONE, PictureRule, checked_transcode
from pipeline.recipe.anywhere import BUNDLED, LOCAL_MODEL, file_anywhere, model_anywhere, one_place, weights_anywhere
from pipeline.recipe.rule_columns import JSON, SEMANTIC, column_named, columns_in_context
from pipeline.recipe.rules import STRICT

Names = Annotated[tuple[str, ...], Field(strict=False)]
SomeNames = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
Sizes = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)]
FITTED_HERE = ("kept", "all")
"""What `classes.fit_on` says when it names no other root."""
SELF = "self"
Url = Annotated[str, AfterValidator(one_place)]
NAMES_ITS_WEIGHTS = (BUNDLED, LOCAL_MODEL, "hf-hub:")


class Model(BaseModel):
    """The image-text model behind the embeddings and clip_similarity."""

    model_config = STRICT

    name: Annotated[str, AfterValidator(model_anywhere)]
    """`bundled:tinyclip-oc`, or a name that open_clip knows: `ViT-L-14`, `hf-hub:…`, `local-dir:…`"""
    pretrained: Annotated[str | None, AfterValidator(weights_anywhere)] = None
    """open_clip's name of the weights, or a checkpoint; null where `name` already says it"""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """arithmetic of the towers; fp32 keeps clip_similarity within 2e-3 of open_clip's; auto: fp32 on the CPU, on a GPU the fastest
    of bf16, fp16 and tf32 that moves fewer than 0.05 % of the pairs across the recipe's bound, else fp32"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where a node has a GPU or the cluster can get one; a root that was begun otherwise goes on as it was begun"""
    compile: Literal["auto"] | bool = "auto"
    """fuse the towers' operators: on the CPU by packed oneDNN operators, on a GPU by torch.compile; auto: where it was measured to
    pay, which is on the CPU"""
    micro_batch: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """samples per call of the model, fixed and padded; auto: 16 on the CPU, 256 on a GPU, which its machine's workers share"""

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
    max_pixels: int = Field(default=89_478_485, ge=1, le=1_000_000_000)
    """larger images fail before they are decoded; the default is Pillow's own limit, above which a worker needs memory for them"""


class Caption(BaseModel):
    """Where the caption is, and how it is read."""

    model_config = STRICT

    keys: SomeNames = ("txt", "caption", "text")
    """the first that a sample has: `txt` is the text member, another name a field of the JSON object or a parquet column"""
    fallback: Annotated[str, AfterValidator(checked_fallback)] = WINDOWS_1252
    """encoding of captions that are neither UTF-8 nor marked as UTF-16 or UTF-32 (Python's name of it), where they can be that;
    `caption_encoding` says which ones; none: they fail as caption_undecodable"""
    language_of: Literal["text", "raw"] = "text"
    """what the language is detected on: `text`: caption_text in lower case, its first 500 characters; `raw`: the raw caption, as
    DataComp does"""


class Metadata(BaseModel):
    """The JSON members, or the other columns of a parquet file."""

    model_config = STRICT

    bad_json: Literal["keep", "fail"] = "keep"
    """a pair whose JSON is no object (a list, null, empty, cut, not UTF-8): keep it without, and count the JSON; or fail it"""


class Entities(BaseModel):
    """Entities that a caption mentions and its image confirms."""

    model_config = STRICT

    knowledge_base: Annotated[str, AfterValidator(file_anywhere)] = "bundled:wordnet"
    """a parquet file in the schema KNOWLEDGE_BASE, or `bundled:wordnet`"""
    ner: Literal["auto"] | bool = False
    """spaCy adds names to the column `mentions`, for stages that read it; they become no entities, for a name that the knowledge
    base has is found without. auto: where the extra `ner` is installed"""
    false_positive_rate: float = Field(default=0.05, gt=0, lt=1)
    """share of the entities of shuffled captions that may be confirmed"""
    background: int = Field(default=128, ge=2)
    """images of the run, drawn by the seed, that similarities are standardised against"""
    min_count: int = Field(default=1, ge=1)
    """entities confirmed in fewer samples of the run are dropped (MOFI's n_min)"""


class Duplicates(BaseModel):
    """Which duplicates are looked for. Near: perceptual hashes within a radius, confirmed by the thumbnails' correlation."""

    model_config = STRICT

    find: Literal["near", "exact", "none"] = "near"
    """`near`: exact and near ones; `exact`: the same image bytes alone; `none`: none, so that no rule may read them"""
    radius: int = Field(default=8, ge=0, le=64)
    """bits in which the 64-bit perceptual hashes may differ"""
    correlation: float = Field(default=0.97, ge=-1, le=1)
    """least Pearson correlation of the 16 x 16 RGB thumbnails"""

    @property
    def not_found(self) -> tuple[str, ...]:
        """Columns of what is not looked for."""
        return {"near": (), "exact": ("near_duplicate",), "none": ("exact_duplicate", "near_duplicate")}[self.find]


class SemanticDuplicates(BaseModel):
    """Duplicates by meaning, within each class (SemDeDup): embeddings that are nearly the same. The rule on `semantic_duplicate` is
    judged after the clustering, of what the other rules keep."""

    model_config = STRICT

    epsilon: float | None = Field(default=None, gt=0, le=2)
    """a picture is a duplicate where its embedding has a cosine above 1 - epsilon with a preferred one of its class: the larger,
    the more go; it belongs to one model and one set; null: they are not looked for"""
    keep: Literal["hard", "easy", "random"] = "hard"
    """which one is preferred: `hard`: the least similar to the centroid, as in the paper; `easy`: the most similar; `random`: drawn
    by the seed"""
    greedy: bool = True
    """a picture goes only where one that stays is its duplicate; false: also where that one has gone itself, as published, so that
    chains of pictures collapse to one"""


class Classes(BaseModel):
    """Pseudo-classes: spherical k-means of the image embeddings, and the classes each sample is labelled with."""

    model_config = STRICT

    k: int | None = Field(default=None, ge=1)
    """number of classes; null: none, unless `fit_on` names a run that has some"""
    fit_on: Url = "kept"
    """samples that the centroids are fitted on: `kept`, `all`, or the output root of another run whose centroids, names and ids
    are used; with the last two, classes survive a new threshold"""
    preset: Literal["auto", "full", "fast", "sample", "two_level"] = "auto"
    """how the centroids are fitted: `full`: Lloyd's iterations over all samples; `fast`: two-level start, one full pass and a few
    over near centroids; `sample`: iterations over 256 samples per class, then all samples once; `two_level`: within coarse cells;
    `auto`: by number of samples, k and device"""
    iterations: int = Field(default=25, ge=1)
    """k-means iterations at most"""
    min_size: int = Field(default=0, ge=0)
    """a class with fewer samples is dissolved after the fit, and its samples go to the next nearest; 0: none is"""
    levels: Sizes = ()
    """numbers of coarser classes above the classes, descending: each level is k-means over the centroids below it, and every
    class knows its parent"""
    resampling: int = Field(default=10, ge=0)
    """times that a coarser level is fitted again on the centroids nearest to each of its own, which evens out its classes"""
    ids_from: Url | None = None
    """output root whose class ids are kept where a class is found again: `self` (what this root has published) or another; null:
    ids are numbered from 0"""
    labels: int = Field(default=8, ge=1)
    """nearest classes per sample (MLCD: 8)"""
    floor: float | None = Field(default=None, ge=-1, le=1)
    """labels are the classes at least this similar, `labels` at most; null: no floor"""
    search: Literal["auto", "exact"] = "auto"
    """how labels are searched: `auto` takes an index where there are many classes and its recall on a sample reaches `recall`; with
    embeddings made on a GPU it is exact"""
    recall: float = Field(default=0.95, ge=0, le=1)
    """least recall of the labels by an index, against exact search on a sample; below it the search is exact"""
    temperature: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """of the softmax over similarities that gives the label weights; `auto`: calibrated, so that a weight is the chance that the
    sample most like this one is nearest to that class"""
    text_weight: float = Field(default=0.0, ge=0)
    """how much the similarity of an entity's text and the centroid counts for a class's name; at 0 it only breaks ties"""
    reference_column: str | None = None
    """what the classes are compared with in the report: a column that rules may read, or `json.KEY` of the samples' own metadata"""

    @model_validator(mode="after")
    def _levels_get_coarser(self) -> Self:
        if any(above >= below for below, above in pairwise((self.k, *self.levels) if self.k else self.levels)):
            raise ValueError(f"each level must have fewer classes than the one below it, and the first fewer than k ({self.k}): "
                             f"give classes.levels in descending order, not {list(self.levels)}")
        return self

    @model_validator(mode="after")
    def _reference_is_known(self, info: ValidationInfo) -> Self:
        if self.reference_column and not self.reference_column.startswith(JSON):
            column = column_named(self.reference_column, columns_in_context(info.context))
            if column.origin == SEMANTIC:
                raise ValueError(f"reference_column cannot be {column.name}, which is known after the classes")
        return self


class Export(BaseModel):
    """The output shards."""

    model_config = STRICT

    shard_size: int = Field(default=10_000, ge=1)
    """samples per output shard"""
    group: int = Field(default=10, ge=1)
    """input shards that are shuffled together"""
    shuffle: bool = True
    """shuffle the input shards, then the samples within each group; by the seed"""
    transcode: Annotated[str, AfterValidator(checked_transcode)] = NONE
    """pictures of formats that trainers do not read (gif, bmp, tiff, avif) are written as `png` or `jpeg QUALITY` (jpeg 95): the
    upright RGB pixels of the first frame; `image_sha256` stays that of the original. none: such formats may not be allowed"""
    orient: Literal["keep", "upright"] = "keep"
    """pictures that EXIF says are to be turned: `keep`: as they are stored, which is how trainers that do not turn them see them;
    `upright`: their upright pixels, as the stages saw them, encoded as `transcode` says, else in their format (jpeg and webp with
    quality 95)"""
    balance: int | None = Field(default=None, ge=1)
    """samples to export, drawn top-down over the levels of classes, as evenly as the classes allow; null: all that are kept"""
    multiplier: int = Field(default=1, ge=1)
    """with `balance`: how often one sample may be exported, so that small classes keep up"""
    balance_order: Literal["random", "closest"] = "random"
    """with `balance`: which samples of a class are taken: drawn by the seed, or those nearest to its centroid"""

    @property
    def pictures(self) -> PictureRule:
        """Which pictures are encoded anew."""
        return PictureRule(self.transcode, self.orient)

    @model_validator(mode="after")
    def _balance_is_asked_for(self) -> Self:
        if self.balance is None and (self.multiplier > 1 or self.balance_order != "random"):
            raise ValueError("multiplier and balance_order belong to a balanced export: set export.balance to the samples wanted")
        return self


class Index(BaseModel):
    """Indexes of the embeddings, in which neighbours are found: by `query`, by the service, and by FAISS itself."""

    model_config = STRICT

    of: Literal["kept", "all"] | None = None
    """samples whose vectors are in it: `kept`, or `all` that have some; null: no index is made"""
    modality: Annotated[tuple[Literal["image", "text"], ...], Field(strict=False, min_length=1)] = ("image", "text")
    """vectors that have an index each: of the pictures, of the captions"""
    kind: Literal["auto", "flat", "hnsw", "ivf", "ivfsq", "ivfpq"] = "auto"
    """`flat`: all vectors are compared, in half precision; `hnsw`: a graph, made by one thread; `ivf`: lists of half precision;
    `ivfsq`: lists of 8 bits a value; `ivfpq`: lists of product-quantised vectors; `auto`: by the number of vectors, `memory` and
    `latency`, with the reason in index.json"""
    recall: float = Field(default=0.95, ge=0, le=1)
    """recall@10 against exact search, measured on held-out queries; the smallest effort that reaches it is what searches take"""
    latency: float = Field(default=10, gt=0)
    """milliseconds that a query may take on one thread, about: what the kind is chosen by"""
    memory: float = Field(default=16, gt=0)
    """GB that an opened index may take, and the process that makes a graph: what the kind and its codes are chosen by"""
    grow: bool = True
    """go on from the index that the root has published, if it is of the same model: what is new is added, what is gone is removed,
    and nothing is trained again until there are four times as many vectors; false: train anew"""

    @model_validator(mode="after")
    def _each_modality_once(self) -> Self:
        if len(set(self.modality)) < len(self.modality):
            raise ValueError(f"each modality has one index: name it once, not {list(self.modality)}")
        return self
