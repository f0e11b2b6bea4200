"""The native module answers what Python answers, byte for byte, and sends Redis the same call."""

import gc
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.auth.tokens import Role
from app.domain.counters import Outcome, Status
from app.domain.limits import LimitRules
from app.domain.policy import Grant, OfflineUse
from app.domain.viewing_day import DAY_MS
from app.errors import CountersUnavailable
from app.native import NativeModuleUnusable, layout, load_native
from app.observability import metrics
from tests.scenes.heartbeats import (
    NOW,
    SESSION,
    HeartbeatProcess,
    answer_of,
    body_of,
    id_of,
    policy_of,
    request_of,
    without_ids,
)

native = pytest.importorskip("hourglass_native", reason="the native module is not built: scripts/test builds it")
TODAY = NOW // DAY_MS


@dataclass
class Twins:
    """A process with the native module and one without, which get the same."""

    native: HeartbeatProcess
    python: HeartbeatProcess

    @property
    def both(self) -> tuple[HeartbeatProcess, HeartbeatProcess]:
        return self.native, self.python

    def do(self, change: Callable[[HeartbeatProcess], object]) -> None:
        for process in self.both:
            change(process)


def twins() -> Twins:
    made = Twins(HeartbeatProcess(is_native=True), HeartbeatProcess(is_native=False))
    made.do(lambda process: process.keep(policy_of()))
    return made


async def heard(process: HeartbeatProcess, reads: Sequence[bytes]) -> list[bytes]:
    """What a connection is told after each read. The first one teaches the server the head."""
    line = process.connect()
    told = []
    for read in reads:
        line.send(read)
        told.append(await line.sent())
    return told


async def told(pair: Twins, *reads: bytes) -> list[bytes]:
    """What both say, which must be the same, after both have sent Redis the same."""
    answers = [await heard(process, reads) for process in pair.both]
    of_native, of_python = ([without_ids(each) for each in some] for some in answers)
    assert of_native == of_python
    assert pair.native.calls == pair.python.calls
    return of_native


def beat(pair: Twins, body: bytes, *lines: bytes, **token: Any) -> bytes:
    return request_of(pair.python.token(**token), body, *lines)


async def test_an_ordinary_beat_is_taken_and_answered_as_python_does() -> None:
    pair = twins()
    ordinary = beat(pair, body_of())
    first, second, third = await told(pair, ordinary, ordinary, ordinary)
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"remaining_seconds":6600.0' in second
    assert second != third, "intervals are drawn"
    assert pair.native.taken == 2


def test_the_module_was_made_for_these_layouts() -> None:
    assert layout() == native.LAYOUT


USES = st.one_of(
    st.integers(0, 7_300_000),
    st.sampled_from(
        [0, 1, 999, 6_299_999, 6_300_000, 6_300_001, 6_899_999, 6_900_000, 7_199_999, 7_200_000, 7_200_001]
    ),
)
CHANGES: list[dict[str, Any]] = [
    {},
    {"weekday_limit_minutes": None, "weekend_limit_minutes": None},
    {"educational_exempt": False},
    {"warning_minutes": ()},
    {"warning_minutes": (5, 15, 60, 110)},
    {"grants": (Grant(TODAY, 30, 5_000),)},
    {"grants": (Grant(TODAY, None),)},
    {"offline": (OfflineUse(TODAY, 61_001, 0, 0, 2_000),)},
    {"synced": ((NOW - 50_000, NOW - 40_000),)},
    {"enforcement": "shadow"},
    {"enforcement": "off"},
    {"rules": LimitRules(finish_title_minutes=10)},
    {"rules": LimitRules(break_after_minutes=60, break_minutes=10)},
    {"paused_until_ms": NOW + 60_000},
    {"rules": LimitRules(weekly_limit_minutes=300)},
    {"is_kids": False, "calendar": None},
    {"config_version": 2**31},
    {"version": 2**40},
]


