"""A first mapping for files of unknown make: what they are told by, and how sure each guess is.

`guess` writes it: a file with a recognised export's header gets that export's mapping, any other the entity that its columns fit best, by
their names (northstar.extract.landing.likeness) and by their values. `guess_patterns` and `guess_currency` look at values alone. A guess is
only made where the values allow it: dates that cannot all be read with one order of day and month have no pattern.
"""

import glob
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import yaml

from northstar.base.errors import NorthstarError
from northstar.contract import Column, Entity, entities
from northstar.contract.codes import COUNTRIES, CURRENCIES
from northstar.extract.landing.engine import literal, quoted
from northstar.extract.landing.likeness import BOOLEANS, likeness, meant, words
from northstar.extract.landing.mapping import MAPPING_FILE, read_mapping
from northstar.extract.landing.recognised import recognise
from northstar.extract.landing.sample import Sample, sample
from northstar.extract.landing.short_form import Spec
from northstar.extract.sources.files import list_files

# how many values of a column are looked at
LOOKED_AT = 1_000
# the share of the values that a guess has to explain; the others may be blanks of a kind ("n/a")
ENOUGH = 0.9
MONTH = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|january|february|march|april|june|july|august|september|october|november|december)"
# dates as they are written, and the patterns that may be meant: the order of day and month is told by other values of the column
DATES = [
    (r"(?P<year>\d{4})(?P<mark>[-/.])\d{1,2}(?P=mark)\d{1,2}", ["%Y{mark}%m{mark}%d"]),
    (r"\d{1,2}(?P<mark>[-/. ])\d{1,2}(?P=mark)(?P<year>\d{4})", ["%d{mark}%m{mark}%Y", "%m{mark}%d{mark}%Y"]),
    (r"\d{1,2}(?P<mark>[-/.])\d{1,2}(?P=mark)\d{2}", ["%d{mark}%m{mark}%y", "%m{mark}%d{mark}%y"]),
    (rf"\d{{1,2}}(?P<dot>\.?)(?P<mark>[-/ ]){MONTH}(?P<comma>[., ]?)(?P<mark2>[-/ ]?)(?P<year>\d{{4}})", ["%d{dot}{mark}{month}{comma}{mark2}%Y"]),
    (rf"\d{{1,2}}(?P<dot>\.?)(?P<mark>[-/ ]){MONTH}(?P<mark2>[-/ ])\d{{2}}", ["%d{dot}{mark}{month}{mark2}%y"]),
    (rf"{MONTH}(?P<mark> )\d{{1,2}}(?P<comma>,? )(?P<year>\d{{4}})", ["{month}{mark}%d{comma}%Y"]),
    (r"(?P<year>(?:19|20)\d{2})(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])", ["%Y%m%d"]),
]  # fmt: skip
WEEKDAY = r"(?:(?P<weekday>(?:mon|tue|wed|thu|fri|sat|sun)|(?:mon|tues|wednes|thurs|fri|satur|sun)day)(?P<after>,? ))?"
TIME = r"(?:(?P<gap>T| at |, | {1,2})(?:(?P<hour>\d{1,2}):\d{2}(?P<seconds>:\d{2})?(?P<fraction>\.\d{1,9})?|(?P<compact>\d{6}))(?P<half>(?P<space> ?)[ap]m)?)?"
ZONE = r"(?P<zone>Z| ?[+-]\d{2}(?::?\d{2})?| (?:UTC|GMT))?"
FORMS = [(re.compile(f"{WEEKDAY}{date}{TIME}{ZONE}", re.IGNORECASE), patterns) for date, patterns in DATES]

