"""The middle of several measurements, and how far they lie apart."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import quantiles
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Quartiles of measurements. Half of them lie between the lower and the upper one."""

    median: float
    lower_quartile: float
    upper_quartile: float

    @classmethod
    def of(cls, measured: Sequence[float]) -> Self:
        """The quartiles of one or more measurements."""
        lower, median, upper = quantiles(measured, n=4, method="inclusive") if len(measured) > 1 else [*measured] * 3
        return cls(median=median, lower_quartile=lower, upper_quartile=upper)

    def figures(self, digits: int = 3) -> dict[str, Any]:
        """As the JSON has it."""
        return {name: round(value, digits) for name, value in asdict(self).items()}


def shown(figures: dict[str, Any], form: str = ".2f") -> str:
    """A spread from the JSON as text: median (quartiles), or the one value that all three have."""
    middle, lower, upper = (figures[name] for name in ("median", "lower_quartile", "upper_quartile"))
    if lower == upper:
        return f"{middle:{form}}"
    return f"{middle:{form}} ({lower:{form}}\N{EN DASH}{upper:{form}})"
