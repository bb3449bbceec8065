"""JSON of anybody in, JSON for strict readers out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.input.metadata import carried_object, dumped, parsed


def no_constant(name: str) -> Any:
    raise AssertionError(name)


@pytest.mark.parametrize(("original", "written"), [
    (b'{"punsafe": NaN, "pwatermark": [-Infinity], "id": 12}', '{"punsafe": null, "pwatermark": [null], "id": 12}'),
    (b'{"f": 1e400, "k": 0.1, "n": 1.0}', '{"f": null, "k": 0.1, "n": 1.0}'),
    (b'{"hash": 12345678901234567890123, "u": 18446744073709551615, "least": -9223372036854775809}',
     '{"hash": "12345678901234567890123", "u": 18446744073709551615, "least": "-9223372036854775809"}'),
    (b'{"title": "cut \\ud83d", "cat": "\\ud83d\\udc08", "\\udc08": 1}',
     '{"title": "cut \ufffd", "cat": "\U0001f408", "\ufffd": 1}'),
    (b'{"\\ud83d": 1, "\\udc08": 2, "\xef\xbf\xbd": 3}', '{"\ufffd_": 1, "\ufffd__": 2, "\ufffd": 3}'),
    (b'\xef\xbb\xbf{"id": 13}', '{"id": 13}'), (b'{"id": 1, "id": 2}', '{"id": 2}'),
    (b'{"b": true, "n": null}', '{"b": true, "n": null}'),
    (b'[{"bbox": [1, NaN]}]', '{"source": [{"bbox": [1, null]}]}'), (b'"text"', '{"source": "text"}'), (b"null", "{}"), (b"", "{}"),
    (b'{"id": 16, "caption": "a cle', "{}"), (b'{"author": "Ren\xe9"}', "{}"), (b'{"a": [' * 200 + b"]}" * 200, "{}"), (None, "{}"),
])
def test_every_strict_reader_takes_what_is_written(original: bytes | None, written: str) -> None:
    found = dumped(carried_object(original))
    assert found.decode() == written
    json.loads(found, parse_constant=no_constant)


@pytest.mark.parametrize(("content", "why"), [
    (b"{}", None), (b" \n", "empty"), (b"[1]", "not_an_object"), (b"null", "not_an_object"), (b'{"a"', "not_json"),
    (b"{'a': 1}", "not_json"),
    (b'{"a": "\xe9"}', "not_utf8"), (b"[" * 300 + b"]" * 300, "too_deep"), (b'{"n": ' + b"9" * 5_000 + b"}", "not_json"),
    # An open string, looked at in a time that goes by its length
    (b"[1]," * 300 + b'"' + b'\\"' * 500_000, "not_json"), (b"[1]," * 300 + b'"a\\', "not_json"),
])
def test_what_is_no_object_has_a_reason(content: bytes, why: str | None) -> None:
    assert parsed(content)[1] == why


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=2), inner, max_size=3),
    max_leaves=9)


@given(value=st.dictionaries(st.text(st.characters(), max_size=2), JSON, max_size=4))
def test_no_value_is_lost_and_none_is_refused(value: dict[str, Any]) -> None:
    written = dumped(carried_object(json.dumps(value).encode()))
    found = json.loads(written.decode("utf-8"), parse_constant=no_constant)
    assert len(found) == len(value)
    assert dumped(found) == written