SIGNS = {
    "US$": "USD", "CA$": "CAD", "C$": "CAD", "AU$": "AUD", "A$": "AUD", "NZ$": "NZD", "HK$": "HKD", "R$": "BRL", "MX$": "MXN", "S$": "SGD",
    "€": "EUR", "£": "GBP", "$": "USD", "¥": "JPY", "₹": "INR", "₩": "KRW", "zł": "PLN", "Kč": "CZK", "₺": "TRY", "₽": "RUB", "₪": "ILS",
    "₫": "VND", "₱": "PHP", "฿": "THB", "₴": "UAH", "₦": "NGN",
}  # fmt: skip
CURRENCY = re.compile(
    r"(?<![A-Za-z])([A-Za-z]{3})(?![A-Za-z])|" + "|".join(re.escape(s) for s in sorted(SIGNS, key=len, reverse=True))
)


def guess_patterns(values: Iterable[str]) -> list[str]:
    """The patterns, as `parse:` of a mapping takes them, with which nearly all of the values can be read; that of the most values first.

    [] where there are none: the values are no dates, they need a locale, or some can only have the day first and others only the month.
    A column that may have either order is given the order that fits better; `both_orders` tells that it is so.
    """
    texts = _filled(values)
    found = [_patterns_of(text) for text in texts]
    if not texts or sum(map(bool, found)) < ENOUGH * len(texts):
        return []
    day_first, month_first = (_is_possible(found, order) for order in ("%d%m", "%m%d"))
    if not (day_first or month_first):
        return []
    preferred = "%d%m" if not month_first or (day_first and _prefers_day_first(texts, found)) else "%m%d"
    count = Counter(_in_order(patterns, preferred) for patterns in found if patterns)
    # %Y takes two digits for a year of the first century, where %y refuses four
    return sorted(count, key=lambda pattern: ("%Y" in pattern, -count[pattern], pattern))


def both_orders(values: Iterable[str]) -> bool:
    """Whether nothing in the values says if the day or the month stands first."""
    found = [patterns for patterns in map(_patterns_of, _filled(values)) if patterns]
    return any(len(p) > 1 for p in found) and all(_is_possible(found, order) for order in ("%d%m", "%m%d"))


def guess_currency(values: Iterable[str]) -> str | None:
    """The ISO 4217 code that nearly all of the values are, or carry as a code or a sign; None where there is none, or more than one.

    A bare $ is taken for the US dollar, and ¥ for the yen.
    """
    texts = _filled(values)
    named = Counter(code for code in map(_currency_of, texts) if code)
    if len(named) != 1 or named.total() < ENOUGH * len(texts):
        return None
    return next(iter(named))


def _currency_of(text: str) -> str | None:
    for match in CURRENCY.finditer(text):
        code = SIGNS.get(match[0]) or match[0].upper()
        if code in CURRENCIES:
            return code
    return None


def _filled(values: Iterable[str]) -> list[str]:
    return [text for value in values if value is not None and (text := value.strip())][:LOOKED_AT]


def _patterns_of(text: str) -> list[str]:
    """The patterns with which a text is a date that exists: one, two where day and month may change places, or none."""
    for form, patterns in FORMS:
        match = form.fullmatch(text)
        if not match:
            continue
        parts = {name: part or "" for name, part in match.groupdict().items()}
        if parts.get("month"):
            parts["month"] = "%b" if len(parts["month"]) == 3 else "%B"
        weekday = f"{'%a' if len(parts['weekday']) == 3 else '%A'}{parts['after']}" if parts["weekday"] else ""
        written = [weekday + pattern.format(**parts) + _time(parts) + _zone(parts["zone"]) for pattern in patterns]
        return [pattern for pattern in written if _exists(text, pattern)]
    return []


def _time(parts: dict[str, str]) -> str:
    if parts["compact"]:
        return f"{parts['gap']}%H%M%S"
    if not parts["hour"]:
        return ""
    fraction = "" if not parts["fraction"] else ".%f" if len(parts["fraction"]) <= 7 else ".%n"
    hour, half = ("%I", f"{parts['space']}%p") if parts["half"] else ("%H", "")
    return f"{parts['gap']}{hour}:%M{':%S' if parts['seconds'] else ''}{fraction}{half}"


