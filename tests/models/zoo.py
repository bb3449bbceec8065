"""Pictures in every form that the formats have, drawn from a seed. `zoo()` gives name -> encoded bytes."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

ORIENTATION = 0x0112


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Something like a photograph: smooth shapes at several scales, edges and a little noise."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((height, width, 3), np.float32)
    for cells in (2, 5, 11):
        coarse = rng.integers(0, 256, (cells, cells, 3), np.uint8)
        canvas += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noisy = canvas / 3 + rng.normal(0, 3, canvas.shape)
    y, x = np.mgrid[0:height, 0:width]
    noisy[(x - width * 0.6) ** 2 + (y - height * 0.4) ** 2 < (min(width, height) * 0.2) ** 2] = (200, 30, 40)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def alpha(width: int, height: int) -> Image.Image:
    """A soft disc."""
    y, x = np.mgrid[0:height, 0:width]
    disc = ((x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 3) ** 2) * np.uint8(255)
    return Image.fromarray(disc).filter(ImageFilter.GaussianBlur(3))


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


ORIENTED = {
    "megapixels": ("JPEG", "RGB", {}), "grey megapixels": ("JPEG", "L", {}), "cmyk": ("JPEG", "CMYK", {}),
    "palette": ("PNG", "P", {}), "transparent palette": ("PNG", "P", {"transparency": 3}), "alpha": ("PNG", "RGBA", {}),
    "grey, alpha": ("PNG", "LA", {}), "1 bit": ("PNG", "1", {}), "16 bit": ("PNG", "I;16", {}), "webp alpha": ("WEBP", "RGBA", {}),
}
"""Pictures that open_clip sees otherwise than as RGB pixels of moderate size: format, mode, options."""


@lru_cache(len(ORIENTED))
def not_plain(name: str) -> Image.Image:
    """A picture of ORIENTED, without an orientation. Those of many pixels have more than are carried."""
    mode = ORIENTED[name][1]
    photo = picture(2500, 1700, 3) if "megapixels" in name else picture(90, 60, 3)
    if mode == "I;16":
        return Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 257)
    if "A" in mode:
        photo.putalpha(alpha(*photo.size))
    return photo.quantize(64) if mode == "P" else photo.convert(mode)


def turned(name: str, orientation: int) -> bytes:
    """A picture of ORIENTED as a camera that was held otherwise writes it."""
    format, _, options = ORIENTED[name]
    return encoded(not_plain(name), format, exif=oriented(orientation), **options)


@lru_cache(1)
def zoo() -> dict[str, bytes]:
    photo = picture(320, 240)
    clear = photo.copy()
    clear.putalpha(alpha(*photo.size))
    frames = [picture(200, 150, seed) for seed in (1, 2)]
    palette = photo.quantize(64)
    sixteen = Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 257)
    found = {
        "jpeg": encoded(photo, "JPEG"),
        "jpeg grey": encoded(photo.convert("L"), "JPEG"),
        "jpeg cmyk": encoded(photo.convert("CMYK"), "JPEG"),
        "jpeg progressive": encoded(photo, "JPEG", progressive=True),
        "jpeg 4:4:4": encoded(photo, "JPEG", subsampling=0, quality=98),
        "jpeg with a tail": encoded(photo, "JPEG") + b"\0tail",
        "jpeg 12 megapixels": encoded(picture(4000, 3000), "JPEG"),
        "png": encoded(photo, "PNG"),
        "png grey": encoded(photo.convert("L"), "PNG"),
        "png palette": encoded(palette, "PNG"),
        "png palette, transparent": encoded(palette, "PNG", transparency=3),
        "png palette, many alphas": encoded(palette, "PNG", transparency=bytes(range(0, 256, 4))),
        "png 16 bit": encoded(sixteen, "PNG"),
        "png 1 bit": encoded(photo.convert("1"), "PNG"),
        "png grey, alpha": encoded(clear.convert("LA"), "PNG"),
        "png alpha": encoded(clear, "PNG"),
        "webp": encoded(photo, "WEBP"),
        "webp lossless": encoded(photo, "WEBP", lossless=True),
        "webp alpha": encoded(clear, "WEBP"),
        "webp animated": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "1 column": encoded(picture(1, 40), "PNG"),
        "1 row": encoded(picture(40, 1), "JPEG"),
        "1 pixel": encoded(picture(1, 1), "PNG"),
        "odd": encoded(picture(333, 17), "JPEG"),
    }
    for orientation in range(1, 9):
        for format in ("JPEG", "PNG", "WEBP"):
            found[f"{format.lower()} orientation {orientation}"] = encoded(photo, format, exif=oriented(orientation))
    return found