@given(
    change=st.sampled_from(CHANGES),
    used_ms=USES,
    counted_ms=st.sampled_from([0, 1, 30_000]),
    at_ms=st.integers(NOW - 3_600_000, NOW + 30 * 3_600_000),
    title=st.sampled_from(["title-1", "school-1", "gone-1", "other"]),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "watched_seconds": st.one_of(
                st.integers(0, 3_000_000), st.floats(0, 3_000_000), st.decimals(0, 3_000_000, places=4).map(float)
            ),
            "device_type": st.sampled_from(["tv", "mobile", "tablet", "web", "radio"]),
            "device_id": st.text(max_size=102),
            "is_paused": st.booleans(),
            "lease": st.just(False),
            "title_remaining_seconds": st.sampled_from([None, 30]),
        },
    ),
)
@settings(max_examples=400, deadline=None)
async def test_generated_beats_are_answered_alike(  # noqa: PLR0917  Hypothesis names them
    change: dict[str, Any], used_ms: int, counted_ms: int, at_ms: int, title: str, fields: dict[str, Any]
) -> None:
    pair = twins()
    pair.do(lambda process: process.keep(policy_of(**{"version": 2, **change})))
    pair.do(lambda process: setattr(process, "script", _answer(at_ms, used_ms, counted_ms)))
    request = beat(pair, body_of(title_id=title, **fields))
    await told(pair, request, request, request)


def _answer(at_ms: int, used_ms: int, counted_ms: int) -> Callable[[int], bytes]:
    return lambda beats: answer_of(beats, at_ms=at_ms, figures=(used_ms, counted_ms, used_ms + 5_000))


@pytest.mark.parametrize(
    "figures", [(600_000, -1, 900_000), (600_000, 30_000, -1), (2**62, 1, 2**62), (0, 2**62, -(2**62))]
)
async def test_impossible_figures_are_answered_alike(figures: tuple[int, int, int]) -> None:
    pair = twins()
    pair.do(lambda process: setattr(process, "script", lambda beats: answer_of(beats, figures=figures)))
    ordinary = beat(pair, body_of())
    await told(pair, ordinary, ordinary)