def _zone(zone: str) -> str:
    if not zone or zone.strip().upper() in ("Z", "UTC", "GMT"):
        # a letter of the pattern: times without an offset are taken for UTC
        return zone
    return f"{' ' if zone.startswith(' ') else ''}%z"


def _exists(text: str, pattern: str) -> bool:
    if ".%n" in pattern:
        text, pattern = re.sub(r"(\.\d{6})\d{1,3}", r"\1", text), pattern.replace("%n", "%f")
    try:
        datetime.strptime(text, pattern)
    except ValueError:
        return False
    return True


def _order(pattern: str) -> str:
    return "".join(re.findall("%[dm]", pattern)[:2])


def _is_possible(found: list[list[str]], order: str) -> bool:
    """Whether every date that has the day or the month first can be read in an order."""
    orders = [{_order(p) for p in patterns} for patterns in found if patterns and re.search("%d.%m.%[yY]|%m.%d.%[yY]", patterns[0])]  # fmt: skip
    return all(order in possible for possible in orders)


def _in_order(patterns: list[str], order: str) -> str:
    return next((pattern for pattern in patterns if _order(pattern) == order), patterns[0])


def _prefers_day_first(texts: list[str], found: list[list[str]]) -> bool:
    """Whether the day stands first, where both are possible: months repeat more than days do, then a dot or a dash speaks for it, then no am or pm."""
    parts = [re.split(r"[-/. ]", text)[:2] for text, patterns in zip(texts, found, strict=True) if len(patterns) > 1]
    first, second = (len({part[place] for part in parts}) for place in (0, 1))
    if first != second:
        return first > second
    return not any("/" in text and text.lower().endswith("m") for text in texts)


# a name is taken for a column's from this likeness on; below SURE it is said to be a guess
LIKE, SURE = 0.35, 0.8
# an entity is taken from this share of its required columns on
FITTING = 0.5
# from this share of the best one's likeness on, the second entity is named as well
NEARLY = 0.9
# how many files of a folder are looked at before one pattern is taken for all; and endings that are no data
MANY_FILES, NO_DATA = 20, {".yml", ".yaml", ".md", ".pdf", ".py", ".sql"}
# the most values of a column that are written down as a value map
MOST_VALUES = 50
# what is taken for a required column that no column of the file is like
CONSTANTS = {
    ("accounts", "account_type"): "customer",
    ("charges", "status"): "succeeded",
    ("refunds", "status"): "succeeded",
    ("tickets", "status"): "open",
    ("subscriptions", "interval_count"): "1",
    ("subscriptions", "quantity"): "1",
}


@dataclass
class _Line:
    """A line of a mapping's `columns`. how: the value as it is written; None: the line is left out, and only its note is written."""

    column: str
    how: str | None
    note: str = ""


@dataclass
class _Group:
    """Files with the same columns, written in the same way."""

    sample: Sample
    paths: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)


def guess(directory: Path) -> str:
    """A first mapping for the files below a directory, as YAML. Raises NorthstarError where there are none, or none that fits anything."""
    if not directory.is_dir():
        raise NorthstarError(f"no directory {directory}")
    groups = _groups(directory)
    if not groups:
        raise NorthstarError(f"{directory}: no files; give a directory that holds some")
    inputs: dict[str, list[str]] = {}
    left_out = []
    for number, group in enumerate(groups, start=1):
        written = {} if group.sample.problem else _recognised(group, number) or _fitted(group, number)
        for entity, texts in written.items():
            inputs.setdefault(entity, []).extend(texts)
        if not written:
            why = (
                group.sample.problem
                or f"nothing in the contract fits its columns ({', '.join(group.sample.columns)[:300]})"
            )
            left_out.append(f"# {', '.join(group.paths)}: left out: {_one_line(why)}")
    if not inputs:
        raise NorthstarError(f"{directory}: nothing could be guessed; {left_out[0].removeprefix('# ')}")
    lines = [
        "# A first mapping, made of the files' names, columns and first rows by `northstar mapping guess`. Read the comments, then look at",
        "# what it makes of a file with `northstar mapping preview FILE --mapping THIS`, before `northstar run --mapping THIS`.",
        *left_out,
        "entities:",
    ]
    for entity, texts in inputs.items():
        lines += [f"  {entity}:", *texts]
    text = "\n".join(lines) + "\n"
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / MAPPING_FILE
        path.write_text(text, encoding="utf-8")
        read_mapping(place, path)
    return text


