"""Compare an answer with the expected one and list the differences."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.conformance.document import Expectation
from app.timestamps import ms_of, rfc3339

_INSTANT = frozenset({"at_ms"})
_BOUNDS = frozenset({"from", "to"})
_MEASURED = "_seconds"
"""Fields with this suffix contain measured time, which may deviate in a replay in real time."""


@dataclass(frozen=True, kw_only=True)
class AnswerDifference:
    """One difference: a JSON pointer, empty for the status, with both values."""

    pointer: str
    expected: object
    actual: object

    def __str__(self) -> str:
        return f"{self.pointer or 'status'}: expected {self.expected!r}, got {self.actual!r}"


@dataclass(kw_only=True)
class Matcher:
    """Fills in requests and compares answers, for one replay of one scenario.

    Args:
        starts_ms: the instant of the scenario's start, ms since 1970.
        names: ids by name; answers add to it.
        tolerance_ms: allowed deviation of measured times and instants.
    """

    starts_ms: int
    names: dict[str, str]
    tolerance_ms: int = 0
    _slack: float = field(init=False)

    def __post_init__(self) -> None:
        self._slack = self.tolerance_ms / 1000

    def filled(self, value: Any) -> Any:  # noqa: ANN401  JSON
        """The request body, with ids and instants in place of the placeholders."""
        if isinstance(value, dict):
            if value.keys() == _INSTANT:
                return rfc3339(self.starts_ms + value["at_ms"])
            return {name: self.filled(part) for name, part in value.items()}
        if isinstance(value, list):
            return [self.filled(part) for part in value]
        return self.names[value] if _is_name(value) else value

    def differences(self, expected: Expectation, *, status: int, body: object) -> list[AnswerDifference]:
        """All differences of an answer. A wrong status is reported alone, because its body has another shape."""
        if status != expected.status:
            code = body.get("code") if isinstance(body, Mapping) else None
            return [AnswerDifference(pointer="", expected=expected.status, actual=f"{status} {code or ''}".strip())]
        return self._compare("", expected.body, body)

    def _compare(self, pointer: str, expected: Any, actual: Any) -> list[AnswerDifference]:  # noqa: ANN401  JSON
        if isinstance(expected, dict) and expected.keys() not in (_INSTANT, _BOUNDS):
            if not isinstance(actual, Mapping):
                return [AnswerDifference(pointer=pointer, expected="an object", actual=actual)]
            parts = [(name, part, actual.get(name, "nothing")) for name, part in expected.items()]
        elif isinstance(expected, list):
            if not isinstance(actual, list) or len(actual) != len(expected):
                return [AnswerDifference(pointer=pointer, expected=expected, actual=actual)]
            parts = [(str(place), part, actual[place]) for place, part in enumerate(expected)]
        elif self._fits(pointer, expected, actual):
            return []
        else:
            return [AnswerDifference(pointer=pointer, expected=expected, actual=self._as_expected(expected, actual))]
        return [found for name, part, value in parts for found in self._compare(f"{pointer}/{name}", part, value)]

    def _fits(self, pointer: str, expected: Any, actual: Any) -> bool:  # noqa: ANN401  JSON
        if isinstance(expected, dict):
            if expected.keys() == _INSTANT:
                offset_ms = self._offset_ms(actual)
                return offset_ms is not None and abs(offset_ms - expected["at_ms"]) <= self.tolerance_ms
            return _is_number(actual) and expected["from"] - self._slack <= actual <= expected["to"] + self._slack
        if _is_name(expected):
            return self._is_named(expected, actual)
        if _is_number(expected) and _MEASURED in pointer:
            return _is_number(actual) and abs(actual - expected) <= self._slack
        return bool(actual == expected) and isinstance(actual, bool) == isinstance(expected, bool)

    def _is_named(self, name: str, actual: object) -> bool:
        """The id with this name. At the first use of a name: any id without a name."""
        if name in self.names:
            return self.names[name] == actual
        if not isinstance(actual, str) or actual in self.names.values():
            return False
        self.names[name] = actual
        return True

    def _offset_ms(self, actual: object) -> int | None:
        """An instant as ms after the start, or None for another value."""
        try:
            return ms_of(datetime.fromisoformat(str(actual))) - self.starts_ms
        except (ValueError, TypeError):
            return None

    def _as_expected(self, expected: Any, actual: object) -> object:  # noqa: ANN401  JSON
        """The actual value in the notation of the expected one, so that a reader can compare both."""
        if isinstance(expected, dict) and expected.keys() == _INSTANT:
            offset_ms = self._offset_ms(actual)
            return actual if offset_ms is None else {"at_ms": offset_ms}
        return actual


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.startswith("$")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
