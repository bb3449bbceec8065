"""Bytes of captions as text: a policy that guesses little, and says what it did."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.input.text import Decoded, checked_fallback, decoded, readable


def both(text: str, encoding: str) -> tuple[bytes, Decoded | None]:
    return text.encode(encoding), Decoded(text, encoding)


@pytest.mark.parametrize(("raw", "expected"), [
    ("caf\u00e9 \U0001f600".encode(), Decoded("café \U0001f600", "utf-8")), (b"", Decoded("", "utf-8")),
    (b"a caption with\0a NUL", Decoded("a caption with\0a NUL", "utf-8")),
    # Byte order marks
    ("\ufeffa mark".encode(), Decoded("a mark", "utf-8-sig")),
    (b"\xff\xfe" + "by notepad \U0001f600".encode("utf-16-le"), Decoded("by notepad \U0001f600", "utf-16-le")),
    (b"\xfe\xff" + "zażółć".encode("utf-16-be"), Decoded("zażółć", "utf-16-be")),
    (b"\xff\xfe\0\0" + "four bytes".encode("utf-32-le"), Decoded("four bytes", "utf-32-le")),
    (b"\xef\xbb\xbf" + "cliché".encode("cp1252"), Decoded("cliché", "windows-1252")),
    (b"\xef\xbb\xbf" + "naïve café".encode()[:-1], Decoded("naïve caf", "damaged utf-8")),
    # UTF-16 without a mark, as far as its NULs say so
    ("no mark é".encode("utf-16-be"), Decoded("no mark é", "utf-16-be")), ("no".encode("utf-16-le"), Decoded("no", "utf-16-le")),
    ("don’t touch the red house".encode("utf-16-le"), Decoded("don’t touch the red house", "utf-16-le")),
    ("a żółw".encode("utf-16-be"), Decoded("a żółw", "utf-16-be")), ("four".encode("utf-32-be"), Decoded("four", "utf-32-be")),
    ("a red".encode("utf-16-le") + b"\n", Decoded("a red\ufffd", "damaged utf-16-le")),
    ("one".encode("utf-32-le"), Decoded("one", "utf-32-le")),
    (b"a\0\1\0b\0", Decoded("a\0\1\0b\0", "utf-8")), (b"abcd\0\0\0\0", Decoded("abcd\0\0\0\0", "utf-8")),
    (b"\xef\xbb\xbf" * 3000, Decoded("\ufeff" * 2999, "utf-8-sig")),
    ("żółć".encode("utf-16-be"), None), (b"abc\0", Decoded("abc\0", "utf-8")), (b"a\0", Decoded("a\0", "utf-8")),
    (b"a\0\0\0", Decoded("a\0\0\0", "utf-8")),
    # Marks before what is damaged
    (b"\xff\xfea\0b\0c", Decoded("ab\ufffd", "damaged utf-16-le")), (b"\xff\xfe\x3d\xd8", Decoded("\ufffd", "damaged utf-16-le")),
    # Halves of surrogate pairs
    (b"half an emoji \xed\xa0\xbd", Decoded("half an emoji \ufffd", "damaged utf-8")),
    (b"a cat \xed\xa0\xbd\xed\xb0\x88", Decoded("a cat \U0001f408", "cesu-8")),
    # Damaged UTF-8
    ("naïve café".encode()[:-1], Decoded("naïve caf", "damaged utf-8")),
    ("more …".encode()[:-1], Decoded("more ", "damaged utf-8")),
    ("über ".encode() + b"\xff" + " Straße".encode(), Decoded("über \ufffd Straße", "damaged utf-8")),
    # Windows-1252
    both("The flag of Côte d’Ivoire", "windows-1252"), both("Flag – Estonia’s blue, black and white", "windows-1252"),
    both("The flag of the Kingdom of België", "windows-1252"), both("une tasse de café", "windows-1252"),
    both("été", "windows-1252"),
    both("••••• 5 € ••••• déjà", "windows-1252"), both("“Ça” – naïve", "windows-1252"),
    # Not Windows-1252, though every byte would be a letter of it
    ("привет мир".encode("cp1251"), None), ("привет".encode("koi8-r"), None), ("中文字幕".encode("gb18030"), None),
    ("日本語のテキスト".encode("shift_jis"), None), ("日本語のテキスト".encode("euc-jp"), None),
    ("한국어 설명".encode("euc-kr"), None),
    ("زهرة".encode("cp1256"), None), (b"undefined \x81 \x8d", None),
])
def test_a_caption_is_decoded_or_it_is_no_text(raw: bytes, expected: Decoded | None) -> None:
    assert decoded(raw) == expected


def test_the_fallback_is_what_the_recipe_declares() -> None:
    russian, french = "привет мир".encode("cp1251"), "café".encode("cp1252")
    assert decoded(russian, "cp1251") == Decoded("привет мир", "cp1251")
    assert decoded(french, "none") is None
    assert decoded(b"\xff\xff", "shift_jis") is None
    assert decoded("日本語".encode("shift_jis"), "shift_jis") == Decoded("日本語", "shift_jis")
    assert decoded("日本語".encode(), "shift_jis") == Decoded("日本語", "utf-8")


@given(raw=st.binary(max_size=40), fallback=st.sampled_from(["windows-1252", "none", "cp1251", "utf-16", "gb18030"]))
def test_whatever_comes_out_can_be_written_as_utf8(raw: bytes, fallback: str) -> None:
    found = decoded(raw, fallback)
    assert found is None or found.text.encode().decode() == found.text
    assert found is None or (found.encoding == "utf-8") == (found.text.encode() == raw)
    readable(raw, fallback).encode()


@pytest.mark.parametrize("name", ["klingon", "hex", "rot13", "zip", "unicode_escape", "utf-7", "idna", "../x", "a\0b", ""])
def test_what_is_no_encoding_of_texts_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no encoding"):
        checked_fallback(name)