def _groups(directory: Path) -> list[_Group]:
    """The files below a directory, those together that have the same columns and are written in the same way."""
    folders: dict[tuple[Path, str], list[str]] = {}
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        relative = path.relative_to(directory)
        if path.suffix not in NO_DATA and not any(part.startswith(("_", ".")) for part in relative.parts):
            folders.setdefault((relative.parent, "".join(path.suffixes[-2:])), []).append(str(relative))
    groups: dict[str, _Group] = {}
    for (folder, suffix), paths in folders.items():
        sampled: dict[str, _Group] = {}
        for path_text in paths if len(paths) <= MANY_FILES else paths[:MANY_FILES]:
            _add(sampled, directory, path_text)
        if len(paths) > MANY_FILES and len(sampled) == 1:
            # they are alike, and one pattern is about all of them
            [(key, group)] = sampled.items()
            alike = glob.escape(str(folder)) + "/" if folder.parts else ""
            group.patterns = [f"{alike}*{glob.escape(suffix)}"]
        else:
            for path_text in paths[MANY_FILES:]:
                _add(sampled, directory, path_text)
        for key, group in sampled.items():
            known = groups.setdefault(key, _Group(group.sample))
            known.paths += group.paths
            known.patterns += group.patterns
    return list(groups.values())


def _add(groups: dict[str, _Group], directory: Path, path: str) -> None:
    for file in list_files(str(directory), glob.escape(path), None, any_ending=True):
        found = sample(file)
        key = json.dumps(
            [sorted(found.columns), found.spec, Path(file.path).suffix, found.problem and file.path], default=str
        )
        group = groups.setdefault(key, _Group(found))
        group.paths.append(file.path)
        group.patterns.append(glob.escape(file.path))


def _recognised(group: _Group, number: int) -> dict[str, list[str]]:
    """{entity: inputs as YAML} of a recognised export; {} for other files."""
    found = recognise(list(group.sample.columns), Path(group.paths[0]).name)
    if found is None:
        return {}
    written: dict[str, list[str]] = {}
    for place, (entity, declared) in enumerate(found.inputs(), start=1):
        own = {"name": f"{found.name}_{number}_{place}", "files": _patterns(group)}
        spec: Spec = {**own, **group.sample.spec, **declared, **own}
        text = yaml.dump([spec], Dumper=_Readable, sort_keys=False, allow_unicode=True, width=1000)
        note = f"# {', '.join(group.paths)[:200]}: told by its header as the export {found.name}; mappings/{found.name}.yml says what it cannot give"
        written.setdefault(entity, []).extend(f"    {line}" for line in [_one_line(note), *text.splitlines()])
    return written


