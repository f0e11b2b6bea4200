"""The golden vectors: every scenario with the model's answers."""

from datetime import datetime
from typing import Any

import msgspec

from app.conformance.acts import TITLES, Act, Draft
from app.conformance.document import FORMAT, Body, Document, Expectation, Numbers, Scenario, Step
from app.conformance.model import Model
from app.conformance.scenarios import drafts
from app.instants import ms_of

_OF_THE_DAY = frozenset({"day", "next_reset_at"})
"""What depends on the time of day at which a scenario starts."""


def document(numbers: Numbers | None = None) -> Document:
    """The vectors of a deployment with these settings; without any, with those that everything has by default."""
    numbers = numbers or Numbers()
    scenarios = tuple(_scenario(draft, numbers) for draft in drafts())
    return Document(format=FORMAT, rules=numbers, titles=TITLES, scenarios=scenarios)


def generate() -> dict[str, Any]:
    """The published vectors as JSON values. Every call answers the same."""
    return msgspec.json.decode(published(), type=dict[str, Any])


def published() -> bytes:
    """The published file."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2) + b"\n"


def starts_ms(scenario: Scenario) -> int:
    return ms_of(datetime.fromisoformat(scenario.starts_at))


def _scenario(draft: Draft, numbers: Numbers) -> Scenario:
    model = Model(
        draft.child,
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
        steps=tuple(_step(act, model, is_live=draft.live) for act in draft.acts),
    )


def _step(act: Act, model: Model, *, is_live: bool) -> Step:
    answer = model.answer(act.call, act.send, at_ms=act.at_ms)
    body = _at_any_hour(answer.body) if is_live else answer.body
    return Step(at_ms=act.at_ms, call=act.call, send=act.send, expect=Expectation(answer.status, body))


def _at_any_hour(body: Body) -> Body:
    return {
        name: _at_any_hour(value) if name == "balance" else value
        for name, value in body.items()
        if name not in _OF_THE_DAY
    }
