"""Relative bounds become numbers: a share of the run, a quantile of its null distribution. Exact, over the whole run, of which a
piece is held."""

from collections.abc import Callable, Iterable
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import ContractViolation
from pipeline.recipe.rules import Rule, Rules, Threshold
from pipeline.vectors import Ints

Values = Callable[[], Iterable[NDArray[np.floating]]]
"""The values of all rows of a run in row-id order, in pieces, anew with each call."""
DIGITS = (20, 22, 22)
"""Bits of a float64 that are settled at a time; the first are its sign, exponent and 1/256 of an octave."""
HELD = 1 << 22
"""Values that are held to be sorted."""
_SIGN = np.uint64(1 << 63)


def relative(rules: Rules) -> dict[str, Rule]:
    """The rules whose bound depends on the run: a share or a quantile."""
    return {name: rule for name, rule in rules.items() if rule.relative}


def resolve(
    rules: Rules, values: Callable[[str], Values], null_similarities: NDArray[np.float32] | None = None
) -> dict[str, Threshold]:
    """A threshold for each relative rule, by the rule's name.

    `values` gives the `readable_values` of the run's column of this name, for `fraction` rules; `null_similarities` (float32
    [pairs]) are the cosines of the run's shuffled pairs, which `null_quantile` needs. Raises ContractViolation where the cosines
    are needed and missing."""
    thresholds = {}
    for name, rule in relative(rules).items():
        if rule.fraction is not None:
            thresholds[name] = top_share(values(rule.column), rule.fraction, rule.ties == "datacomp")
        elif rule.null_quantile is not None:
            thresholds[name] = Threshold(null_threshold(null_similarities, rule.null_quantile))
    return thresholds


def top_share(values: Values, share: float, as_datacomp: bool = False) -> Threshold:
    """The threshold that keeps floor(n x share) of the n readable rows, the highest ones, ties by row. `values` are those of all
    rows, NaN where one is not readable; they are gone through three times, seldom five, and a piece of them is held.

    The product is exact in decimals: 0.29 of 100 rows is 29, not 28. `as_datacomp` gives the value at rank int(n x share) of the
    descending order and lets all its equals through, as the `get_threshold` of DataComp's baselines does (one row more than asked
    for, and ties)."""
    counts = _counted(values, 0, DIGITS[0], (0, 0))
    rows = int(counts.sum())
    if not rows:
        return Threshold(0.0, last_tie=-1)
    if as_datacomp:
        return Threshold(_at_rank(values, counts, min(int(rows * share), rows - 1))[0])
    count = int(rows * Decimal(str(share)))
    value, above = _at_rank(values, counts, max(count - 1, 0))
    return Threshold(value, last_tie=_tie(values, value, count - above) if count else -1)


def _at_rank(values: Values, counts: Ints, rank: int) -> tuple[float, int]:
    """The value at this rank (from 0) of the descending order, and how many are above it; `counts` of all by their first digit.
    Digit after digit of the 64 bits is settled, until few values are left."""
    prefix, done, above = 0, 0, 0
    for digit, following in zip(DIGITS, (*DIGITS[1:], 0), strict=True):
        from_top = np.cumsum(counts[::-1])
        place = int(np.searchsorted(from_top, rank - above, side="right"))
        within = int(counts[len(counts) - 1 - place])
        above += int(from_top[place]) - within
        prefix, done = (prefix << digit) | (len(counts) - 1 - place), done + digit
        if within <= HELD or not following:
            break
        counts = _counted(values, done, following, (prefix, done))
    if done == 64:   # all that are left are equal
        return float(_values_of(np.array([prefix], np.uint64))[0]), above
    left = np.sort(np.concatenate([_begun(_keys(piece), prefix, done) for piece in values()]))[::-1]
    found = left[rank - above]
    return float(_values_of(found[None])[0]), above + int(np.count_nonzero(left > found))


def _tie(values: Values, value: float, number: int) -> int:
    """The row of the `number`th (from 1) row of this value."""
    first_row = 0
    for piece in values():
        ties = np.flatnonzero(piece == value)
        if len(ties) >= number:
            return first_row + int(ties[number - 1])
        number, first_row = number - len(ties), first_row + len(piece)
    raise ContractViolation("the values of a column changed while a threshold was looked for")


def _counted(values: Values, start: int, digit: int, begun: tuple[int, int]) -> Ints:
    """i64 [2^digit]: how many of the values whose keys have begun so (prefix, its bits) have each digit after `start` bits."""
    counts, shift = np.zeros(1 << digit, np.int64), np.uint64(64 - start - digit)
    for piece in values():
        digits = (_begun(_keys(piece), *begun) >> shift) & np.uint64((1 << digit) - 1)
        counts += np.bincount(digits.astype(np.int64), minlength=1 << digit)
    return counts


def _begun(keys: NDArray[np.uint64], prefix: int, bits: int) -> NDArray[np.uint64]:
    return keys[keys >> np.uint64(64 - bits) == np.uint64(prefix)] if bits else keys


def _keys(piece: NDArray[np.floating]) -> NDArray[np.uint64]:
    """Numbers in the order of the values that are readable: the bits of float64, those of negative ones turned round."""
    values = piece[~np.isnan(piece)].astype(np.float64) + 0.0   # -0.0 equals 0.0 and has other bits
    bits = values.view(np.uint64)
    return np.asarray(np.where(bits & _SIGN, ~bits, bits | _SIGN))


def _values_of(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.asarray(np.where(keys & _SIGN, keys ^ _SIGN, ~keys)).view(np.float64)


def null_threshold(similarities: NDArray[np.float32] | None, quantile: float) -> float:
    """The quantile of the null distribution, linear between its values, as float32 like the column it bounds.

    Fewer than two readable samples cannot be shuffled: then the bound is -1, which every similarity meets.
    """
    if similarities is None:
        raise ContractViolation("a null_quantile rule needs the similarities of the run's shuffled pairs")
    if not len(similarities):
        return -1.0
    return float(np.float32(np.quantile(similarities.astype(np.float64), quantile)))


def readable_values(table: pa.Table, name: str) -> NDArray[np.floating]:
    """The values of a column, [n], NaN where a row is not readable: a stage failed (`table` has every `<stage>_error`), or the
    value is null or NaN. float32 where that is the column's type, else float64."""
    column = table[name]
    kind = pa.float32() if pa.types.is_float32(column.type) else pa.float64()
    values = np.array(pc.fill_null(column.cast(kind), np.nan).to_numpy(), kind.to_pandas_dtype())
    for error in table.column_names:
        if error.endswith("_error"):
            values[~np.asarray(table[error].is_null().to_numpy(), bool)] = np.nan
    return values