class _Readable(yaml.SafeDumper):
    """Writes texts of several lines as they stand."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text_node)


def _fitted(group: _Group, number: int) -> dict[str, list[str]]:
    """{entity: an input as YAML} of the entity that the columns fit best; {} where none does."""
    about = words(Path(group.paths[0]).name.partition(".")[0]) | words(str(Path(group.paths[0]).parent))
    scored = []
    for entity in entities().values():
        columns = _assigned(entity, group.sample)
        is_named = words(entity.name) & about or any(_named_value(c, about) for c in entity.columns.values())
        score = _score(entity, columns) + (0.4 if is_named else 0)
        scored.append((score, entity, columns))
    scored.sort(key=lambda one: -one[0])
    best_score, best, best_columns = scored[0]
    required = [c for c in best.columns.values() if c.required]
    has_time = any(best.columns[name].type == "timestamp" for name in best_columns)
    found = [
        c for c in required if c.name in best_columns or (c.type == "timestamp" and has_time) or _named_value(c, about)
    ]
    if not best_columns or len(found) < FITTING * min(len(required), 3):
        return {}
    lines = _lines(best, group.sample, best_columns, about)
    sure = sum(score >= SURE for _, score in best_columns.values())
    texts = [
        f"# {_one_line(', '.join(group.paths))[:200]}: {best.name}; columns told by their names: {sure}, guessed: {len(best_columns) - sure}",
        *([f"# nearly as like: {scored[1][1].name}"] if scored[1][0] > NEARLY * best_score else []),
        *(f"# {note}" for note in group.sample.notes),
        f"- name: files_{number}",
        f"  files: {_written(_patterns(group))}",
        *(f"  {key}: {_written(value)}" for key, value in group.sample.spec.items()),
        "  columns:",
    ]
    for line in lines:
        note = f"  # {_one_line(line.note)}" if line.note else ""
        texts.append(f"    # {line.column}:{note}" if line.how is None else f"    {line.column}: {line.how}{note}")
    used = {name for name, _ in best_columns.values()}
    unused = [name for name in group.sample.columns if name not in used]
    if unused:
        texts.append(f"    # not used: {_one_line(', '.join(unused))}")
    return {best.name: [f"    {text}" for text in texts]}


def _patterns(group: _Group) -> str | list[str]:
    return group.patterns[0] if len(group.patterns) == 1 else group.patterns


def _score(entity: Entity, columns: dict[str, tuple[str, float]]) -> float:
    """How well an entity's columns are found: required ones count twice."""
    weights = {c.name: 2.0 if c.required else 0.5 for c in entity.columns.values()}
    needed = sum(weight for weight in weights.values() if weight == 2.0)
    return sum(weights[name] * likely for name, (_, likely) in columns.items()) / (needed + 1)


def _assigned(entity: Entity, found: Sample) -> dict[str, tuple[str, float]]:
    """{contract column: (the file's column, how likely)}; each of the file's is used once."""
    pairs = []
    for column in entity.columns.values():
        for name, values in found.columns.items():
            likely = likeness(name, column, entity)
            if likely:
                fit = _fit(column, [v for v in values if v], found)
                # values that do not fit are no reason to leave out a column of exactly this name
                pairs.append((max(likely * fit, 0.5 if name == column.name else 0), column.name, name))
    assigned: dict[str, tuple[str, float]] = {}
    used: set[str] = set()
    for likely, wanted, name in sorted(pairs, key=lambda pair: -pair[0]):
        if likely >= LIKE and wanted not in assigned and name not in used:
            assigned[wanted] = (name, likely)
            used.add(name)
    return assigned


def _fit(column: Column, values: list[str], found: Sample) -> float:
    """How far values are of a column's type: 1 where they are, less where they can hardly be."""
    if not values:
        return 0.6
    if column.type in ("timestamp", "date"):
        return (
            1.0 if _epoch(values) or _is_iso(values) or guess_patterns(values) else 0.4 if _has_dates(values) else 0.0
        )
    if column.type in ("int", "decimal"):
        return 1.0 if sum(_is_number(v) for v in values) >= ENOUGH * len(values) else 0.0
    if column.type == "bool":
        return 1.0 if all(v.lower() in BOOLEANS for v in values) else 0.1
    if column.type == "json":
        return 1.0 if values[0].lstrip().startswith("{") else 0.1
    if column.values:
        distinct = set(values)
        return 1.0 if any(meant(v, column.values) for v in distinct) else 0.3 if len(distinct) <= MOST_VALUES else 0.0
    if column.name == "currency":
        return 1.0 if guess_currency(values) or all(len(v.strip()) == 3 for v in values) else 0.2
    if column.code == "country":
        return 1.0 if all(v.strip().upper() in COUNTRIES for v in values) else 0.3
    return 0.5 if guess_patterns(values[:50]) else 1.0


