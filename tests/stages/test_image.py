"""The image stage on the bundled sample and on rows that miss something."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.stage import checked
from pipeline.stages.image import ImageStage, pixel_arrays
from tests.models.bundled import ground_truth, sample
from tests.models.zoo import encoded, picture


def batch_of(images, sizes=None, captions=None):
    """What the source hands to the stages."""
    sizes = sizes or [(None, None)] * len(images)
    return pa.record_batch({
        "uid": pa.array([f"{row:032x}" for row in range(len(images))], pa.string()),
        "image": pa.array(images, pa.large_binary()),
        "caption": pa.array(captions or ["a caption"] * len(images), pa.string()),
        "source_width": pa.array([width for width, _ in sizes], pa.int32()),
        "source_height": pa.array([height for _, height in sizes], pa.int32()),
    })


def columns(stage, batch):
    with stage.open() as transform:
        return checked(stage, batch, transform(batch))


def test_every_picture_of_the_sample_is_measured_or_has_a_reason():
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


def test_a_row_without_a_picture_gets_nulls_and_no_error_of_its_own():
    row = columns(ImageStage(), batch_of([None])).to_pylist()[0]
    assert row.pop("uid")
    assert set(row.values()) == {None}


def test_the_original_size_is_the_inputs_where_it_brings_one():
    data = encoded(picture(40, 20), "PNG")
    rows = columns(ImageStage(), batch_of([data] * 4, [(400, 100), (None, 100), (0, 100), (None, None)])).to_pylist()
    assert [(r["shortest_side"], r["longest_side"], r["aspect_ratio"], r["pixels"]) for r in rows] == [(20, 40, 2.0, 800)] * 4
    found = [(r["original_shortest_side"], r["original_longest_side"], r["original_aspect_ratio"]) for r in rows]
    assert found == [(100, 400, 4.0), *[(20, 40, 2.0)] * 3]


def test_pixels_travel_with_the_batch_without_a_copy():
    small, large = encoded(picture(7, 5), "PNG"), encoded(picture(30, 40), "PNG")
    found = columns(ImageStage(), batch_of([small, None, b"no picture", large]))
    arrays = pixel_arrays(found)
    assert [None if a is None else a.shape for a in arrays] == [(5, 7, 3), None, None, (40, 30, 3)]
    np.testing.assert_array_equal(arrays[3], np.asarray(picture(30, 40)))
    values = found["pixels_rgb"].buffers()[2]
    assert values.address <= arrays[3].ctypes.data < values.address + values.size
    part = pixel_arrays(found.slice(3, 1))
    np.testing.assert_array_equal(part[0], np.asarray(picture(30, 40)))


def test_formats_and_sizes_are_the_recipes():
    data = encoded(picture(40, 20), "WEBP")
    assert columns(ImageStage(("jpeg",)), batch_of([data]))["image_error"].to_pylist() == ["image_format_not_allowed"]
    assert columns(ImageStage(max_pixels=799), batch_of([data]))["image_error"].to_pylist() == ["image_too_many_pixels"]
    with pytest.raises(InputError, match="jpg"), ImageStage(("jpg",)).open():
        pass


def test_an_empty_batch_stays_empty():
    assert columns(ImageStage(), batch_of([])).num_rows == 0
