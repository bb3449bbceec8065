"""The image stage on the bundled sample and on rows that miss something."""

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.columns import Columns
from pipeline.distributed.local import LocalExecutor
from pipeline.errors import InputError
from pipeline.input.discovery import discover
from pipeline.input.samples import READING
from pipeline.models.pixels.guard import Guard
from pipeline.passes.annotate import Annotate
from pipeline.stage import Stage, checked, fingerprints
from pipeline.stages.hashes import HashesStage
from pipeline.stages.image import ImageStage
from pipeline.stages.pixels import pixel_arrays
from pipeline.store.store import Store
from pipeline.store.tables import read_columns
from tests.models import killers
from tests.models.bundled import ground_truth, sample
from tests.models.zoo import encoded, picture


def batch_of(
    images: Sequence[bytes | None], sizes: Sequence[tuple[int | None, int | None]] | None = None,
    captions: Sequence[str | None] | None = None,
) -> pa.RecordBatch:
    """What the source hands to the stages."""
    sizes = sizes or [(None, None)] * len(images)
    return pa.record_batch({
        "uid": pa.array([f"{row:032x}" for row in range(len(images))], pa.string()),
        "image": pa.array(images, pa.large_binary()),
        "caption": pa.array(captions or ["a caption"] * len(images), pa.string()),
        "source_width": pa.array([width for width, _ in sizes], pa.int32()),
        "source_height": pa.array([height for _, height in sizes], pa.int32()),
    })


def columns(stage: Stage, batch: pa.RecordBatch) -> pa.RecordBatch:
    with stage.open() as transform:
        return checked(stage, batch, transform(batch))


def test_every_picture_of_the_sample_is_measured_or_has_a_reason() -> None:
    keys = list(sample())
    found = columns(ImageStage(), batch_of([sample()[key][0] for key in keys])).to_pylist()
    failed = {key for key, row in zip(keys, found, strict=True) if row["image_error"]}
    assert failed == {key for key, entry in ground_truth().items() if entry["label"] == "corrupt"}
    for key, row in zip(keys, found, strict=True):
        assert (row["pixels_rgb"] is None) == (key in failed)
        assert (row["width"] is None) == (key in failed)
        assert row["image_bytes"] == len(sample()[key][0])
    tiny = [row["longest_side"] for key, row in zip(keys, found, strict=True) if ground_truth()[key]["label"] == "tiny"]
    assert len(tiny) == 5
    assert max(tiny) <= 31


def test_a_row_without_a_picture_gets_nulls_and_no_error_of_its_own() -> None:
    row = columns(ImageStage(), batch_of([None])).to_pylist()[0]
    assert row.pop("uid")
    assert set(row.values()) == {None}


def test_the_original_size_is_the_inputs_where_it_brings_one() -> None:
    data = encoded(picture(40, 20), "PNG")
    rows = columns(ImageStage(), batch_of([data] * 4, [(400, 100), (None, 100), (0, 100), (None, None)])).to_pylist()
    assert [(r["shortest_side"], r["longest_side"], r["aspect_ratio"], r["pixels"]) for r in rows] == [(20, 40, 2.0, 800)] * 4
    found = [(r["original_shortest_side"], r["original_longest_side"], r["original_aspect_ratio"]) for r in rows]
    assert found == [(100, 400, 4.0), *[(20, 40, 2.0)] * 3]


def test_pixels_travel_with_the_batch_without_a_copy() -> None:
    small, large = encoded(picture(7, 5), "PNG"), encoded(picture(30, 40), "PNG")
    found = columns(ImageStage(), batch_of([small, None, b"no picture", large]))
    arrays = pixel_arrays(found)
    assert [None if a is None else a.shape for a in arrays] == [(5, 7, 3), None, None, (40, 30, 3)]
    np.testing.assert_array_equal(arrays[3], np.asarray(picture(30, 40)))
    values = found["pixels_rgb"].buffers()[2 + 3]
    assert arrays[3] is not None
    assert (arrays[3].ctypes.data, arrays[3].size) == (values.address, values.size)
    part = pixel_arrays(found.slice(3, 1))
    np.testing.assert_array_equal(part[0], np.asarray(picture(30, 40)))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 4), (1, 5), (3, 3)])