def _named_value(column: Column, about: frozenset[str]) -> str | None:
    """The allowed value of a column that the file's name has, such as nps."""
    return next((value for value in column.values or () if value in about), None)


def _lines(entity: Entity, found: Sample, assigned: dict[str, tuple[str, float]], about: frozenset[str]) -> list[_Line]:
    lines = []
    currency = _currency(found, assigned)
    for column in entity.columns.values():
        if column.name in assigned:
            name, likely = assigned[column.name]
            line = _line(column, name, [v for v in found.columns[name] if v], found, currency)
            if likely < SURE and line.how is not None:
                line.note = "; ".join(filter(None, [f"a guess ({likely:.0%} alike)", line.note]))
            lines.append(line)
        elif column.required or column.name == "currency":
            named = _named_value(column, about)
            if named:
                lines.append(_Line(column.name, f"{{constant: {named}}}", "told by the file's name"))
            else:
                lines.append(_missing(entity, column, found, assigned, currency))
    return lines


def _missing(
    entity: Entity, column: Column, found: Sample, assigned: dict[str, tuple[str, float]], currency: str | None
) -> _Line:
    """A line for a required column that no column of the file is like."""
    constant = CONSTANTS.get((entity.name, column.name))
    if column.name == "currency" and currency and currency.startswith("'"):
        return _Line(column.name, f"{{constant: {currency.strip(chr(39))}}}", "told by the amounts' sign")
    if constant is not None:
        return _Line(column.name, f"{{constant: {constant}}}", "no column says it: this is taken for all rows")
    times = [name for name in entity.columns if name in assigned and entity.columns[name].type == "timestamp"]
    if column.type == "timestamp" and times:
        name = assigned[times[0]][0]
        line = _line(column, name, [v for v in found.columns[name] if v], found, currency)
        return _Line(column.name, line.how, f"no column of its own: that of {times[0]}")
    if entity.key == (column.name,):
        return _Line(
            column.name,
            "{sql: \"_file || ' ' || _line\"}",
            "no column is an id: file and line, so a row that comes again in another file counts twice",
        )
    return _Line(column.name, None, "required, and no column is like it: rows go to quarantine until it is written")


def _line(column: Column, name: str, values: list[str], found: Sample, currency: str | None) -> _Line:
    written = _written(name)
    if column.type in ("timestamp", "date"):
        return _time_line(column, name, values)
    if column.type == "int" and "amount" in column.name:
        return _amount(column, name, values, currency)
    if column.type in ("int", "decimal") and (found.decimal != "." or any("," in v for v in values)):
        return _Line(column.name, _sql(f"number({quoted(name)})"))
    if column.type == "decimal" and "amount" in column.name:
        return _amount(column, name, values, currency)
    if column.values:
        return _value_map(column, written, values)
    if column.name == "currency" and any(v.strip().upper() not in CURRENCIES for v in values):
        known = {v: _currency_of(v) for v in sorted(set(values))[:MOST_VALUES]}
        return _Line(column.name, f"{{column: {written}, map: {_written(known)}, default: null}}")
    if column.code == "country" and not any(v.strip().upper() in COUNTRIES for v in values):
        return _Line(
            column.name,
            None,
            f"{name} has names, not two-letter codes: write {{column: {name}, map: {{Germany: DE}}, default: null}}",
        )
    return _Line(column.name, written)


