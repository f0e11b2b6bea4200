"""The golden vectors follow from the rules, equal the published file, and match the contract's text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from app.cli import main
from app.conformance.acts import TITLES
from app.conformance.document import CHILD, FORMAT, Document, Expectation, Numbers, Scenario, sibling
from app.conformance.live import TOLERANCE_MS, noon_zone
from app.conformance.matching import Matcher
from app.conformance.model import HouseholdModel
from app.conformance.replay import Answer, Caller, replay
from app.conformance.scenarios import drafts
from app.conformance.vectors import document, generate, published
from app.domain.viewing_day import TIMEZONES
from app.timestamps import rfc3339, utc

VECTORS = Path(__file__).parents[2] / "docs" / "conformance" / "vectors.json"
MAX_LIVE_MS = 60_000
HOUR_MS = 3_600_000
START_MS = 1_772_452_800_000
SCENARIOS = {scenario.name: scenario for scenario in document().scenarios}
LIVE = [scenario for scenario in SCENARIOS.values() if scenario.live]


def profiles_of(scenario: Scenario) -> list[str]:
    """The placeholders of a scenario's children."""
    return [CHILD, *(sibling(number) for number in range(2, len(scenario.siblings) + 2))]


def names_in(value: object) -> set[str]:
    """Every ``$name`` within a JSON value."""
    if isinstance(value, Mapping):
        return set().union(*map(names_in, value.values()))
    if isinstance(value, list):
        return set().union(*map(names_in, value))
    return {value} if isinstance(value, str) and value.startswith("$") else set()


def answered(value: Any, *, begins_ms: int = START_MS) -> Any:
    """An answer that fits an expectation: instants as text, any number within bounds."""
    if isinstance(value, Mapping):
        if value.keys() == {"at_ms"}:
            return rfc3339(begins_ms + value["at_ms"])
        if value.keys() == {"from", "to"}:
            return (value["from"] + value["to"]) / 2
        return {name: answered(part, begins_ms=begins_ms) for name, part in value.items()}
    return [answered(part, begins_ms=begins_ms) for part in value] if isinstance(value, list) else value


class TestPublished:
    def test_the_published_vectors_are_those_of_the_rule_book(self) -> None:
        told = "the vectors have changed; write them anew: hourglass conformance --write docs/conformance/vectors.json"
        assert msgspec.json.decode(VECTORS.read_bytes()) == generate(), told
        assert VECTORS.read_bytes() == published(), told

    def test_they_are_the_same_each_time(self) -> None:
        assert published() == published()

    def test_the_command_writes_them(self, tmp_path: Path) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["conformance", "--write", str(tmp_path / "vectors.json")])
        assert not ended.value.code
        assert (tmp_path / "vectors.json").read_bytes() == VECTORS.read_bytes()

    def test_they_have_the_documented_shape(self) -> None:
        read = msgspec.json.decode(VECTORS.read_bytes(), type=Document)
        assert (read.format, read.rules) == (FORMAT, Numbers())
        assert len(SCENARIOS) == len(read.scenarios), "two scenarios share a name"

    @pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
    def test_steps_are_in_order_and_send_only_what_was_answered(self, scenario: Scenario) -> None:
        known = set(profiles_of(scenario))
        for before, step in zip((None, *scenario.steps), scenario.steps, strict=False):
            assert before is None or before.at_ms <= step.at_ms
            assert names_in(step.send) <= known
            known |= names_in(step.expect.body)

    def test_the_settings_of_a_deployment_show_in_its_vectors(self) -> None:
        brisk = document(Numbers(beat_interval_seconds=10, lease_seconds=60, max_gap_seconds=60))
        [silent] = [scenario for scenario in brisk.scenarios if scenario.name == "gap-299.999"]
        assert silent.steps[1].expect.body["next_beat_in"] == {"from": 9, "to": 11}
        assert silent.steps[1].expect.body["lease_seconds"] == 60
        assert silent.steps[2].expect.body["code"] == "session_ended"