HOSTILE: list[bytes] = [
    b"",
    b"{",
    b"{}",
    b"[]",
    b"null",
    b"{,}",
    b"[" * 5_000,
    b'{"a":' * 700 + b"1" + b"}" * 700,
    body_of() + b" ",
    body_of() + b"}",
    body_of() + b"\0",
    b"\0" + body_of(),
    b" \t\r\n" + body_of(),
    body_of().replace(b"{", b"{ ", 1).replace(b":", b" : ").replace(b",", b"\t,\n"),
    body_of().replace(b"tv-1", b"tv\0"),
    body_of().replace(b"tv-1", b"\xff\xfe"),
    body_of().replace(b"tv-1", b"\xc3\xa9"),
    body_of().replace(b"tv-1", b"\xed\xa0\x80"),
    body_of().replace(b"tv-1", b"\x7f"),
    body_of().replace(b"tv-1", rb"\u0000"),
    body_of().replace(b"tv-1", rb"\"quoted\""),
    body_of().replace(b"tv-1", b"a/b<c>&'"),
    body_of().replace(b"tv-1", b"x" * 101),
    body_of().replace(b"tv-1", b"x" * 100),
    body_of().replace(b"title-1", b"x" * 65),
    body_of().replace(b'"device_type":"tv",', b""),
    body_of().replace(b'"device_type":"tv"', b'"device_type":""'),
    body_of().replace(b'"session_id"', rb'"session\u005fid"'),
    body_of().replace(SESSION.encode(), b"x" * 35),
    body_of().replace(SESSION.encode(), b"X" * 36),
    body_of().replace(id_of(1).encode(), id_of(2).encode()),
    body_of(session_id=None),
    body_of(session_id=1),
    body_of(profile_id=[]),
    body_of(unknown={"a": [1, 2]}),
    body_of(co_viewers=[]),
    body_of(co_viewers=None),
    body_of(account_id="x"),
    body_of(lease=None),
    body_of(is_paused=0),
    *(
        body_of()[:-1] + b"," + more + b"}"
        for more in (
            b'"watched_seconds":1,"watched_seconds":2',
            b'"watched_seconds":1,"watched_seconds":null',
            b'"watched_seconds":null,"watched_seconds":2.5',
            b'"watched_seconds":-0',
            b'"watched_seconds":-0.0',
            b'"watched_seconds":-1',
            b'"watched_seconds":01',
            b'"watched_seconds":1.',
            b'"watched_seconds":.5',
            b'"watched_seconds":1e3',
            b'"watched_seconds":1E400',
            b'"watched_seconds":NaN',
            b'"watched_seconds":0.0005',
            b'"watched_seconds":0.0015',
            b'"watched_seconds":2.0005',
            b'"watched_seconds":2.5000000000000001',
            b'"watched_seconds":2678400',
            b'"watched_seconds":2678400.0001',
            b'"watched_seconds":99999999',
            b'"watched_seconds":999999999999999999999999',
            b'"watched_seconds":1' + b"0" * 400,
            b'"watched_seconds":"1"',
            b'"title_id":"school-1"',
            b'"profile_id":"' + id_of(2).encode() + b'"',
            b'"is_paused":false,"is_paused":true',
            b'"is_paused":true,"is_paused":false',
            b'"is_paused":falsey',
            b'"lease":true',
            b'"":1',
            b'"position_seconds":5',
            b'"position_seconds":null',
            b'"title_remaining_seconds":null',
            b'"watched_seconds"',
            b'"watched_seconds":',
            b"",
        )
    ),
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_bodies_are_answered_alike(body: bytes) -> None:
    pair = twins()
    pair.do(lambda process: process.known_heads.learn(*_learned(pair, body)))
    pair.do(lambda process: process.token_cache.principal_of(pair.python.token()))
    request = beat(pair, body)
    await told(pair, request, request, request)


def _learned(pair: Twins, body: bytes) -> tuple[bytes, bytes, bytes]:
    """What a server learns from a sound beat with a body as long as this one."""
    return beat(pair, body), pair.python.token(), body


async def test_every_cut_of_a_request_is_answered_alike() -> None:
    pair = twins()
    ordinary = beat(pair, body_of())
    await told(pair, ordinary)
    for cut in range(1, len(ordinary)):
        await told(pair, ordinary[:cut], ordinary[cut:])
        await told(pair, ordinary + ordinary[:cut], ordinary[cut:])


@given(seed=st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
async def test_changed_bytes_are_answered_alike(seed: int) -> None:
    drawn = random.Random(seed)  # noqa: S311  which bytes
    pair = twins()
    ordinary = beat(pair, body_of(watched_seconds=12.5))
    changed = bytearray(ordinary)
    for _ in range(drawn.randint(1, 3)):
        place = drawn.randrange(len(changed)) if drawn.random() < 0.5 else len(changed) - drawn.randint(1, 190)
        kind = drawn.random()
        if kind < 0.5:
            changed[place] = drawn.choice(b'\0\r\n" \\:{}[],019.eE-x\x7f\x80\xff')
        elif kind < 0.75:
            changed[place] = drawn.randrange(256)
        else:
            other = drawn.randrange(len(changed))
            changed[place : place + 4] = changed[other : other + min(4, len(changed) - place)]
    await told(pair, ordinary, bytes(changed), ordinary)


@pytest.mark.parametrize(
    "change",
    [
        lambda process: setattr(process, "wall_ms", NOW + 3_600_000),
        lambda process: setattr(process, "wall_ms", NOW + 3_599_999),
        lambda process: setattr(process, "wall_ms", NOW - 5_000),
        lambda process: process.revoked.add(id_of(1_001)),
        lambda process: process.token_cache.clear(),
        lambda process: setattr(process.tokens, "generation", lambda _: 5),
        lambda process: process.policies.invalidate(f"{id_of(1)}:9"),
        lambda process: process.policies.erase(id_of(1)),
        lambda process: process.policies.expire(),
        lambda process: process.keep(policy_of(version=3, weekday_limit_minutes=15)),
        lambda process: process.keep(policy_of(account_id=id_of(7))),
        lambda process: process.titles.expire(),
        lambda process: setattr(process, "monotonic_ms", NOW + 59_000),
        lambda process: setattr(process, "monotonic_ms", NOW + 400_000),
    ],
    ids=range(14),
)
@pytest.mark.parametrize(
    "token", [{}, {"sign_in_id": id_of(50)}, {"device_id": id_of(51), "role": Role.PARENT}, {"role": Role.CAREGIVER}]
)
async def test_what_changes_between_two_beats_holds_for_the_second(
    change: Callable[[HeartbeatProcess], object], token: dict[str, Any]
) -> None:
    pair = twins()
    ordinary = beat(pair, body_of(), **token)
    await told(pair, ordinary, ordinary)
    pair.do(change)
    await told(pair, ordinary, ordinary)
    of_native, of_python = (process.policies.last_known(id_of(1)) for process in pair.both)
    assert of_native == of_python


@pytest.mark.parametrize("ended", [50, 51])
async def test_ended_sign_ins_and_devices_are_refused(ended: int) -> None:
    pair = twins()
    ordinary = beat(pair, body_of(), sign_in_id=id_of(50), device_id=id_of(51))
    answers = await told(pair, ordinary, ordinary)
    assert pair.native.taken == 1
    pair.do(lambda process: process.revoked.add(id_of(ended)))
    answers = await told(pair, ordinary)
    assert answers[0].startswith(b"HTTP/1.1 401")


async def test_a_token_of_the_older_generation_goes_to_python_once() -> None:
    pair = twins()
    ordinary = beat(pair, body_of())
    await told(pair, ordinary)
    pair.do(_grow_old)
    await told(pair, ordinary, ordinary)
    assert pair.native.taken == 1


def _grow_old(process: HeartbeatProcess) -> None:
    cache = process.token_cache
    cache._young, cache._old = cache._empty(), cache._young


CHANGES_UNDER_WAY: list[Callable[[HeartbeatProcess], object]] = [
    lambda process: process.policies.invalidate(f"{id_of(1)}:9"),
    lambda process: process.policies.forget(id_of(1)),
    lambda process: process.policies.extend_days(_known(process), None, NOW + DAY_MS),
    lambda process: setattr(_known(process), "effective", _other(process)),
    lambda process: process.keep(policy_of(version=3)),
]


def _known(process: HeartbeatProcess) -> Any:
    return process.policies._known[id_of(1)]


def _other(process: HeartbeatProcess) -> Any:
    return msgspec.structs.replace(_known(process).effective, next_allowance_ms=60_000, enforcement="shadow")


@pytest.mark.parametrize("change", CHANGES_UNDER_WAY, ids=range(len(CHANGES_UNDER_WAY)))
async def test_a_policy_that_changes_before_the_answer_decides(change: Callable[[HeartbeatProcess], object]) -> None:
    pair = twins()
    ordinary = beat(pair, body_of())
    await told(pair, ordinary, ordinary)
    for process in pair.both:
        answer = process.script

        def changed(beats: int, process: HeartbeatProcess = process, answer: Any = answer) -> bytes | None:
            change(process)
            found: bytes | None = answer(beats)
            return found

        process.script = changed
    await told(pair, ordinary)
    assert pair.native.taken == 2


@pytest.mark.parametrize("status", [Status.OK, Status.SUPERSEDED, Status.ENDED, Status.TOO_FAST, Status.UNKNOWN])
@pytest.mark.parametrize("superseded", ["", SESSION])
async def test_unusual_outcomes_go_back_to_python(status: Status, superseded: str) -> None:
    pair = twins()
    ordinary = beat(pair, body_of())
    await told(pair, ordinary)
    other = Outcome(status, NOW, NOW, SESSION, 1_000, 500, 100, superseded, TODAY)
    pair.do(lambda process: setattr(process, "script", lambda _: answer_of(1, figures=(-1, -1, -1), others=[other])))
    await told(pair, ordinary)
    assert pair.native.taken == 1


async def test_a_call_that_fails_refuses_native_beats() -> None:
    pair = twins()
    ordinary = beat(pair, body_of())
    await told(pair, ordinary)

    def fail(_: int) -> bytes:
        raise CountersUnavailable

    def break_off(_: int) -> bytes:
        raise RuntimeError("anything")

    for failing, status in ((fail, b"503"), (break_off, b"500"), (lambda _: b"\xc1", b"500")):
        pair.do(lambda process, failing=failing: setattr(process, "script", failing))  # type: ignore[misc]
        answers = await told(pair, ordinary)
        assert answers[0].split()[1] == status


async def test_a_full_queue_refuses() -> None:
    pair = twins()
    ordinary = beat(pair, body_of())
    await told(pair, ordinary)
    pair.do(lambda process: setattr(process.recorder._record, "_max_waiting", 0))
    answers = await told(pair, ordinary)
    assert answers[0].startswith(b"HTTP/1.1 503")


async def test_beats_of_both_kinds_share_a_call_in_their_order() -> None:
    pair = twins()
    numbers = range(1, 20)
    for number in numbers:
        pair.do(lambda process, number=number: process.keep(policy_of(number)))  # type: ignore[misc]
    pair.do(lambda process: process.keep(policy_of(3, rules=LimitRules(weekly_limit_minutes=300))))
    requests = {number: beat(pair, body_of(number), number=number) for number in numbers}
    for request in requests.values():
        await told(pair, request)
    answers = []
    for process in pair.both:
        process.calls.clear()
        lines = [process.connect() for _ in numbers]
        paused = beat(pair, body_of(5, is_paused=True), number=5)
        for line, number in zip(lines, numbers, strict=True):
            line.send(paused if number == 5 else requests[number])
        answers.append([await line.sent() for line in lines])
    assert answers[0] == answers[1]
    assert pair.native.calls == pair.python.calls
    assert len(pair.native.calls) == 1
    assert pair.native.taken == len(numbers) - 2


async def test_a_lost_connection_and_one_that_must_close() -> None:
    changes: tuple[Callable[[Any], object], ...] = (
        lambda line: line.connection.connection_lost(None),
        lambda line: line.connection.shutdown(),
        lambda line: line.wire.close(),
        lambda line: line.send(b"GET / HTTP/1.1\r\n\r\n"),
    )
    for change in changes:
        pair = twins()
        ordinary = beat(pair, body_of())
        await told(pair, ordinary)
        seen = []
        for process in pair.both:
            line = process.connect()
            line.send(ordinary)
            change(line)
            seen.append((await line.sent(), line.wire.is_closed, line.connection.cycle.response_complete))
        assert seen[0] == seen[1]
        assert pair.native.taken == 1


async def test_native_beats_count_in_the_metrics_as_python_ones() -> None:
    pair = twins()
    ordinary = beat(pair, body_of())
    await told(pair, ordinary)
    grown = []
    for process in pair.both:
        before = _counts()
        await heard(process, [ordinary] * 5)
        if process.is_native:
            process.native.publish()
        grown.append([after - earlier for after, earlier in zip(_counts(), before, strict=True)])
    assert grown[0] == grown[1] == [5, 5, 5, 0, 5, 5]


def _counts() -> list[int]:
    hot = (metrics.FOUND_IN_MEMORY, metrics.COUNTED_BEATS, metrics.DECIDED["allowed"], metrics.DECIDED["warning"])
    answered = metrics.requests_of("POST", "/api/v1/viewing-time/heartbeat", 200)
    return [*(each.count for each in hot), sum(answered._counts), sum(metrics.POLICY_AGE_AT_USE._counts)]


def test_a_module_for_other_layouts_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "LAYOUT", "another")
    assert load_native("auto") is None
    with pytest.raises(NativeModuleUnusable):
        load_native("required")
    assert load_native("off") is None


def test_a_missing_module_is_an_error_only_if_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hourglass_native", None)
    assert load_native("auto") is None
    with pytest.raises(NativeModuleUnusable):
        load_native("required")


@pytest.mark.parametrize("missing", ["AttributeError", "ImportError", "ModuleNotFoundError"])
def test_a_module_that_misses_something_of_ours_is_left_alone_and_said(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hourglass_native.py").write_text(f"raise {missing}('gone')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hourglass_native")
    with capture_logs() as lines:
        assert load_native("auto") is None
    assert [line["event"] for line in lines] == ["native_module_unusable"]
    with pytest.raises(NativeModuleUnusable, match="gone"):
        load_native("required")


async def test_beats_leave_nothing_behind() -> None:
    process = HeartbeatProcess(is_native=True)
    process.keep(policy_of())
    ordinary = request_of(process.token(), body_of())
    line = process.connect()

    async def held_after(beats: int) -> tuple[int, int, int]:
        for _ in range(beats):
            line.send(ordinary)
            assert (await line.sent()).startswith(b"HTTP/1.1 200 OK")
        process.calls.clear()
        gc.collect()
        known = _known(process)
        return sys.getrefcount(known), sys.getrefcount(known.effective), len(gc.get_objects())

    first = await held_after(300)
    assert process.taken == 299
    later = await held_after(1_000)
    assert later[:2] == first[:2]
    assert later[2] <= first[2] + 100, "objects of a thousand beats"


async def test_a_beat_that_cannot_go_back_harms_no_other() -> None:
    process = HeartbeatProcess(is_native=True)
    numbers = (1, 2)
    for number in numbers:
        process.keep(policy_of(number))
    requests = [request_of(process.token(number), body_of(number)) for number in numbers]
    for request in requests:
        await heard(process, [request])
    lines = [process.connect() for _ in numbers]
    lines[0].connection.take_back = _fail  # type: ignore[assignment]
    for line, request in zip(lines, requests, strict=True):
        line.send(request)
    assert process.taken == 2
    _known(process).effective = _other(process)  # so that the first one goes back
    told = [await line.sent() for line in lines]
    assert (told[0], lines[0].wire.is_closed) == (b"", True)
    assert told[1].startswith(b"HTTP/1.1 200 OK")


def _fail(*_: object) -> Any:
    raise RuntimeError("anything")
