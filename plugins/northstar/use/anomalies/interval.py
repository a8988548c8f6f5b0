"""What a value was expected to be from the values before it, and how rare it is that one lies so far off.

Four simple forecasts of the next value are tried on the past: the level of late, the last value, the last value and its usual step, and (of
days) the level with the day of the week. The one that was least wrong is used. The errors of its trials say how far a value may lie from it:
their largest ones are continued as an exponential tail, so a series that jumps now and then has a wide interval. Counts and shares are
held against pure chance as well (Poisson, binomial): two failures of two payments are no anomaly.

All series of a grain are judged at once, as the rows of matrices.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

# scipy.special is imported when it is used: alerts are evaluated far more often than a version is judged
import scipy

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Scale = Literal["root", "log", "plain"]
PER_YEAR = {"day": 365, "week": 52, "month": 12}
SEASON = {"day": 7, "week": 0, "month": 0}
# the periods that are remembered, and the fewest trials
REMEMBERED = {"day": 56, "week": 26, "month": 24}
FEWEST = {"day": 21, "week": 8, "month": 8}
# the share of the largest errors that the tail is made of; the most that are left out because they were anomalies
TAIL, LEFT_OUT = 0.15, 0.1
# of what is no count, so many errors have to differ from 0: a series that moves now and then cannot be told from one that has changed
MOVING = 0.4
# a value whose like chance makes less often than once in so many years is an anomaly
YEARS = 10.0


@dataclass(frozen=True)
class Basis:
    """How a metric's values spread. scale: on which their errors are alike. is_count: they count things; is_share: 100 times a count by another."""

    scale: Scale
    is_count: bool = False
    is_share: bool = False


@dataclass(frozen=True)
class SeriesMatrix:
    """Series of a grain, a row each, which end with the same period. nan: no value, or before the series began.

    bases: the denominators of ratios and means. begins: the place of each series' first period.
    """

    grain: str
    values: Numbers
    bases: Numbers
    begins: npt.NDArray[np.int64]
    bases_of: list[Basis]


@dataclass(frozen=True)
class Expectations:
    """What values were expected to be, and how often in a year chance makes one that lies as far off; nan where too little is known."""

    expected: Numbers
    low: Numbers
    high: Numbers
    times_a_year: Numbers


def basis_of(kind: str, unit: str, is_nonnegative: bool) -> Basis:
    """The basis of a metric by its kind and unit."""
    if kind in ("sum", "distinct") and unit == "count":
        return Basis("root", is_count=True)
    if unit == "percent" and kind == "ratio":
        return Basis("plain", is_share=True)
    is_amount = unit in ("money", "count") and kind in ("snapshot", "ratio", "mean")
    if is_nonnegative and (is_amount or unit in ("ms", "seconds", "minutes", "hours", "days")):
        return Basis("log")
    return Basis("root" if is_nonnegative and unit == "money" else "plain")


