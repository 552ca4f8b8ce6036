"""Numbers as a reader wants them: few digits, a unit, thin blanks."""

from __future__ import annotations

import math

#: Narrow no-break space: stands between a number and its unit and between thousands.
THIN = "\u202f"
MINUS = "\u2212"
NOTHING = "–"


def percent(share: float | None, *, digits: int = 1) -> str:
    """Return a share (0 to 1) as ``51.7 %``."""
    if not is_number(share):
        return NOTHING
    return f"{_signed(100 * float(share), digits)}{THIN}%"


def decimal(value: float | None, *, digits: int = 3) -> str:
    """Return a number with a fixed count of decimals and a true minus sign."""
    if not is_number(value):
        return NOTHING
    return _signed(float(value), digits)


def count(value: float | None) -> str:
    """Return a whole number with thin blanks between thousands."""
    if not is_number(value):
        return NOTHING
    return f"{round(float(value)):,}".replace(",", THIN).replace("-", MINUS)


def quantity(value: float | None) -> str:
    """Return a number with about three significant digits, whatever its size."""
    if not is_number(value):
        return NOTHING
    number = float(value)
    if number == 0:
        return "0"
    if number == int(number) and abs(number) < 1e9:
        return count(number)
    if 1e-3 <= abs(number) < 1e5:
        digits = max(0, 2 - math.floor(math.log10(abs(number))))
        return count(number) if digits == 0 else _signed(number, digits)
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa.replace('-', MINUS)}{THIN}×{THIN}10^{int(exponent)}".replace(
        "^-", "^" + MINUS
    )


def plain(value: float) -> str:
    """Return a number as somebody would have typed it: 0.01, 2.5, 10 000."""
    return count(value) if float(value).is_integer() else f"{value:g}".replace("-", MINUS)


def p_value(p: float | None, *, n_permutations: float | None = None) -> str:
    """Return a p-value as ``< 0.001`` or ``= 0.012``, with its sign.

    A permutation test cannot give less than 1 / (n_permutations + 1); a p at that floor is
    written as a bound.
    """
    if not is_number(p):
        return NOTHING
    value = float(p)
    if value < 0.001:
        return f"<{THIN}0.001"
    if is_number(n_permutations) and value <= 1.0 / (float(n_permutations) + 1) * (1 + 1e-9):
        return f"≤{THIN}{value:.3f}"
    return f"={THIN}{value:.3f}" if value < 0.9995 else f"={THIN}1"


def duration(seconds: float | None) -> str:
    """Return seconds as ``0.4 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if not is_number(seconds):
        return NOTHING
    value = float(seconds)
    if value < 9.95:
        return f"{value:.1f}{THIN}s"
    whole = round(value)
    if whole < 60:
        return f"{whole}{THIN}s"
    if whole < 3600:
        return f"{whole // 60}{THIN}min {whole % 60:02d}{THIN}s"
    minutes = round(value / 60)
    return f"{minutes // 60}{THIN}h {minutes % 60:02d}{THIN}min"


def megabytes(value: float | None) -> str:
    """Return megabytes as ``830 MB`` or ``1.4 GB``."""
    if not is_number(value):
        return NOTHING
    size = float(value)
    return f"{size / 1024:.1f}{THIN}GB" if size >= 1024 else f"{size:.0f}{THIN}MB"


def is_number(value: object) -> bool:
    """Tell whether a value is a finite number (None, NaN, text and infinity are not)."""
    if isinstance(value, bool) or value is None:
        return False
    try:
        return math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def number_or_nan(value: object) -> float:
    """Return a finite number as it is, and NaN for everything else."""
    return float(value) if is_number(value) else float("nan")  # type: ignore[arg-type]


def _signed(number: float, digits: int) -> str:
    text = f"{number:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)
