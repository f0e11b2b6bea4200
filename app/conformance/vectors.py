"""The golden vectors: every scenario with the model's answers."""

from datetime import datetime
from typing import Any

import msgspec

from app.conformance.acts import TITLES, Act, Draft
from app.conformance.document import FORMAT, Body, Document, Expectation, Numbers, Scenario, Step
from app.conformance.model import HouseholdModel
from app.conformance.scenarios import drafts
from app.timestamps import ms_of

_OF_THE_DAY = frozenset({"day", "next_reset_at"})
"""Fields that depend on the time of day at a scenario's start."""


def document(numbers: Numbers | None = None) -> Document:
    """The vectors of a deployment with these settings, by default with the default settings."""
    numbers = numbers or Numbers()
    scenarios = tuple(_scenario(draft, numbers) for draft in drafts())
    return Document(format=FORMAT, rules=numbers, titles=TITLES, scenarios=scenarios)


def generate() -> dict[str, Any]:
    """The published vectors as JSON values. Every call returns the same value."""
    return msgspec.json.decode(published(), type=dict[str, Any])


def published() -> bytes:
    """The text of the published file."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2) + b"\n"


def starts_ms(scenario: Scenario) -> int:
    return ms_of(datetime.fromisoformat(scenario.starts_at))


def _scenario(draft: Draft, numbers: Numbers) -> Scenario:
    model = HouseholdModel(
        (draft.child, *draft.siblings),
        starts_ms=ms_of(datetime.fromisoformat(draft.starts_at)),
        titles={title.id: title.is_educational for title in TITLES},
        numbers=numbers,
    )
    return Scenario(
        name=draft.name,
        about=draft.about,
        live=draft.live,
        starts_at=draft.starts_at,
        child=draft.child,
        siblings=draft.siblings,
        steps=tuple(_step(act, model, is_live=draft.live) for act in draft.acts),
    )


def _step(act: Act, model: HouseholdModel, *, is_live: bool) -> Step:
    answer = model.answer(act.call, act.send, at_ms=act.at_ms)
    body = _at_any_hour(answer.body) if is_live else answer.body
    return Step(at_ms=act.at_ms, call=act.call, send=act.send, expect=Expectation(answer.status, body))


def _at_any_hour(body: Body) -> Body:
    return {name: _part_at_any_hour(name, value) for name, value in body.items() if name not in _OF_THE_DAY}


def _part_at_any_hour(name: str, value: Any) -> Any:  # noqa: ANN401  JSON
    if name == "balance":
        return _at_any_hour(value)
    return [_at_any_hour(each) for each in value] if name == "co_viewers" else value
