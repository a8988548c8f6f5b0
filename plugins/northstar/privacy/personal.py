"""Whether a value looks like personal data: pure functions, for everything that the contract does not mark itself.

A kind of personal data is a pattern and, if a pattern alone would match too much, a check. The kinds are e-mail addresses, IP and device
addresses, telephone, card, account and social security numbers, and parameters of a URL with a personal name. A text is searched as it is and
as it reads after decoding (percent signs, HTML entities, full-width letters, other scripts' digits, base64). A person's name as a single word
is not found; for that reason free text of unknown columns counts as personal whatever it says.
"""

import base64
import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import unquote

import orjson

from northstar.privacy.names import STEMS, is_personal_name

MAX_SEARCHED = 10_000
# how many times a text is decoded, one encoding within the other
ENCODINGS = 4
# how many levels of a decoded document are searched
MAX_LEVELS = 20
WITHHELD = "[withheld]"
NO_DIGIT = re.compile(r"[^0-9]+")
WITHOUT_DIGITS = dict.fromkeys(map(ord, "0123456789"))


@dataclass(frozen=True)
class Kind:
    """A kind of personal data. word: what replaces a value; pattern: how a value looks; check: whether a match really is one.

    digits, sign, times: a value has at least so many digits, and the character `sign` so many times. Most texts do not, and are not searched.
    """

    word: str
    pattern: re.Pattern[str]
    digits: int = 0
    sign: str = ""
    times: int = 1
    check: Callable[[str], bool] | None = None

    def is_in(self, text: str, digits: int) -> bool:
        """Whether a value of this kind is in the text. digits: how many digits the text has."""
        if digits < self.digits or (self.sign and text.count(self.sign) < self.times):
            return False
        if self.check is None:
            return self.pattern.search(text) is not None
        return any(self.check(match[0]) for match in self.pattern.finditer(text))

    def remove_from(self, text: str) -> str:
        """The text with the values of this kind replaced."""
        if self.sign and self.sign not in text:
            return text
        return self.pattern.sub(lambda m: self.word if self.check is None or self.check(m[0]) else m[0], text)


def _digits(text: str) -> str:
    return NO_DIGIT.sub("", text)


def _is_ip_v6(text: str) -> bool:
    try:
        return any(c.isdigit() for c in text) and IPv6Address(text.partition("%")[0]) is not None
    except ValueError:
        return bool(IP_V6_PREFIX.fullmatch(text))


def _is_international_phone(text: str) -> bool:
    # without spaces it could be another number, filled up with zeros
    digits = _digits(text)
    return (12 if digits == text else 11) <= len(digits) <= 17


def _is_national_phone(text: str) -> bool:
    return 9 <= len(_digits(text)) <= 12 and not DAY.fullmatch(text)


def _is_unspaced_phone(text: str) -> bool:
    """Whether 10 to 12 digits are a telephone number. 12 digits with the check digit of a GTIN are one only if they begin like a mobile number."""
    return len(text) != 12 or text[:3] in ("015", "016", "017") or not _has_check_digit(text, 3)


def _has_check_digit(digits: str, weight: int) -> bool:
    """Whether the last digit is the check digit of the others (weight 3: that of a GTIN, the number of a product)."""
    return sum(int(c) * (weight if place % 2 else 1) for place, c in enumerate(reversed(digits))) % 10 == 0


def _is_card(text: str) -> bool:
    digits = _digits(text)
    if not CARD_BRANDS.fullmatch(digits):
        return False
    doubled = (int(c) * (1 + place % 2) for place, c in enumerate(reversed(digits)))
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    code = text.replace(" ", "").upper()
    return 15 <= len(code) <= 34 and int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97 == 1


def _is_personal_parameter(text: str) -> bool:
    return is_personal_name(text.partition("=")[0].lstrip("?&;#"))


