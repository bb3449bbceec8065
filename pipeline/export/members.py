"""The image and the caption of a sample as an output shard has them. Both are the input's own bytes, but for what trainers cannot
read: a caption that is not UTF-8, and, where the recipe asks for it, a picture of another format. `verify --deep` asks here too.
"""

from pipeline.export.samples import Sample
from pipeline.input.samples import TRAINERS_EXTENSIONS
from pipeline.models.pixels.encoding import NONE, SUFFIXES, PictureRule, transcoded


def image_member(sample: Sample, pictures: PictureRule) -> tuple[str, bytes]:
    """Extension and bytes of the image."""
    format, extension = sample.row["image_format"], sample.row["image_extension"]
    encoding = pictures.encoding(format, sample.image)
    if encoding != NONE:
        return transcoded(sample.image, encoding)
    return extension if extension in TRAINERS_EXTENSIONS else SUFFIXES.get(format, format), sample.image


def caption_member(sample: Sample) -> bytes:
    """The caption in UTF-8. A root of an older version, which did not say what it took bytes for, goes on as it was."""
    raw = sample.row["caption_raw"]
    if raw is not None and sample.row["caption_encoding"] is None:
        return bytes(raw)
    return str(sample.row["caption"]).encode()
