"""Words as the alias index compares them: split, folded, and singular.

English plurals follow the noun rules of WordNet's morphological processor (morphy) with a list of irregular ones; no
data files. A form only counts when the knowledge base has it, so a rule may well propose a word that does not exist.
"""

import re
import unicodedata
from functools import lru_cache

WORD = re.compile(r"[^\W_]+")
"""A run of letters and digits. Hyphens, underscores, apostrophes and points separate: "T-shirt" is two words."""

_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "œ": "oe", "ı": "i", "þ": "th"})

_IRREGULAR = dict(
    line.split() for line in """
    men man|women woman|children child|feet foot|teeth tooth|geese goose|mice mouse|lice louse|oxen ox|people person|
    dice die|leaves leaf|loaves loaf|halves half|calves calf|knives knife|lives life|wives wife|midwives midwife|
    housewives housewife|elves elf|shelves shelf|bookshelves bookshelf|wolves wolf|werewolves werewolf|scarves scarf|
    hooves hoof|thieves thief|sheaves sheaf|wharves wharf|dwarves dwarf|handkerchieves handkerchief|
    cacti cactus|fungi fungus|nuclei nucleus|radii radius|stimuli stimulus|alumni alumnus|foci focus|
    hippopotami hippopotamus|octopi octopus|platypi platypus|abaci abacus|magi magus|papyri papyrus|
    antennae antenna|larvae larva|pupae pupa|nebulae nebula|formulae formula|vertebrae vertebra|algae alga|
    amoebae amoeba|novae nova|supernovae supernova|bacteria bacterium|strata stratum|curricula curriculum|
    aquaria aquarium|stadia stadium|gymnasia gymnasium|spectra spectrum|ova ovum|crania cranium|podia podium|
    phenomena phenomenon|criteria criterion|automata automaton|polyhedra polyhedron|tetrahedra tetrahedron|
    analyses analysis|crises crisis|oases oasis|theses thesis|hypotheses hypothesis|parentheses parenthesis|
    ellipses ellipse|diagnoses diagnosis|indices index|matrices matrix|vertices vertex|vortices vortex|apices apex|
    codices codex|helices helix|beaux beau|bureaux bureau|chateaux chateau|plateaux plateau|tableaux tableau|
    gateaux gateau|graffiti graffito|seraphim seraph|cherubim cherub|kibbutzim kibbutz|quizzes quiz|passersby passerby
    """.replace("\n", "").split("|")
)

# Endings and what they become, tried in order. Morphy tries "ses" -> "s" before "s" -> ""; the longer word first is
# right more often here ("vases" are no vas), since a form counts only when the knowledge base has it.
_RULES = (("s", ""), ("ies", "y"), ("es", ""), ("men", "man"))
_NO_PLURAL = ("ss", "us", "is")


@lru_cache(1 << 17)
def folded(word: str) -> str:
    """The word in one case and without diacritics."""
    if word.isascii():
        return word.lower()
    apart = unicodedata.normalize("NFKD", word.casefold().translate(_LETTERS))
    return "".join(c for c in apart if not unicodedata.combining(c))


def words(text: str) -> list[str]:
    """The folded words of a text."""
    if text.isascii() and text.replace(" ", "").isalnum():   # plain words, as most aliases are
        return text.lower().split()
    return [folded(match.group()) for match in WORD.finditer(text)]


@lru_cache(1 << 17)
def singulars(word: str) -> tuple[str, ...]:
    """What the folded word may be the plural of, most likely first; empty when it cannot be one."""
    if word in _IRREGULAR:
        return (_IRREGULAR[word],)
    if len(word) < 4 or word.endswith(_NO_PLURAL):
        return ()
    return tuple(word.removesuffix(ending) + replacement for ending, replacement in _RULES if word.endswith(ending))
