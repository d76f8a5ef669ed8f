"""Whether a learner's options are numbers of their range; asked when it is fitted."""

from __future__ import annotations

import math

from mvp.errors import ConfigError


def require_number(
    option: str,
    value: object,
    least: float,
    most: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> None:
    """Refuse a value that is no number of a range, NaN and infinity among them.

    Args:
        option: its name.
        value: what it was set to.
        least: the least value; where it is written as a whole number, `value` must be one.
        most: the greatest value.
        above: `least` itself is not in the range.
        below: `most` itself is not in the range.

    Raises:
        ConfigError: `value` is another number, or none.
    """
    whole = isinstance(least, int)
    kind = int if whole else int | float
    # Written so that NaN is refused.
    if (
        isinstance(value, kind)
        and not isinstance(value, bool)
        and (least < value if above else least <= value)
        and (value < most if below or most == math.inf else value <= most)
    ):
        return
    number = "a whole number" if whole else "a number"
    start = "above" if above else "from"
    end = f" to {'below ' * below}{most:g}" if math.isfinite(most) else "" if above else " on"
    raise ConfigError(f"{option} is {value!r}, expected {number} {start} {least:g}{end}")
