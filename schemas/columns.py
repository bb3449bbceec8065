"""Arrow schemas of the per-sample columns: one row per input sample, the same order in every stage.

Each starts with `uid` and ends with `<stage>_error`, a short code that is null where all went well. Fields of type
fixed_size_list<float16> are stored beside the parquet file as `.npy` (float16 [rows, d], zero rows where invalid).
The `doc` metadata of a field gives its meaning and unit.
"""

import pyarrow as pa


def field(name: str, type: pa.DataType, doc: str) -> pa.Field:
    """A nullable field that carries its meaning."""
    return pa.field(name, type, metadata={"doc": doc})


UID = field(
    "uid", pa.string(),
    "content identity: first 128 bits of SHA-256(len(image) as u64be, image bytes, raw caption bytes), 32 hex digits",
)


def error(stage: str) -> pa.Field:
    """The last column of a stage: its error code."""
    return field(f"{stage}_error", pa.string(), f"why stage {stage} could not process the sample; null when it could")


SAMPLES = pa.schema([
    UID,
    field("key", pa.string(), "name of the sample in its shard"),
    field("source_uid", pa.string(), "uid that the input brought, if any; never trusted"),
    field("caption", pa.string(), "raw caption as text"),
    field("caption_encoding", pa.string(), "what its bytes were taken for: utf-8 where they are this very text"),
    field("caption_raw", pa.binary(), "raw caption bytes, only where they are not this text in UTF-8"),
    field("image_name", pa.string(), "name of the image's member or column"),
    field("image_extension", pa.string(), "extension of that name, lower case, without the dot"),
    field("location", pa.string(), "where the image bytes are: tar_range, parquet_row or stream_only"),
    field("image_offset", pa.int64(), "tar_range: byte offset of the image in the shard; else the row or ordinal of the sample"),
    field("image_length", pa.int64(), "bytes of the encoded image"),
    field("json_offset", pa.int64(), "tar_range: byte offset of the metadata object; null without one"),
    field("json_length", pa.int64(), "bytes of the metadata object"),
    field("json_problem", pa.string(), "why that is no JSON object: empty, not_utf8, not_json, not_an_object, too_deep; else null"),
    field("source_width", pa.int32(), "original_width that the input brought, pixels"),
    field("source_height", pa.int32(), "original_height that the input brought, pixels"),
    error("samples"),
])

IMAGE = pa.schema([
    UID,
    field("image_format", pa.string(), "format found in the bytes: jpeg, png, webp, ..."),
    field("image_bytes", pa.int64(), "size of the encoded image, bytes"),
    field("width", pa.int32(), "pixels, after EXIF orientation"),
    field("height", pa.int32(), "pixels, after EXIF orientation"),
    field("shortest_side", pa.int32(), "pixels"),
    field("longest_side", pa.int32(), "pixels"),
    field("pixels", pa.int64(), "width x height"),
    field("aspect_ratio", pa.float32(), "longest side / shortest side, >= 1"),
    field("original_shortest_side", pa.int32(), "of the original size where the input brings one, else of this file"),
    field("original_longest_side", pa.int32(), "of the original size where the input brings one, else of this file"),
    field("original_aspect_ratio", pa.float32(), "of the original size where the input brings one, else of this file"),
    error("image"),
])

# Made once per sample by the image stage and shared by every stage that looks at pixels; never written.
PIXELS = pa.schema([
    field("pixels_rgb", pa.binary_view(), "RGB, uint8 [rows, columns, 3], EXIF orientation applied, alpha as open_clip drops it"),
    field("pixels_rows", pa.int32(), "rows of pixels_rgb (a huge picture is reduced by a whole factor)"),
    field("pixels_columns", pa.int32(), "columns of pixels_rgb"),
    field("pixels_plain", pa.bool_(), "the encoded picture is RGB or grey, and not reduced: open_clip resizes just these pixels"),
])