@pytest.mark.parametrize(
    ("name", "step", "facts"),
    [
        ("open-continue-end", 1, {"used_seconds": 0, "remaining_seconds": 7200, "stop_at": {"at_ms": 7_200_000}}),
        ("open-continue-end", 4, {"total_seconds": 5, "ended_at": {"at_ms": 5000}}),
        ("end-repeated", 3, {"total_seconds": 2, "ended_at": {"at_ms": 2000}}),
        ("take-over", 5, {"code": "session_superseded", "by": {"device_type": "tablet"}, "at": {"at_ms": 3000}}),
        ("take-over-late", 3, {"used_seconds": 320}),
        ("take-over-late", 5, {"used_seconds": 320}),
        ("fought-over", 13, {"used_seconds": 1501}),
        ("abandoned", 3, {"used_seconds": 0}),
        ("abandoned", 4, {"used_seconds": 300}),
        ("abandoned", 6, {"used_seconds": 900, "enforcement": "blocked"}),
        ("abandoned", 9, {"used_seconds": 900, "overrun_seconds": 0}),
        ("offline-sync-in-a-pause", 132, {"credited_seconds": [2400]}),
        ("offline-sync-in-a-pause", 133, {"used_seconds": 2820}),
        ("offline-sync-in-silence", 3, {"credited_seconds": [1200]}),
        ("offline-sync-in-silence", 4, {"used_seconds": 1800}),
        ("gap-299.999", 3, {"used_seconds": 329.999}),
        ("gap-300.000", 3, {"used_seconds": 330}),
        ("gap-300.001", 3, {"code": "session_ended", "at": {"at_ms": 30_000}}),
        ("revival", 3, {"used_seconds": 880}),
        ("revival-capped", 3, {"used_seconds": 930}),
        ("pause-grace", 8, {"used_seconds": 330}),
        ("pause-grace", 11, {"used_seconds": 360}),
        ("title-change-answer-lost", 3, {"session_id": "$s2", "used_seconds": 3}),
        ("educational", 4, {"used_seconds": 0, "educational_seconds": 2}),
        ("thresholds", 5, {"enforcement": "allowed", "next_beat_in": {"from": 0.001, "to": 0.001}}),
        ("thresholds", 6, {"enforcement": "warning_15", "remaining_seconds": 900}),
        ("thresholds", 10, {"enforcement": "warning_5", "remaining_seconds": 300}),
        ("thresholds", 13, {"enforcement": "blocked", "remaining_seconds": 0, "lease_seconds": 0}),
        ("overshoot", 6, {"used_seconds": 900, "overrun_seconds": 60}),
        ("grant-when-blocked", 9, {"used_seconds": 900, "remaining_seconds": 900}),
        ("limit-lowered-below-used", 7, {"enforcement": "blocked", "used_seconds": 1200}),
        ("reset-split", 3, {"used_seconds": 20}),
        ("reset-split", 5, {"total_seconds": 90}),
        ("dst-short-day", 4, {"next_reset_at": {"at_ms": 40_000 + 24 * HOUR_MS}}),
        ("dst-reset-in-the-gap", 4, {"next_reset_at": {"at_ms": 40_000 + 23 * HOUR_MS}}),
        ("dst-reset-twice", 4, {"next_reset_at": {"at_ms": 40_000 + 25 * HOUR_MS}}),
        ("reset-hour-changed", 5, {"next_reset_at": {"at_ms": 120_000 + 30 * HOUR_MS}}),
        ("unlimited", 3, {"remaining_seconds": None, "stop_at": None, "lease_seconds": 300, "used_seconds": 2}),
        ("together", 3, {"used_seconds": 4, "remaining_seconds": 7196, "decided_by": "$child2"}),
        ("together", 6, {"used_seconds": 5, "remaining_seconds": 3595}),
        ("together-joins-and-leaves", 6, {"used_seconds": 2}),
        (
            "together-strictest-decides",
            4,
            {"enforcement": "blocked", "remaining_seconds": 6300, "decided_by": "$child2"},
        ),
        ("together-own-days", 4, {"used_seconds": 0, "educational_seconds": 100}),
        ("together-own-days", 5, {"used_seconds": 300, "educational_seconds": 0}),
        ("together-taken-over", 3, {"enforcement": "allowed", "used_seconds": 4}),
        ("together-taken-over", 6, {"used_seconds": 2}),
        ("together-title-change", 2, {"session_id": "$s3", "used_seconds": 2}),
        ("adult", 6, {"total_seconds": 0, "ended_at": {"at_ms": 0}}),
        ("adult", 7, {"total_seconds": 0, "ended_at": {"at_ms": 0}}),
        ("adult", 3, {"enforcement": "allowed", "remaining_seconds": None, "used_seconds": 0}),
    ],
)
def test_the_contract_in_words(name: str, step: int, facts: dict[str, object]) -> None:
    """Calculated by hand, as a check that is independent of the rules."""
    body = SCENARIOS[name].steps[step - 1].expect.body
    assert {fact: body[fact] for fact in facts} == facts


