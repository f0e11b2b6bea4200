"""The published document: scenarios with requests and expected answers. ``docs/howto/conformance.md`` explains it.

Values in ``send`` and ``expect`` are JSON with three placeholders: ``"$name"`` for an id chosen by the service,
``{"at_ms": n}`` for the instant ``n`` ms after the scenario's start, and ``{"from": a, "to": b}`` for any number
between both.
"""

from typing import Any, Literal

import msgspec

from app.domain.markets import ENFORCE

FORMAT = 1
CHILD = "$child"
"""The placeholder of a scenario's profile, in requests and answers."""


def sibling(number: int) -> str:
    """The placeholder of a further profile, from 2 on."""
    return f"{CHILD}{number}"


Body = dict[str, Any]
Call = Literal["beat", "end", "balance", "eligible", "sync", "settings", "grant", "revoke"]


class Expectation(msgspec.Struct, frozen=True):
    """An expected answer. Fields that ``body`` does not name are not compared."""

    status: int
    body: Body


class Step(msgspec.Struct, frozen=True):
    """One call, ``at_ms`` after the scenario's start."""

    at_ms: int
    call: Call
    send: Body
    expect: Expectation


class Child(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The profile of a scenario. A child has ``settings`` as a parent saves them; an adult has none.

    ``enforcement`` is the mode that the platform has set for the profile: `enforce`, `shadow` or `off`.
    """

    is_kids: bool
    timezone: str
    settings: Body | None
    enforcement: str = ENFORCE


class Scenario(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A scenario. ``starts_at`` is RFC 3339; the settings have been in force for a week at the start.

    ``siblings`` are further children of the household: ``$child2``, ``$child3`` and so on.

    A ``live`` scenario takes seconds and holds at any time of day, so it can be replayed in real time.
    """

    name: str
    about: str
    live: bool
    starts_at: str
    child: Child
    steps: tuple[Step, ...]
    siblings: tuple[Child, ...] = ()


class VectorTitle(msgspec.Struct, frozen=True, kw_only=True):
    """A title of the catalogue that the scenarios need."""

    id: str
    name: str
    is_educational: bool


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a deployment that affect its answers. ``weekend_days``: Monday = 0."""

    beat_interval_seconds: int = 30
    beat_jitter: float = 0.1
    lease_seconds: int = 300
    max_gap_seconds: int = 300
    pause_grace_seconds: int = 300
    weekend_days: tuple[int, ...] = (5, 6)


class Document(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    rules: Numbers
    titles: tuple[VectorTitle, ...]
    scenarios: tuple[Scenario, ...]