def judge(series: SeriesMatrix, first: int) -> Expectations:
    """The expectations of the columns from `first` on, each made of those before it."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        if first < series.values.shape[1] - 1:
            return _judge(series, first, REMEMBERED[series.grain])
        # anomalies of the past are looked for only where the newest value would be one if the largest errors of the past were
        found = _judge(series, first, 0)
        narrowest = _judge(series, first, 0, is_narrowest=True)
        rows = (narrowest.times_a_year < 2 / YEARS).any(axis=1) | ~np.isfinite(series.values[:, -1])
        if rows.any():
            exact = _judge(_rows(series, rows), first, REMEMBERED[series.grain])
            for name, values in vars(exact).items():
                getattr(found, name)[rows] = values
        return found


def _rows(series: SeriesMatrix, rows: Flags) -> SeriesMatrix:
    bases_of = [basis for basis, is_own in zip(series.bases_of, rows, strict=True) if is_own]
    return SeriesMatrix(series.grain, series.values[rows], series.bases[rows], series.begins[rows], bases_of)


def _judge(series: SeriesMatrix, first: int, warm_up: int, is_narrowest: bool = False) -> Expectations:
    """warm_up: so many periods before `first` are judged as well, for their anomalies. is_narrowest: as if the largest errors were anomalies."""
    grain, (rows, periods) = series.grain, series.values.shape
    scales = np.array([basis.scale for basis in series.bases_of])
    is_count, is_share = (
        np.array([getattr(b, name) for b in series.bases_of], dtype=bool) for name in ("is_count", "is_share")
    )
    scaled = _scaled(series.values, scales)
    weights = np.sqrt(np.where(series.bases > 0, series.bases, 1.0))
    forecasts = _forecasts(scaled, weights, SEASON[grain])
    errors = (scaled - forecasts) * weights
    left_out = np.zeros((rows, periods), dtype=bool)
    found = np.full((4, rows, periods - first), np.nan)
    every = np.arange(rows)
    rare = 1 / (YEARS * PER_YEAR[grain])
    # anomalies of the past widen no interval, so each period is judged in its turn; those before the last that is remembered matter to none
    for t in range(max(1, first - warm_up), periods):
        begin = max(0, t - REMEMBERED[grain])
        own, enough = _best_way(errors[:, :, begin:t], FEWEST[grain])
        sizes, count = _counted(np.abs(errors[own, every, begin:t]), left_out[:, begin:t])
        if is_narrowest:
            sizes, count = _without_largest(sizes, count)
        moves = (sizes > 1e-9).sum(axis=1) >= MOVING * count
        judged = enough & (moves | is_count | is_share)
        expected, weight, value, base = forecasts[own, every, t], weights[:, t], series.values[:, t], series.bases[:, t]
        chance = _chance(np.abs(errors[own, every, t]), sizes, count)
        centre = _unscaled(expected, scales)
        chance = np.maximum(chance, np.where(is_count, _chance_of_count(value, centre), 0.0))
        before = np.nansum(series.bases[:, begin:t], axis=1)
        chance = np.maximum(chance, np.where(is_share, _chance_of_share(value, base, centre, before), 0.0))
        counted = np.where(is_count[:, None], series.values, series.bases)[:, begin:t]
        before_it = (np.arange(begin, t) >= series.begins[:, None]) & ~left_out[:, begin:t]
        absent = _chance_of_none(counted, np.isfinite(series.values[:, begin:t]), before_it)
        chance = np.where(np.isfinite(value), chance, absent)
        chance[~judged | ~np.isfinite(centre)] = np.nan
        left_out[:, t] = chance < rare
        if t >= first:
            far = _limit(sizes, count, rare) / weight
            ends = (
                centre,
                _unscaled(expected - far, scales),
                _unscaled(expected + far, scales),
                chance * PER_YEAR[grain],
            )
            found[:, :, t - first] = [np.where(judged, end, np.nan) for end in ends]
    return Expectations(*found)


def _scaled(values: Numbers, scales: npt.NDArray[np.str_]) -> Numbers:
    by_row = scales[:, None]
    roots, logs = np.sqrt(np.maximum(values, 0) + 0.375), np.log(np.maximum(values, 1e-9))
    return np.where(by_row == "root", roots, np.where(by_row == "log", logs, values))


def _unscaled(values: Numbers, scales: npt.NDArray[np.str_]) -> Numbers:
    squares = np.maximum(np.maximum(values, 0) ** 2 - 0.375, 0)
    return np.where(scales == "root", squares, np.where(scales == "log", np.exp(np.minimum(values, 700)), values))


def _before(values: Numbers, count: int, step: int = 1) -> Numbers:
    """Layer k: the values (k + 1) * step periods before; nan before the first."""
    layers = np.full((count, *values.shape), np.nan)
    for k in range(count):
        shift = (k + 1) * step
        if shift < values.shape[1]:
            layers[k, :, shift:] = values[:, :-shift]
    return layers


def _middle(layers: Numbers, fewest: int, weights: Numbers | None = None) -> Numbers:
    """The mean over the layers without the lowest and the highest value of each place, which may be anomalies."""
    known = np.isfinite(layers)
    count = known.sum(axis=0)
    shares = np.where(known, 1.0 if weights is None else weights, 0.0)
    many = np.where(count >= 5, 0.0, 1.0)[None]
    for ends, pick in ((-np.inf, np.argmax), (np.inf, np.argmin)):
        place = pick(np.where(known, layers, ends), axis=0)[None]
        np.put_along_axis(shares, place, np.take_along_axis(shares, place, 0) * many, 0)
    means = np.where(known, layers * shares, 0.0).sum(axis=0) / shares.sum(axis=0)
    return np.where(count >= fewest, means, np.nan)


def _forecasts(scaled: Numbers, weights: Numbers, season: int) -> Numbers:
    """The forecasts of each value from those before it, one layer for each way; the level first."""
    back = 14 if season else 8
    last = _before(scaled, 1)[0]
    steps = np.diff(scaled, axis=1, prepend=np.nan)
    squares = np.where(np.isfinite(scaled), weights**2, 0.0)
    ways = [_middle(_before(scaled, back), 2, _before(squares, back)), last, last + _middle(_before(steps, back), 3)]
    if season:
        level = _middle(_before(scaled, season), 4)
        ways.append(level + _middle(_before(scaled - level, 6, season), 2))
    return np.array(ways)


def _best_way(errors: Numbers, fewest: int) -> tuple[npt.NDArray[np.int64], Flags]:
    """By row: (the way whose errors were smallest, whether there were enough trials)."""
    sizes = np.sort(np.abs(errors), axis=2)
    count = np.isfinite(sizes).sum(axis=2)
    cap = np.take_along_axis(sizes, np.maximum(0, (0.9 * (count - 1)).astype(int))[:, :, None], 2)
    middles = np.nanmean(np.minimum(sizes, cap), axis=2)
    # another way than the level has to be clearly better
    middles[1:] *= 1.03
    middles[(count < fewest) | ~np.isfinite(middles)] = np.inf
    own = np.argmin(middles, axis=0)
    return own, np.isfinite(np.min(middles, axis=0))


def _counted(sizes: Numbers, left_out: Flags) -> tuple[Numbers, Numbers]:
    """By row: (the sizes of the errors that count, smallest first and nan at the end, how many there are)."""
    known = np.isfinite(sizes)
    lost = (known & left_out).sum(axis=1)
    # where much was an anomaly, it is none
    keeps_all = lost > LEFT_OUT * known.sum(axis=1) + 1
    kept = np.sort(np.where(left_out & ~keeps_all[:, None], np.nan, sizes), axis=1)
    return kept, np.isfinite(kept).sum(axis=1).astype(float)


def _without_largest(sizes: Numbers, count: Numbers) -> tuple[Numbers, Numbers]:
    kept = np.maximum(3, count - np.floor(LEFT_OUT * count + 1))
    return np.where(np.arange(sizes.shape[1]) < kept[:, None], sizes, np.nan), np.minimum(kept, count)


def _tail(sizes: Numbers, count: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """By row: (from where on errors are large, by how much those exceed that on average, how many do)."""
    large = np.minimum(np.maximum(3, np.ceil(TAIL * count)), count)
    place = np.maximum(0, count - large - 1).astype(int)
    begin = np.where(count > large, np.take_along_axis(sizes, place[:, None], 1)[:, 0], 0.0)
    is_large = (np.arange(sizes.shape[1]) >= (count - large)[:, None]) & np.isfinite(sizes)
    beyond = np.where(is_large, sizes - begin[:, None], 0.0).sum(axis=1) / large
    return begin, beyond, large


def _spread(sizes: Numbers, count: Numbers) -> Numbers:
    """By row: the spread of errors, a little wider for being known from few."""
    spread: Numbers = np.sqrt(np.nansum(sizes**2, axis=1) / count * (1 + 1 / count))
    return spread


def _chance(size: Numbers, sizes: Numbers, count: Numbers) -> Numbers:
    """How likely an error of this size is, by those of the past: by Student's t of their spread or by their tail, whichever says likelier."""
    by_spread = 2 * scipy.special.stdtr(count - 1, -size / _spread(sizes, count))
    begin, beyond, large = _tail(sizes, count)
    by_tail = np.where(size <= begin, 1.0, np.where(beyond > 0, large / count * np.exp(-(size - begin) / beyond), 0.0))
    chance: Numbers = np.where(
        np.nanmax(np.nan_to_num(sizes), axis=1) > 0, np.maximum(by_spread, by_tail), (size == 0).astype(float)
    )
    return chance


