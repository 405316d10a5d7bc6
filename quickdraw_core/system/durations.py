"""Lengths of time as people write them: `30d`, `12h`, `1d12h`."""

import re

_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)([wdhms])")


_YEARS = 100
_LONGEST = _YEARS * 366 * _UNITS["d"]


def seconds_of(text: str) -> float:
    """Seconds of a length of time. Raises `ValueError` for another form, and for one that no date
    is that far away of.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("must be a number and a unit (w, d, h, m, s), as 30d, 12h or 1d12h")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds > _LONGEST:
        raise ValueError(f"must be {_YEARS} years at most, as 5200w")
    return seconds


def in_words(seconds: float) -> str:
    """A length of time in its largest unit, rounded down: `45 d`, `3 h`, `10 min`."""
    for unit, name in (("d", "d"), ("h", "h"), ("m", "min")):
        if seconds >= _UNITS[unit]:
            return f"{seconds // _UNITS[unit]:,.0f} {name}"
    return f"{max(seconds, 0):.0f} s"
