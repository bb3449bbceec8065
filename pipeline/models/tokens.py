"""A model's own tokenizer, with bounds that captions from the open web need."""

import re
from collections.abc import Callable, Sequence

import open_clip
from open_clip.tokenizer import SimpleTokenizer, get_clean_fn
from torch import Tensor

from pipeline.errors import InputError

LONGEST_CAPTION = 1 << 16
"""Characters of a caption that are looked at; a longer one has its white space collapsed first."""

MAX_CACHED_WORDS = 200_000
"""open_clip's tokenizer remembers every word it ever met; it forgets them all beyond this many."""

PLAIN = re.compile("[ -%'-~]*")
"""Printable ASCII without the sign that begins an HTML entity: text in which open_clip's cleaning has nothing to mend."""

Tokenizer = Callable[[Sequence[str]], Tensor]


def tokenizer(name: str) -> Tokenizer:
    """Token ids [n, context] for captions, as the model of this name was trained; a huge caption costs little more."""
    try:
        own = open_clip.get_tokenizer(name)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"the tokenizer of model {name} cannot be loaded: {error}") from error
    if isinstance(own, SimpleTokenizer):
        spare_plain(own)
        bound_words(own)

    def tokens(captions: Sequence[str]) -> Tensor:
        ids: Tensor = own([shortened(caption) for caption in captions])
        if isinstance(own, SimpleTokenizer) and len(own.cache) > MAX_CACHED_WORDS:
            own.cache = dict(special_words(own))
        return ids

    return tokens


def shortened(caption: str) -> str:
    if len(caption) <= LONGEST_CAPTION:
        return caption
    return " ".join(caption.split())[:LONGEST_CAPTION]


def spare_plain(own: SimpleTokenizer) -> None:
    """Does to plain captions what is left of the cleaning: white space and case. Mending takes half of a tokenizer's time."""
    clean = own.clean_fn
    if clean in (get_clean_fn("lower"), get_clean_fn("whitespace")):
        lower = clean is get_clean_fn("lower")

        def cleaned(text: str) -> str:
            if PLAIN.fullmatch(text) is None:
                found: str = clean(text)
                return found
            plain = " ".join(text.split())
            return plain.lower() if lower else plain

        own.clean_fn = cleaned


def bound_words(own: SimpleTokenizer) -> None:
    """Cuts the cleaned text where no token of the context can lie any more.

    A token stands for at most the longest vocabulary entry, plus a space before it; the byte-pair search in a single
    huge word would take time with the square of its length. Twice that many characters are kept, so that a word which
    is cut is cut far behind the context's last token.
    """
    clean, context = own.clean_fn, own.context_length
    longest = 2 * context * (1 + max(len(token) for token in own.encoder))
    own.clean_fn = lambda text: clean(text)[:longest]


def special_words(own: SimpleTokenizer) -> dict[str, str]:
    """What the cache starts with."""
    return {own.decoder[token]: own.decoder[token] for token in own.all_special_ids}