class TestLive:
    def test_they_fit_into_a_minute_at_any_time_of_any_day(self) -> None:
        assert {scenario.name for scenario in LIVE} >= {"open-continue-end", "take-over", "run-out", "adult"}
        for scenario in LIVE:
            assert scenario.steps[-1].at_ms <= MAX_LIVE_MS / 4, scenario.name
            for child in (scenario.child, *scenario.siblings):
                if child.settings is not None:
                    limits = child.settings["weekday_limit_minutes"], child.settings["weekend_limit_minutes"]
                    assert limits[0] == limits[1], scenario.name
                    assert child.settings["reset_hour"] == 6, scenario.name
            for step in scenario.steps:
                assert step.expect.body.keys().isdisjoint({"day", "next_reset_at"}), scenario.name

    @pytest.mark.parametrize("late", [0, 1])
    @pytest.mark.parametrize("scenario", LIVE, ids=lambda scenario: scenario.name)
    def test_they_hold_when_every_other_call_is_late(self, scenario: Scenario, late: int) -> None:
        [draft] = [draft for draft in drafts() if draft.name == scenario.name]
        titles = {title.id: title.is_educational for title in TITLES}
        children = (draft.child, *draft.siblings)
        model = HouseholdModel(children, starts_ms=START_MS, titles=titles, numbers=Numbers())
        names = {name: name for name in profiles_of(scenario)}
        matcher = Matcher(starts_ms=START_MS, names=names, tolerance_ms=TOLERANCE_MS)
        for number, (act, step) in enumerate(zip(draft.acts, scenario.steps, strict=True)):
            delay_ms = TOLERANCE_MS // 2 if number % 2 == late else 0  # what one wins, the next may lose as well
            actual = model.answer(act.call, act.send, at_ms=act.at_ms + delay_ms)
            assert matcher.differences(step.expect, status=actual.status, body=answered(actual.body)) == []

    @pytest.mark.parametrize("hour", range(24))
    def test_children_live_where_it_is_noon(self, hour: int) -> None:
        at_ms = START_MS + hour * HOUR_MS
        zone = noon_zone(at_ms)
        assert zone in TIMEZONES
        assert utc(at_ms).astimezone(ZoneInfo(zone)).hour == 12


class TestMatching:
    EXPECTED = Expectation(
        200,
        {
            "session_id": "$s1",
            "enforcement": "allowed",
            "used_seconds": 30,
            "stop_at": {"at_ms": 7_200_000},
            "next_beat_in": {"from": 27, "to": 33},
            "config_version": 2,
            "is_educational": False,
            "credited_seconds": [10, 20],
            "by": {"device_type": "tv"},
        },
    )

    def differences(self, fields: Mapping[str, object], *, tolerance_ms: int = 0, status: int = 200) -> list[str]:
        matcher = Matcher(starts_ms=START_MS, names={CHILD: "kim"}, tolerance_ms=tolerance_ms)
        body = answered(self.EXPECTED.body) | {"session_id": "first"} | dict(fields)
        return [found.pointer for found in matcher.differences(self.EXPECTED, status=status, body=body)]

    def test_a_fitting_answer_has_none_and_may_say_more(self) -> None:
        assert self.differences({"used_minutes": 0.5}) == []

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("enforcement", "blocked"),
            ("used_seconds", 30.001),
            ("used_seconds", None),
            ("used_seconds", "30"),
            ("stop_at", rfc3339(START_MS + 7_200_001)),
            ("stop_at", None),
            ("stop_at", "2026-03-02T12:00:00"),
            ("next_beat_in", 33.001),
            ("next_beat_in", None),
            ("config_version", 3),
            ("is_educational", 0),
            ("session_id", "kim"),
            ("session_id", None),
            ("by", None),
            ("credited_seconds", [10]),
        ],
    )
    def test_every_other_answer_has_one(self, field: str, value: object) -> None:
        assert self.differences({field: value}) == [f"/{field}"]

    def test_places_inside_are_named(self) -> None:
        assert self.differences({"credited_seconds": [10, 21]}) == ["/credited_seconds/1"]
        assert self.differences({"by": {"device_type": "web"}}) == ["/by/device_type"]
        assert self.differences({"by": {}}) == ["/by/device_type"]

    def test_a_wrong_status_says_all(self) -> None:
        assert self.differences({"enforcement": "?"}, status=503) == [""]

    def test_measured_time_may_be_off_and_nothing_else(self) -> None:
        late = {
            "used_seconds": 30.5,
            "stop_at": rfc3339(START_MS + 7_200_500),
            "next_beat_in": 33.5,
            "credited_seconds": [10.5, 19.5],
        }
        assert self.differences(late, tolerance_ms=500) == []
        assert self.differences(late, tolerance_ms=499) != []
        assert self.differences({"config_version": 3}, tolerance_ms=5000) == ["/config_version"]

    def test_a_name_keeps_its_id(self) -> None:
        matcher = Matcher(starts_ms=START_MS, names={})
        opened = Expectation(200, {"session_id": "$s1"})
        another = Expectation(200, {"session_id": "$s2"})
        assert matcher.differences(opened, status=200, body={"session_id": "a"}) == []
        assert matcher.differences(another, status=200, body={"session_id": "a"}) != []
        assert matcher.differences(opened, status=200, body={"session_id": "b"}) != []
        assert matcher.filled({"session_id": "$s1", "at": [{"at_ms": 1}]}) == {
            "session_id": "a",
            "at": [rfc3339(START_MS + 1)],
        }