def _limit(sizes: Numbers, count: Numbers, chance: float) -> Numbers:
    """By row: the size of an error that is as rare as `chance`."""
    by_spread = -_spread(sizes, count) * scipy.special.stdtrit(count - 1, chance / 2)
    begin, beyond, large = _tail(sizes, count)
    limit: Numbers = np.maximum(by_spread, begin + beyond * np.log(np.maximum(1.0, large / count / chance)))
    return limit


def _chance_of_count(value: Numbers, expected: Numbers) -> Numbers:
    """How likely chance alone makes a count at least as far from what was expected (Poisson)."""
    rate = expected + 0.5
    chance: Numbers = 2 * np.minimum(
        scipy.special.pdtr(np.floor(value), rate),
        np.where(value >= 1, scipy.special.pdtrc(np.ceil(value) - 1, rate), 1.0),
    )
    return chance


def _chance_of_share(value: Numbers, base: Numbers, expected: Numbers, base_before: Numbers) -> Numbers:
    """How likely chance alone makes a share of so many at least as far from what was expected (binomial); 0 for what is no share of a count.

    The expectation was counted too: of a base of b before it, half a thing more or less is what nobody knows.
    """
    of = np.floor(base)
    rate = np.clip((expected / 100 * base_before + 0.5) / (base_before + 1), 1e-9, 1 - 1e-9)
    hits = np.clip(np.round(value / 100 * of), 0, of)
    chance = 2 * np.minimum(
        scipy.special.bdtr(hits, of, rate), np.where(hits >= 1, scipy.special.bdtrc(hits - 1, of, rate), 1.0)
    )
    return np.where((of >= 1) & (value >= 0) & (value <= 100), chance, 0.0)


def _chance_of_none(counted: Numbers, has_value: Flags, before_it: Flags) -> Numbers:
    """How likely chance leaves a period without a value: as often as it did before; where it never did, from how much there was at the least.

    counted: how much there was. before_it: the periods that count.
    """
    periods, absent = before_it.sum(axis=1), (before_it & ~has_value).sum(axis=1)
    few = np.nanquantile(np.where(before_it, counted, np.nan), 0.1, axis=1)
    # what comes comes in clusters: half as many count
    return np.where((absent > 0) | ~np.isfinite(few), (absent + 1) / (periods + 1), np.exp(-few / 2))