CAPTION = pa.schema([
    UID,
    field("caption_text", pa.string(), "caption in Unicode NFC, control characters and runs of white space as one space, stripped"),
    field("caption_words", pa.int32(), "words separated by white space"),
    field("caption_characters", pa.int32(), "characters of caption_text"),
    field("caption_letters", pa.float32(), "share of the characters (white space aside) that are letters, 0..1"),
    field("caption_repetition", pa.float32(), "1 - distinct words / words, 0..1"),
    field("caption_is_filename", pa.bool_(), "the whole caption is a file name, a camera's name or a hash"),
    field("caption_is_boilerplate", pa.bool_(), "a stock phrase of web pages, a URL or markup, which says nothing of the picture"),
    error("caption"),
])

LANGUAGE = pa.schema([
    UID,
    field("language", pa.string(), "ISO 639 code of the most probable language"),
    field("language_confidence", pa.float32(), "its probability, 0..1"),
    error("language"),
])

HASHES = pa.schema([
    UID,
    field("sha256", pa.string(), "of the encoded image bytes, hex"),
    field("phash", pa.uint64(), "64-bit perceptual hash (DCT, Zauner 2010)"),
    field("thumbnail", pa.binary(768), "16 x 16 RGB, uint8 [16, 16, 3]"),
    error("hashes"),
])


def clip_schema(dimension: int) -> pa.Schema:
    """Columns of the clip stage for a model whose embeddings have this many dimensions."""
    vector = pa.list_(pa.float16(), dimension)
    return pa.schema([
        UID,
        field("clip_similarity", pa.float32(), "cosine of image and raw caption, -1..1, before the float16 cast"),
        field("image_embedding", vector, "unit vector"),
        field("text_embedding", vector, "unit vector of the raw caption"),
        error("clip"),
    ])


MENTION = pa.struct([
    pa.field("text", pa.string()),     # the words as they stand in caption_text
    pa.field("alias", pa.string()),    # the alias of the knowledge base that they match
    pa.field("start", pa.int32()),     # character span in caption_text, [start, end)
    pa.field("end", pa.int32()),
    pa.field("source", pa.string()),   # aliases | ner
])

MENTIONS = pa.schema([
    UID,
    field("mentions", pa.list_(MENTION), "aliases that the caption mentions, left to right, longest match, no overlap"),
    field("known_words", pa.float32(), "share of the words that the knowledge base's vocabulary or the stop words know, 0..1"),
    error("mentions"),
])

ENTITY = pa.struct([
    pa.field("id", pa.string()),         # e.g. an ImageNet wnid or a Wikidata QID
    pa.field("name", pa.string()),
    pa.field("start", pa.int32()),       # span of the mention in caption_text
    pa.field("end", pa.int32()),
    pa.field("link_score", pa.float32()),   # why this sense: prior, image, domain
    pa.field("z", pa.float32()),         # image-text similarity standardised against background images of the run
    pa.field("confirmed", pa.bool_()),   # z at or above the run's calibrated threshold; rare entities are cut by who reads it
])

ENTITIES = pa.schema([
    UID,
    field("entities", pa.list_(ENTITY), "the sense chosen for each mention, best z first"),
    field("entity_count", pa.int32(), "confirmed entities"),
    error("entities"),
])

VERDICTS = pa.schema([
    UID,
    field("verdict", pa.string(), "kept, rejected:<first rule that rejects> or failed:<code>"),
])

LABELS = pa.schema([
    UID,
    field("labels", pa.list_(pa.int32()), "ids of the nearest classes, best first; null for samples that are not labelled"),
    field("label_weights", pa.list_(pa.float16()), "weights of the labels, sum 1"),
    field("label_levels", pa.list_(pa.list_(pa.int32())),
          "per coarser level the classes above the labels, each once, by the sum of their weights"),
])

COPIES = pa.schema([UID, field("copies", pa.int32(), "how often the export takes the sample; 0: not kept, or left out")])
