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
        model_tokenizer = open_clip.get_tokenizer(name)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"the tokenizer of model {name} cannot be loaded: {error}") from error
    if isinstance(model_tokenizer, SimpleTokenizer):
        skip_cleaning(model_tokenizer)
        bound_text(model_tokenizer)

    def tokens(captions: Sequence[str]) -> Tensor:
        ids: Tensor = model_tokenizer([shortened(caption) for caption in captions])
        if isinstance(model_tokenizer, SimpleTokenizer) and len(model_tokenizer.cache) > MAX_CACHED_WORDS:
            model_tokenizer.cache = dict(special_token_cache(model_tokenizer))
        return ids

    return tokens


def shortened(caption: str) -> str:
    """The caption, or the first LONGEST_CAPTION characters of a longer one after its white space was collapsed."""
    if len(caption) <= LONGEST_CAPTION:
        return caption
    return " ".join(caption.split())[:LONGEST_CAPTION]


def skip_cleaning(simple: SimpleTokenizer) -> None:
    """Replaces the cleaning of plain captions by what it does to them: white space and case. The mending of broken Unicode and HTML
    takes half of a tokenizer's time."""
    clean = simple.clean_fn
    if clean in (get_clean_fn("lower"), get_clean_fn("whitespace")):
        lower = clean is get_clean_fn("lower")

        def cleaned(text: str) -> str:
            if PLAIN.fullmatch(text) is None:
                cleaned_text: str = clean(text)
                return cleaned_text
            plain = " ".join(text.split())
            return plain.lower() if lower else plain

        simple.clean_fn = cleaned


def bound_text(simple: SimpleTokenizer) -> None:
    """Cuts the cleaned text where no token of the context can lie any more.

    A token stands for at most the longest vocabulary entry, plus a space before it; the byte-pair search in a single huge word
    would take time with the square of its length. Twice that many characters are kept, so that a word which is cut is cut far
    behind the context's last token.
    """
    clean, context = simple.clean_fn, simple.context_length
    longest = 2 * context * (1 + max(len(token) for token in simple.encoder))
    simple.clean_fn = lambda text: clean(text)[:longest]


def special_token_cache(simple: SimpleTokenizer) -> dict[str, str]:
    """What the tokenizer's cache starts with: its special tokens, each as itself."""
    return {simple.decoder[token]: simple.decoder[token] for token in simple.all_special_ids}