def _time_line(column: Column, name: str, values: list[str]) -> _Line:
    written = _written(name)
    if _is_iso(values):
        return _Line(column.name, written)
    unit = _epoch(values)
    if unit:
        return _Line(
            column.name,
            _sql(f"to_timestamp(number({quoted(name)}){' / 1000' if unit == 1000 else ''})"),
            "seconds since 1970" if unit == 1 else "milliseconds since 1970",
        )
    patterns = guess_patterns(values)
    if not patterns:
        example = next(iter(values), "")
        return _Line(
            column.name,
            None,
            f"{name}: no one pattern reads its dates, such as {example!r}; days and months may be in both orders",
        )
    note = "no zone in the file: UTC is taken" if column.type == "timestamp" and "%z" not in patterns[0] else ""
    if both_orders(values):
        order = (
            "the day" if "%d" in patterns[-1] and patterns[-1].index("%d") < patterns[-1].index("%m") else "the month"
        )
        note = f"day and month could be the other way round: {order} is taken to stand first; " + note
    zone = ", timezone: UTC" if column.type == "timestamp" else ""
    return _Line(column.name, f"{{column: {written}, parse: {_written(patterns)}{zone}}}", note.removesuffix("; "))


def _amount(column: Column, name: str, values: list[str], currency: str | None) -> _Line:
    plain = quoted(name)
    if any(not _is_plain_number(v) for v in values):
        # a currency's code or sign, and blanks
        plain = f"regexp_replace({plain}, '[^0-9.,+-]', '', 'g')"
    if words(name) & {"cent", "minor", "pence"}:
        return _Line(column.name, _sql(f"number({plain})"), "told by its name to be in minor units")
    if currency is None:
        return _Line(column.name, _sql(f"number({plain}) * 100"), "the currency is not known: hundredths are taken")
    note = (
        ""
        if any(re.search(r"[.,]\d{1,2}\D*$", v) for v in values)
        else "whole numbers: taken for major units; write number() where they are cents"
    )
    return _Line(column.name, _sql(f"minor_units({plain}, {currency})"), note)


def _currency(found: Sample, assigned: dict[str, tuple[str, float]]) -> str | None:
    """The SQL of the currency: a column, or a constant that the values of an amount tell."""
    if "currency" in assigned:
        return quoted(assigned["currency"][0])
    for column, (name, _) in assigned.items():
        if "amount" in column:
            code = guess_currency(v for v in found.columns[name] if v)
            if code:
                return literal(code)
    return None


def _value_map(column: Column, written: str, values: list[str]) -> _Line:
    assert column.values
    counts = Counter(values)
    if set(counts) <= set(column.values):
        return _Line(column.name, written)
    known = {value: meant(value, column.values) for value, _ in counts.most_common(MOST_VALUES)}
    unmatched = [value for value, target in known.items() if target is None]
    note = f"not told, so null: {', '.join(unmatched)[:200]}; allowed: {', '.join(column.values)}" if unmatched else ""
    return _Line(column.name, f"{{column: {written}, map: {_written(known)}, default: null}}", note)


def _sql(text: str) -> str:
    return "{sql: " + _written(text) + "}"


def _is_iso(values: list[str]) -> bool:
    """Whether the values are times that the contract takes as they are."""
    return all(
        re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)", v.strip()) for v in values
    )


def _epoch(values: list[str]) -> int | None:
    """1 for seconds since 1970, 1000 for milliseconds; None for other values."""
    for unit, digits in ((1, 10), (1000, 13)):
        if all(re.fullmatch(rf"1\d{{{digits - 1}}}(\.\d+)?", v.strip()) for v in values):
            return unit
    return None


def _has_dates(values: list[str]) -> bool:
    return sum(bool(_patterns_of(v.strip())) for v in values) >= ENOUGH * len(values)


def _is_plain_number(value: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[\d.,]*\d[\d.,]*", value.strip()))


def _is_number(value: str) -> bool:
    bare = re.sub(r"[A-Za-z]{3}|[^\w.,+-]", "", value)
    return _is_plain_number(bare) and not _patterns_of(value.strip())


def _written(value: object) -> str:
    """A value as YAML in one line, in which nothing is invisible."""
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(value, ensure_ascii=False))


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
