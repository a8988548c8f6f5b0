"""What looks like personal data: pure functions on names and values, for everything that the contract does not mark itself.

A pattern finds e-mail addresses, IP addresses and telephone numbers, and columns whose name says what is in them. It does not find a
person's name in a column that is called `colour`; free text of unknown columns is therefore personal whatever it says.
"""

import re
from functools import cache

import orjson

# bounded, as addresses are: without bounds a megabyte in one word takes hours
EMAIL = re.compile(r"[^\s@<>\"',;:()\[\]{}|\\]{1,64}@[^\s@<>\"',;:()\[\]{}|\\/]{1,255}\.[^\W\d_]{2,63}")
IP_V4 = re.compile(r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.])")
IP_V6 = re.compile(
    r"(?<![\w:])(?=[0-9A-Fa-f:]{0,45}(?:::|[A-Fa-f]))(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{0,4}(?![\w:])"
)
PHONE = re.compile(r"(?<![\w.])\+\d[\d ().\-/]{6,}\d|(?<![\w-])\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])")
# what a text is replaced by, the pattern, and the characters of which one has to be there: most texts have none
PATTERNS = (("[e-mail]", EMAIL, "@"), ("[ip]", IP_V4, "."), ("[ip]", IP_V6, ":"), ("[phone]", PHONE, "+ .-"))
# RE2, which Arrow has, for a first look at a whole column: what it does not find holds no personal value and no personal key
FIRST_LOOK = (
    r'@|\d\.\d+\.\d+\.\d|:[0-9A-Fa-f]*:|\+\d|\d{3}\)?[ .-]\d{3}|(?i:mail|phone|mobile|tel|fax|name|addr|street|post|zip|"ip|ip"|birth|dob|ssn|passport|'
    r"iban|card|lat|lng|lon)"
)
WORDS = (
    "e_?mails?", "mails?", "(tele)?phones?(_number)?", "mobile(_number)?", "cell(_number)?", "tel", "fax",
    "(first|last|full|middle|given|family|maiden|user|display|customer|contact|person|legal|billing|shipping)_?names?", "surname",
    "nick_?name", "contact", "address(es)?", "addr", "street", "post_?code", "postal_?code", "zip(_?code)?", "ip", "ipv[46]",
    "birth(day|date)?", "date_of_birth", "dob", "ssn", "social_security(_number)?", "passport(_number)?", "iban", "card_number", "pan",
    "latitude", "longitude", "lat", "lng", "geo",
)  # fmt: skip
NAMES = re.compile(rf"(^|_)({'|'.join(WORDS)})(_|$)")
TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)? ?(Z|UTC|[+-]\d{2}:?\d{2})?")
PROSE = re.compile(r"\S\s+\S")
LONG = 10_000
LETTERS = re.compile(r"[^\W\d_]{2,}")


@cache
def is_personal_name(name: str) -> bool:
    """Whether a column's or key's name says that personal data is in it (`userEmail`, `E-Mail`, `ip_address`, `Phone Number`)."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return bool(NAMES.search(re.sub(r"[^a-z0-9]+", "_", snake.lower()).strip("_")))


def is_personal(text: str) -> bool:
    """Whether a text holds an e-mail address, an IP address or a telephone number; of what is very long nobody looks."""
    return len(text) > LONG or any(
        any(sign in text for sign in signs) and pattern.search(text) for _, pattern, signs in PATTERNS
    )


def is_prose(text: str) -> bool:
    """Whether a text is more than a number, a time or one word: what people write may be about people."""
    return bool(PROSE.search(text.strip()) and LETTERS.search(text)) and not TIME.fullmatch(text.strip())


def redacted(text: str, addresses: bool = True) -> str:
    """The text with what looks personal replaced by what it was. addresses: IP addresses too (not those of the machines we talk to)."""
    for word, pattern, signs in PATTERNS:
        if (addresses or word != "[ip]") and any(sign in text for sign in signs):
            text = pattern.sub(word, text)
    return text


def withheld(text: str) -> str:
    """A value as a reason may tell it."""
    return "(withheld)" if is_personal(text) or is_prose(text) else text


def parsed(text: str):
    """What a text that is a JSON object or list holds; None for any other."""
    if not text or text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return None