# all repetitions are bounded: without bounds a word of a megabyte takes hours
EMAIL = re.compile(r"[^\s@<>\"',;:()\[\]{}|\\]{1,64}@[^\s@<>\"',;:()\[\]{}|\\/]{1,255}\.[^\W\d_]{2,63}")
IP_V4 = re.compile(r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\w|\.\w)")
IP_V6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{1,4})?(?:%[\w.-]{1,16})?(?![\w:])"
)
IP_V6_PREFIX = re.compile(r"(?:[23][0-9A-Fa-f]{3}|[Ff][CcDdEe][0-9A-Fa-f]{2})(?::[0-9A-Fa-f]{1,4}){3,7}:?")
DEVICE = re.compile(r"(?<![\w:-])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![\w:-])")
PHONES = (
    # +49 151 ..., and as tel: writes it
    (r"(?<![\w.])\+\(?\d[\d ().\-/]{6,20}\d|(?i:\btel:)[+\d][\d().\-]{4,20}\d", 7, None),
    # 0044 20 ..., 011 44 20 ...
    (r"(?<![\w.,:+-])(?:00|011[ -])[1-9][\d ().\-/]{7,20}\d(?!\w)", 11, _is_international_phone),
    # 0151 ..., (030) ..., 030/..., 01 42 68 53 00
    (
        r"(?<![\w.,:+-])(?<!\d/)\(?0[1-9](?:\d{1,4}\)?/\d{4,8}|\d{0,4}(?:\) ?|[ .-]{1,2})\d{2,8}(?:[ .-]\d{2,8}){0,4})(?![\w:]|[-/.]\w)",
        9, _is_national_phone,
    ),
    # 015123456787, where it is all that is said
    (r"\A\s*0[1-9]\d{8,10}\s*\Z", 10, lambda text: _is_unspaced_phone(text.strip())),
    # 1-800-555-0199, (555) 123-4567
    (r"(?<![\w-])(?:1[ .-])?\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])", 10, None),
    # 8 (495) 123-45-67, 51 91234-5678
    (r"(?<![\w.-])8[ -]\(?\d{3}\)?[ -]\d{3}[ -]\d{2}[ -]?\d{2}(?![\w-])|(?<![\w-])\(?\d{2}\)?[ -]9?\d{4}-\d{4}(?![\w-])", 10, None),
)  # fmt: skip
DAY = re.compile(r"\d{2}([./-])\d{2}\1\d{4}( \d{2})?")
CARD = re.compile(r"(?<![\w.-])(?:\d[ -]?){14,18}\d(?![\w-]|\.\d)")
CARD_BRANDS = re.compile(
    r"4\d{15}(?:\d{3})?|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|2720\d{12}|3[47]\d{13}|(?:6011|65\d\d|64[4-9]\d|35(?:2[89]|[3-8]\d))\d{12}"
)
IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?(?!\w)", re.ASCII)
SOCIAL_SECURITY = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-\d{2}-\d{4}(?![\w-])")
PARAMETER = re.compile(r"(?:^|[?&;#])[^\s=&#?/;:]{1,64}=(?!\[)[^&#;\s]+")

ADDRESS = Kind("[e-mail]", EMAIL, sign="@")
IP = (Kind("[ip]", IP_V4, 4, ".", 3), Kind("[ip]", IP_V6, 1, ":", 2, _is_ip_v6))
NUMBERS = (
    Kind("[card]", CARD, 15, check=_is_card),
    Kind("[iban]", IBAN, 8, check=_is_iban),
    Kind("[number]", SOCIAL_SECURITY, 9, "-", 2),
    Kind("[device]", DEVICE, sign=":", times=5),
    Kind("[device]", DEVICE, sign="-", times=5),
    *(Kind("[phone]", re.compile(pattern), digits, check=check) for pattern, digits, check in PHONES),
)
KINDS = (ADDRESS, *IP, *NUMBERS)

# patterns for RE2, which Arrow has, to search a whole column first: a text that they do not match holds no personal value and no personal key
ENCODED = r"%[0-9A-Fa-f]{2}|&#|&[a-z]+;|\\u|[^\x00-\x7F]"
DIGITS = r"\d\.\d+\.\d+\.\d|:[0-9A-Fa-f]*:|\+\(?\d|\d{3}\)?[ .-]\d{3}|0\d+[).\-/ ]+\d|\d{10}|(?:\d[ -]?){13}|\d{2}[ -]\d{4}|[A-Z]{2}\d{2}|\d{3}-\d{2}-\d|[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-]"
TOKEN = r"[A-Za-z0-9+/_-]{20}"
FIRST_LOOK = rf"@|=|{ENCODED}|{DIGITS}|{TOKEN}|(?i:{'|'.join(STEMS)})"
FIRST_LOOK_AT_ADDRESSES = r"@|%(?:25)*(?:40|EF|ef|26)|&[#ac]|\\u0040|[＠﹫]"
FIRST_LOOK_AT_TEXT = rf"@|=|{ENCODED}|{DIGITS}|::"
# for unknown columns, where free text, JSON and what looks sealed count too
FIRST_LOOK_AT_UNKNOWN = rf"\s|^[\[{{]|sealed:|{FIRST_LOOK_AT_TEXT}|{TOKEN}"
TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)? ?(Z|UTC|[+-]\d{2}:?\d{2})?")
PROSE = re.compile(r"\S\s+\S")
LETTERS = re.compile(r"[^\W\d_]{2,}")
# prose in scripts without spaces: Chinese and Japanese except for loan words, Thai, Lao, Burmese, Khmer
UNSPACED = re.compile(
    r"[\u3041-\u309f\u3400-\u9fff]{6}|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]{14}|[\u3041-\u309f\u3400-\u9fff][。、，！？]"
)
PLACE = re.compile(r"[a-z][a-z0-9+.-]*://|/", re.IGNORECASE)
ESCAPED = re.compile(r"\\u([0-9A-Fa-f]{4})")
BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{20,4096}={0,2}(?![A-Za-z0-9+/_=-])")
HEXADECIMAL = re.compile(r"[0-9a-f-]+")
YES_OR_NO = frozenset(("true", "false", "yes", "no", "t", "f", "y", "n", "0", "1", ""))