class Scripted:
    """A service with scripted answers that records its requests."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[Caller, str, Any]] = []

    async def call(
        self,
        caller: Caller,
        method: str,
        path: str,
        *,
        body: Any | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        self.asked.append((caller, f"{method} {path}", body if headers is None else dict(body or {}) | dict(headers)))
        return self._answers.pop(0)


def answer(expected: Expectation, **fields: object) -> Answer:
    return Answer(status=expected.status, headers={"etag": '"2"'}, body=answered(expected.body) | fields)


class TestReplay:
    async def run(self, scenario: Scenario, service: Scripted) -> tuple[int | None, list[int]]:
        reached: list[int] = []

        async def reach(at_ms: int) -> None:
            reached.append(at_ms)

        verdict = await replay(scenario, service=service, profile_id="kim", starts_ms=START_MS, reach=reach)
        return verdict.step, reached

    async def test_it_ends_at_the_first_wrong_answer(self) -> None:
        scenario = SCENARIOS["open-continue-end"]
        opened, continued, *_ = (step.expect for step in scenario.steps)
        service = Scripted(answer(opened, session_id="a"), answer(continued, session_id="a", used_seconds=9))
        assert await self.run(scenario, service) == (2, [0, 2000])
        first, second = (body for _, _, body in service.asked)
        assert (first["profile_id"], "session_id" in first) == ("kim", False)
        assert second["session_id"] == "a"

    async def test_each_call_goes_where_it_belongs(self) -> None:
        grant, before = SCENARIOS["grant-revoked"], Answer(status=200, headers={"etag": '"2"'}, body={})
        answers = [answer(step.expect, session_id="a", grant_id="g") for step in grant.steps]
        service = Scripted(*answers)
        assert (await self.run(grant, service))[0] is None
        asked = [(caller, what) for caller, what, _ in service.asked]
        assert (Caller.PARENT, "POST /parental-controls/profiles/kim/viewing-time/grant") in asked
        assert (Caller.PARENT, "DELETE /parental-controls/profiles/kim/grants/g") in asked
        assert (Caller.PLAYER, "GET /viewing-time/balance/kim") in asked

        lowered = SCENARIOS["limit-lowered"]
        answers = [answer(step.expect, session_id="a") for step in lowered.steps]
        service = Scripted(*answers[:2], before, *answers[2:])
        assert (await self.run(lowered, service))[0] is None
        saved = {"weekday_limit_minutes": 15, "weekend_limit_minutes": 15, "if-match": '"2"'}
        assert service.asked[3] == (Caller.PARENT, "PUT /parental-controls/profiles/kim/viewing-time", saved)

    async def test_an_end_names_its_session_in_the_path(self) -> None:
        scenario = SCENARIOS["revival-by-end"]
        answers = [answer(step.expect, session_id="a") for step in scenario.steps]
        service = Scripted(*answers)
        assert (await self.run(scenario, service))[0] is None
        assert service.asked[2] == (Caller.PLAYER, "POST /viewing-time/session/a/end", {"watched_seconds": 600})