def test_pictures_of_a_few_bytes_travel_too(size: tuple[int, int]) -> None:
    """Arrow keeps up to twelve bytes of such a value in the column itself."""
    found = columns(ImageStage(), batch_of([None, encoded(picture(*size), "PNG")]))
    found["pixels_rgb"].validate(full=True)
    np.testing.assert_array_equal(pixel_arrays(found)[1], np.asarray(picture(*size)))
    assert found["pixels_rgb"][1].as_py() == np.asarray(picture(*size)).tobytes()
    np.testing.assert_array_equal(pixel_arrays(found.slice(1))[0], np.asarray(picture(*size)))


def test_formats_and_sizes_are_the_recipes() -> None:
    data = encoded(picture(40, 20), "WEBP")
    assert columns(ImageStage(("jpeg",)), batch_of([data]))["image_error"].to_pylist() == ["image_format_not_allowed"]
    assert columns(ImageStage(max_pixels=799), batch_of([data]))["image_error"].to_pylist() == ["image_too_many_pixels"]
    with pytest.raises(InputError, match="jpg"), ImageStage(("jpg",)).open():
        pass


def test_an_empty_batch_stays_empty() -> None:
    assert columns(ImageStage(), batch_of([])).num_rows == 0


def test_care_is_no_part_of_the_fingerprint_and_is_taken_once() -> None:
    careful = ImageStage(("png",), 100).careful()
    assert careful.guard == Guard()
    assert careful.careful() == careful
    behind = dict.fromkeys(ImageStage.contract.reads, "source")
    assert fingerprints([careful], behind) == fingerprints([ImageStage(("png",), 100)], behind)
    assert fingerprints([careful], behind) != fingerprints([ImageStage(("png",), 101)], behind)


def write_shard(folder: Path, pictures: Iterable[bytes]) -> None:
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number, data in enumerate(pictures):
            for extension, content in (("jpg", data), ("txt", f"caption {number}".encode())):
                entry = tarfile.TarInfo(f"{number:04d}.{extension}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def test_a_careful_annotate_loses_the_killer_alone_and_the_others_are_the_same_bytes(tmp_path: Path) -> None:
    good = [data for data, _ in list(sample().values())[:7]]
    killer = encoded(picture(30, 20), "JPEG", comment=killers.SEGFAULT)
    write_shard(tmp_path / "in", [*good[:4], killer, b"no picture", *good[4:]])
    stage = ImageStage(guard=Guard("tests.models.killers:decode_for_real"))
    tables = {}
    for name, image in (("careful", stage), ("plain", ImageStage())):   # the real decoder survives the killer
        columns = Columns(Store(str(tmp_path / name)), {k: f"columns/{k}@1" for k in ("samples", "image", "hashes")})
        work = Annotate(columns, (image, HashesStage()), READING, threads=2, batch_rows=4)
        (outcome,) = LocalExecutor().run(work.careful() if image.guard else work, work.of(discover([str(tmp_path / "in")])))
        assert outcome.facts["rows"] == 9
        tables[name] = [read_columns(columns.store, folder, outcome.item.shard.shard_id) for folder in columns.folders.values()]
    others = pa.array([row for row in range(9) if row != 4])
    for careful, plain in zip(tables["careful"], tables["plain"], strict=True):
        assert careful.take(others).equals(plain.take(others))
    errors = [table.column("image_error").to_pylist() for table in (tables["careful"][1], tables["plain"][1])]
    assert [error[4] for error in errors] == ["image_decoder_crashed", None]
    assert errors[0][5] == "image_not_an_image"
    assert tables["careful"][1].column("width").to_pylist()[4] is None