def decode(text: str) -> str:
    """A text without its encodings, also one within the other: `ada%2540x.org`, `ada&#64;x.org` and `ａｄａ＠x.org` are the same address."""
    for _ in range(ENCODINGS):
        previous_text = text
        if "&" in text:
            text = html.unescape(text)
        if "%" in text:
            text = unquote(text, errors="replace")
        if "\\u" in text:
            text = ESCAPED.sub(lambda m: chr(int(m[1], 16)), text)
        if not text.isascii():
            text = "".join(map(_plain_character, unicodedata.normalize("NFKC", text)))
        if text == previous_text:
            break
    return text


def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    kind = unicodedata.category(character)
    return (
        str(unicodedata.decimal(character))
        if kind == "Nd"
        else ""
        if kind == "Cf"
        else "-"
        if kind == "Pd"
        else character
    )


def is_personal(text: str) -> bool:
    """Whether a text holds personal data of a known kind, as it is or decoded. A text longer than MAX_SEARCHED is not searched and counts as personal."""
    if len(text) > MAX_SEARCHED or _matches_a_kind(text):
        return True
    plain = decode(text)
    if plain != text and (_matches_a_kind(plain) or _is_personal_document(plain)):
        return True
    return any(_is_personal_base64(match[0]) for match in BASE64.finditer(text))


def _matches_a_kind(text: str) -> bool:
    digits = len(text) - len(text.translate(WITHOUT_DIGITS))
    return any(kind.is_in(text, digits) for kind in KINDS) or (
        "=" in text and any(_is_personal_parameter(m[0]) for m in PARAMETER.finditer(text))
    )


def _is_personal_document(text: str) -> bool:
    document = parse_document(text)
    return document is not None and _holds_personal(document, MAX_LEVELS)


def _holds_personal(document: object, levels: int) -> bool:
    if not levels:
        return True
    if isinstance(document, dict):
        return any(
            (v is not None and is_personal_name(k)) or _holds_personal(v, levels - 1) for k, v in document.items()
        )
    if isinstance(document, list):
        return any(_holds_personal(v, levels - 1) for v in document)
    return isinstance(document, str) and _matches_a_kind(document)


def _is_personal_base64(word: str) -> bool:
    """Whether a word is personal data in base64."""
    if HEXADECIMAL.fullmatch(word):
        return False
    letters = word.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        plain_text = base64.b64decode(letters + "=" * (-len(letters) % 4)).decode()
    except ValueError:
        return False
    return plain_text.isprintable() and (_matches_a_kind(plain_text) or _is_personal_document(plain_text))


def is_prose(text: str) -> bool:
    """Whether a text is more than a number, a time or one word: free text may be about people."""
    if not text.isascii() or (("%" in text or "&" in text) and not PLACE.match(text)):
        plain = decode(text) if len(text) <= MAX_SEARCHED else text
        if UNSPACED.search(plain) or (PROSE.search(plain.strip()) and LETTERS.search(plain)):
            return True
    return bool(PROSE.search(text.strip()) and LETTERS.search(text)) and not TIME.fullmatch(text.strip())


def is_yes_or_no(text: str) -> bool:
    """Whether a value is a yes or a no, or empty, and so not personal whatever the column's name says."""
    return text.strip().lower() in YES_OR_NO


def redact(text: str, with_ip_addresses: bool = True) -> str:
    """The text with each value that looks personal replaced by the name of its kind. with_ip_addresses: whether to replace IP addresses too."""
    kinds = KINDS if with_ip_addresses else (ADDRESS, *NUMBERS)
    result = _remove_kinds(text, kinds)
    plain = decode(result)
    if plain != result:
        cleaned = WITHHELD if _is_personal_document(plain) else _remove_kinds(plain, kinds)
        result = cleaned if cleaned != plain else result
    return BASE64.sub(lambda match: WITHHELD if _is_personal_base64(match[0]) else match[0], result)


def _remove_kinds(text: str, kinds: tuple[Kind, ...]) -> str:
    for kind in kinds:
        text = kind.remove_from(text)
    return PARAMETER.sub(_withhold_value, text) if "=" in text else text


def _withhold_value(match: re.Match[str]) -> str:
    return f"{match[0].partition('=')[0]}={WITHHELD}" if _is_personal_parameter(match[0]) else match[0]


def remove_addresses(text: str) -> str:
    """The text with e-mail addresses, in any spelling, replaced; the rest stays."""
    result = ADDRESS.remove_from(text)
    plain = decode(result)
    return ADDRESS.remove_from(plain) if ADDRESS.is_in(plain, 0) else result


def find_address(text: str) -> str | None:
    """The text if it holds an e-mail address; decoded, if only that shows the address. None for a text without one."""
    if ADDRESS.is_in(text, 0):
        return text
    plain = decode(text)
    return plain if ADDRESS.is_in(plain, 0) else None


def quote_safely(text: str) -> str:
    """The value as a reason may cite it: "(withheld)" if it may be personal."""
    return "(withheld)" if is_personal(text) or is_prose(text) else text


# Any: JSON holds what its author wrote
def parse_document(text: str) -> dict[str, Any] | list[Any] | None:
    """The JSON object or list that a text is; None for any other text."""
    if not text or text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        document: dict[str, Any] | list[Any] = orjson.loads(text)
        return document
    except ValueError:
        return None
