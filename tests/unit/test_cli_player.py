"""A simulated player obeys the answers, and its ledger has its real playing time."""

import asyncio
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from app.clients import player as player_module
from app.clients.http import Client, Reply, Unreachable
from app.clients.player import Player
from tests.virtual_time import START_MS, in_virtual_time, now_ms

Answer = Reply | Unreachable
SESSION = "01a20ae0-837c-85cb-b1b2-808c2c3b5676"


class FakeService(Client):
    """Answers heartbeats from a list and repeats its last item; accepts all other calls."""

    def __init__(self, *beats: Answer, ends: tuple[Answer, ...] = ()) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._beats = list(beats)
        self._ends = list(ends)

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        assert (method, token, headers) in {("POST", "household", None), ("GET", "household", None)}
        self.calls.append((path.rpartition("/")[2], body))
        answer: Answer = Reply(status=200, headers={}, body={"eligible": True})
        if path.endswith("/heartbeat"):
            answer = self._beats.pop(0) if len(self._beats) > 1 else self._beats[0]
        elif path.endswith("/end") and self._ends:
            answer = self._ends.pop(0)
        if isinstance(answer, Unreachable):
            raise answer
        return answer

    def bodies(self, call: str) -> list[Any]:
        return [body for name, body in self.calls if name == call]


def good(*, next_beat_in: float = 0.05, stop_in: float | None = None, lease: float = 300, **more: object) -> Reply:
    stop_at = None if stop_in is None else datetime.fromtimestamp(START_MS / 1000 + stop_in, UTC).isoformat()
    answer = {
        "session_id": SESSION,
        "enforcement": "allowed",
        "stop_at": stop_at,
        "next_beat_in": next_beat_in,
        "lease_seconds": lease,
        **more,
    }
    return Reply(status=200, headers={}, body=answer)


def problem(status: int, code: str, **headers: str) -> Reply:
    return Reply(status=status, headers=headers, body={"code": code})


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player_module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(player_module, "TITLE_PAUSE_SECONDS", (0.0, 0.01))
    monkeypatch.setattr(player_module, "ELIGIBILITY_SECONDS", (0.0, 0.01))


async def watch(service: FakeService, *, until: Callable[[Player], bool]) -> Player:
    player = Player(
        service,
        token=lambda: "household",
        profile_id="child",
        device=("tv-1", "tv"),
        titles=["moon-pirates"],
        title_seconds=(60, 60),
        clock_ms=now_ms,
        chance=random.Random(1),  # noqa: S311  choices of players, not secrets
    )
    running = asyncio.create_task(player.run())
    async with asyncio.timeout(10):
        while not until(player) and not running.done():  # noqa: ASYNC110  conditions of any kind
            await asyncio.sleep(0.005)
        player.stop()
        await running
    return player


@in_virtual_time
async def test_it_beats_as_often_as_it_is_told_and_says_how_much_it_watched() -> None:
    service = FakeService(good())
    player = await watch(service, until=lambda _: len(service.bodies("heartbeat")) == 5)
    opening, *others = service.bodies("heartbeat")
    assert "session_id" not in opening
    assert {beat["session_id"] for beat in others} == {SESSION}
    watched = [beat["watched_seconds"] for beat in others]
    assert watched == sorted(watched)
    assert watched[-1] == pytest.approx(4 * 0.05, abs=0.2)
    assert service.bodies("end") == [{"watched_seconds": pytest.approx(player.playback_log.watched_seconds, abs=0.001)}]
    assert player.playback_log.sessions == 1


@in_virtual_time
async def test_it_stops_playing_at_stop_at() -> None:
    service = FakeService(good(next_beat_in=0.4, stop_in=0.1), good(enforcement="blocked"))
    player = await watch(service, until=lambda player: player.playback_log.sessions == 1)
    assert player.playback_log.watched_seconds < 0.4 + 0.2
    assert service.calls[2][0] == "end"


@in_virtual_time
async def test_blocked_it_waits_until_there_is_time_again() -> None:
    service = FakeService(good(), good(enforcement="blocked"), good())
    await watch(service, until=lambda _: len(service.bodies("heartbeat")) == 4)
    assert [name for name, _ in service.calls[:5]] == ["heartbeat", "heartbeat", "end", "child", "heartbeat"]
    assert "session_id" not in service.bodies("heartbeat")[2]


@in_virtual_time
async def test_without_answers_it_plays_on_for_its_lease_only() -> None:
    away = Unreachable("away")
    service = FakeService(good(lease=0.1), away)
    player = await watch(service, until=lambda player: player.playback_log.answers["unreachable"] == 30)
    assert player.playback_log.watched_seconds == pytest.approx(0.1, abs=0.1)


@pytest.mark.parametrize("answer", [problem(503, "counters_unavailable"), problem(429, "busy")])
@in_virtual_time
async def test_a_busy_service_is_asked_again_in_the_same_session(answer: Reply) -> None:
    busy = Reply(status=answer.status, headers={"retry-after": "0"}, body=answer.body)
    service = FakeService(good(), busy, good())
    player = await watch(service, until=lambda _: len(service.bodies("heartbeat")) == 4)
    assert {beat.get("session_id") for beat in service.bodies("heartbeat")[1:]} == {SESSION}
    assert player.playback_log.sessions == 1


@in_virtual_time
async def test_superseded_it_opens_another_session() -> None:
    service = FakeService(good(), problem(409, "session_superseded"), good())
    await watch(service, until=lambda _: len(service.bodies("heartbeat")) == 3)
    assert "session_id" not in service.bodies("heartbeat")[2]


@in_virtual_time
async def test_refused_for_good_it_gives_up() -> None:
    service = FakeService(problem(403, "profile_access_denied"))
    player = await watch(service, until=lambda _: False)
    assert player.playback_log.answers == {"profile_access_denied": 1}
    assert player.playback_log.watched_seconds == 0


@in_virtual_time
async def test_the_end_is_told_until_somebody_hears_it() -> None:
    away = Unreachable("away")
    service = FakeService(good(), ends=(away, away))
    await watch(service, until=lambda _: len(service.bodies("heartbeat")) == 2)
    assert len(service.bodies("end")) == 3
    assert len({body["watched_seconds"] for body in service.bodies("end")}) == 1
