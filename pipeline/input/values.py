"""Values of Arrow columns of any type that a parquet file can carry, one by one: no kernel is asked, for each lacks some type
(views, dictionaries, extensions). A value is text or bytes for a sample's parts, or what JSON can say for its metadata; there is
always one.
"""

import base64
import math
from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Any

import pyarrow as pa

from pipeline.input.metadata import MAX_DEPTH
from pipeline.input.text import readable

BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
MAX_HASH = 64
"""Bytes of SHA-512, the longest of the usual ids and hashes; the smallest PNG has 67."""
TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def bare(kind: pa.DataType) -> pa.DataType:
    """The type of the values themselves, without dictionaries, runs and extensions around it."""
    while True:
        if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
            kind = kind.value_type
        elif isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        else:
            return kind


def is_bytes(kind: pa.DataType) -> bool:
    """Whether the values are byte strings."""
    return any(fits(bare(kind)) for fits in BYTES)


def may_be_pictures(kind: pa.DataType) -> bool:
    """Whether the values are byte strings; if all are of one length, longer than an id or hash."""
    plainly = bare(kind)
    return is_bytes(plainly) or bool(pa.types.is_fixed_size_binary(plainly) and plainly.byte_width > MAX_HASH)


def is_text(kind: pa.DataType) -> bool:
    """Whether the values are texts."""
    return any(fits(bare(kind)) for fits in TEXTS)


def is_number(kind: pa.DataType) -> bool:
    """Whether the values are whole numbers or floats."""
    return bool(pa.types.is_integer(bare(kind)) or pa.types.is_floating(bare(kind)))


def bare_value(scalar: Any) -> Any:
    """The scalar without dictionary, run or extension around it; None for null."""
    while scalar is not None and scalar.is_valid:
        if not isinstance(scalar, pa.DictionaryScalar | pa.RunEndEncodedScalar | pa.ExtensionScalar):
            return scalar
        scalar = scalar.value
    return None


def raw(column: Sequence[Any]) -> list[bytes | None]:
    """The bytes of the values of a column of texts (which need not be valid UTF-8) or byte strings; None for null."""
    scalars = map(bare_value, column)
    return [None if scalar is None else bytes(scalar.as_buffer()) for scalar in scalars]


def numbers(column: Sequence[Any]) -> list[Any]:
    """The values of a column of numbers; None for null."""
    return [None if scalar is None else scalar.as_py() for scalar in map(bare_value, column)]


def fields(column: Sequence[Any], name: str) -> list[Any]:
    """The values, as scalars, of one field of a column of structs; None where the struct is null."""
    scalars = map(bare_value, column)
    return [None if scalar is None else scalar[name] for scalar in scalars]


def json_value(scalar: Any) -> Any:
    """The value of a scalar as JSON can say it. What Python has no value for is said by its parts: texts that are not UTF-8 are
    decoded like captions, times beyond the year 9999 are counts of units."""
    try:
        return plain(scalar.as_py())
    except (ValueError, OverflowError, TypeError, NotImplementedError, RecursionError, pa.ArrowException):
        return _by_parts(bare_value(scalar), 0)


def _by_parts(scalar: Any, depth: int) -> Any:
    if scalar is None or depth > MAX_DEPTH:
        return None
    kind = scalar.type
    if is_text(kind):
        return readable(bytes(scalar.as_buffer()))
    if pa.types.is_struct(kind):   # fields that share a name: the last one, as in JSON
        return {kind.field(i).name: _by_parts(bare_value(scalar[i]), depth + 1) for i in range(kind.num_fields)}
    if isinstance(scalar, pa.ListScalar):
        return [] if scalar.values is None else [_by_parts(bare_value(item), depth + 1) for item in scalar.values]
    if pa.types.is_temporal(kind):
        return plain(getattr(scalar, "value", None))
    try:
        return plain(scalar.as_py())
    except (ValueError, OverflowError, TypeError, NotImplementedError, RecursionError, pa.ArrowException):
        return None


def plain(value: Any, depth: int = 0) -> Any:
    """The value as JSON can say it: bytes in base64, times in ISO 8601, numbers that are not finite as null, and null for what
    nests deeper than MAX_DEPTH."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return value if isinstance(value, str | int | None) else str(value)
