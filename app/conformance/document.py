"""The published document: scenarios with what is sent and what must be answered. ``docs/conformance.md`` explains it.

Values in ``send`` and ``expect`` are JSON, with three stand-ins: ``"$name"`` for an id that the service made up,
``{"at_ms": n}`` for the instant ``n`` ms after the scenario's start, ``{"from": a, "to": b}`` for any number between.
"""

from typing import Any, Literal

import msgspec

FORMAT = 1
CHILD = "$child"
"""The profile of a scenario, in what is sent and answered."""

Body = dict[str, Any]
Call = Literal["beat", "end", "balance", "eligible", "sync", "settings", "grant", "revoke"]


class Expectation(msgspec.Struct, frozen=True):
    """An answer. Fields that ``body`` does not name are not judged."""

    status: int
    body: Body


class Step(msgspec.Struct, frozen=True):
    """One call, ``at_ms`` after the scenario's start."""

    at_ms: int
    call: Call
    send: Body
    expect: Expectation


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """Who watches. ``settings`` are those of a child, as a parent saves them; an adult has none."""

    is_kids: bool
    timezone: str
    settings: Body | None


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """``starts_at`` is RFC 3339; the settings have been in force for a week then.

    A ``live`` one takes seconds and holds at any time of day: it can be replayed in real time.
    """

    name: str
    about: str
    live: bool
    starts_at: str
    child: Child
    steps: tuple[Step, ...]


class Title(msgspec.Struct, frozen=True, kw_only=True):
    """A title of the catalogue that the scenarios need."""

    id: str
    name: str
    is_educational: bool


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a deployment that show in its answers. ``weekend_days``: Monday = 0."""

    beat_interval_seconds: int = 30
    beat_jitter: float = 0.1
    lease_seconds: int = 300
    max_gap_seconds: int = 300
    pause_grace_seconds: int = 300
    weekend_days: tuple[int, ...] = (5, 6)


class Document(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    rules: Numbers
    titles: tuple[Title, ...]
    scenarios: tuple[Scenario, ...]
