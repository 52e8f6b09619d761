"""Figures in words, short enough for axes and tables."""

import math

NOTHING = "–"


def count(number: float) -> str:
    """1234.5 is 1,234; below ten one decimal is kept unless it is zero."""
    if math.isnan(number):
        return NOTHING
    if 0 < abs(number) < 10 and number != int(number):
        return f"{number:.1f}"
    return f"{number:,.0f}"


def seconds(value: float | None) -> str:
    """A duration with its unit: 12 ms, 1.3 s, 45 s, 2 min 5 s."""
    if value is None or math.isnan(value):
        return NOTHING
    if value < 0.9995:
        return f"{value * 1e3:.0f} ms"
    if value < 9.95:
        return f"{value:.1f} s"
    if round(value) < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def milliseconds(value: float) -> str:
    """The same of milliseconds; below ten with one decimal."""
    if not math.isnan(value) and value < 9.95:
        return f"{value:.1f} ms"
    return seconds(value / 1e3)


def size(count_bytes: float) -> str:
    """Bytes with a binary unit."""
    if count_bytes < 0:
        return NOTHING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count_bytes < 1024 or unit == "GiB":
            digits = 1 if unit != "B" and count_bytes < 10 and count_bytes % 1 else 0
            return f"{count_bytes:,.{digits}f} {unit}"
        count_bytes /= 1024
    raise AssertionError("unreachable")
