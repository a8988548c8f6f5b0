"""Whether two names are the same one, written differently or with one slip."""

import re
import unicodedata

# a slip is looked for in words and texts of so many letters: in shorter ones nearly every name is next to another
SHORTEST_WORD, SHORTEST_TEXT = 4, 6
WORD = re.compile(r"[^\W\d_]+")
BETWEEN_WORDS = re.compile(r"[\W_]+")


def is_other_spelling(value: str, usual: str) -> bool:
    """Whether two texts differ in case, blanks and signs between words only. Signs beside digits count: 1.0 is not 10."""
    return value != usual and _plain(value) == _plain(usual)


def is_slip(value: str, usual: str) -> bool:
    """Whether one letter more, less or other, or two neighbours that changed places, lie between two texts. Digits are no slips: plan_1 is not plan_2."""
    value, usual = value.casefold(), usual.casefold()
    if value == usual or abs(len(value) - len(usual)) > 1 or max(len(value), len(usual)) < SHORTEST_TEXT:
        return False
    start = 0
    while start < min(len(value), len(usual)) and value[start] == usual[start]:
        start += 1
    end = 0
    while end < min(len(value), len(usual)) - start and value[-1 - end] == usual[-1 - end]:
        end += 1
    own, other = value[start : len(value) - end], usual[start : len(usual) - end]
    is_swap = len(own) == len(other) == 2 and own == other[::-1]
    if not (is_swap or (len(own) <= 1 and len(other) <= 1)):
        return False
    if not (own + other).isalpha():
        return False
    return all(_word_length(text, start) >= SHORTEST_WORD for text in (value, usual))


def _plain(text: str) -> str:
    words = BETWEEN_WORDS.split(unicodedata.normalize("NFKC", text).casefold())
    return (" " if any(c.isdigit() for c in text) else "").join(word for word in words if word)


def _word_length(text: str, place: int) -> int:
    """The letters of the word at a place, or that ends there."""
    return max((len(m[0]) for m in WORD.finditer(text) if m.start() <= place <= m.end()), default=0)
