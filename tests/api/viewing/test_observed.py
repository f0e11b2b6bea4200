"""Every request has an id, is measured by its route, and a refused one is logged with its account."""

from itertools import count
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import CapturingLogger

from app.observability import access_log, metrics
from app.observability.access_log import AccessLog
from app.observability.context import RequestContext
from tests.api.viewing.test_connections import Player, Site, player, site
from tests.scenes.api import Api
from tests.scenes.households import registered_at_noon

__all__ = ["player", "site"]  # fixtures

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-00"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    logger = CapturingLogger()
    monkeypatch.setattr(access_log, "log", logger)
    calls: list[Any] = logger.calls
    return calls


def requests(route: str, status: str, method: str = "POST") -> float:
    metrics.publish()
    labels = {"method": method, "route": route, "status": status}
    return REGISTRY.get_sample_value("http_server_request_duration_seconds_count", labels) or 0.0


def outcomes(outcome: str) -> float:
    metrics.publish()
    return REGISTRY.get_sample_value("hourglass_heartbeat_outcomes_total", {"outcome": outcome}) or 0.0


async def test_a_sound_request_id_comes_back_and_any_other_is_replaced(api: Api) -> None:
    home = await registered_at_noon(api)
    sound = await api.http.get("/profiles", headers={**home.as_player, "X-Request-ID": "4f2:a-b_c.d/1"})
    assert sound.headers["x-request-id"] == "4f2:a-b_c.d/1"
    for broken in ("x" * 65, "two words", 'a"b', "", "é"):
        headers = [(b"authorization", home.as_player["Authorization"].encode()), (b"x-request-id", broken.encode())]
        answer = await api.http.get("/profiles", headers=headers)
        assert len(answer.headers["x-request-id"]) == 16


async def test_a_problem_names_its_request_and_its_trace(api: Api) -> None:
    answer = await api.http.get("/profiles", headers={"X-Request-ID": "abc", "traceparent": TRACEPARENT})
    assert answer.status_code == 401
    assert (answer.json()["request_id"], answer.json()["trace_id"]) == ("abc", TRACE)
    for broken in (TRACEPARENT.upper(), f"00-{'0' * 32}-00f067aa0ba902b7-01", "00-1-2-3", TRACEPARENT + "-more"):
        assert "trace_id" not in (await api.http.get("/profiles", headers={"traceparent": broken})).json()


async def test_a_refused_beat_names_its_request_over_both_ways(site: Site, player: Player, api: Api) -> None:
    client = await site.connect()
    client.send(player.request(b"{", "X-Request-ID: abc", f"traceparent: {TRACEPARENT}"))
    short = await client.answer()
    long = await api.http.post(
        "/viewing-time/heartbeat",
        content=b"{",
        headers={"X-Request-ID": "abc", "traceparent": TRACEPARENT, **player.home.as_player},
    )
    for headers, problem in ((short.headers, short.json), (dict(long.headers), long.json())):
        assert headers["x-request-id"] == "abc"
        assert (problem["request_id"], problem["trace_id"]) == ("abc", TRACE)


async def test_a_beat_brings_its_request_id_back(site: Site, player: Player) -> None:
    client = await site.connect()
    client.send(player.request(player.body(), "X-Request-ID: abc"))
    named = await client.answer()
    client.send(player.request(player.body(session_id=named.json["session_id"]), "X-Request-ID: a b"))
    unsound = await client.answer()
    assert (named.status, named.headers["x-request-id"]) == (200, "abc")
    assert (unsound.status, "x-request-id" in unsound.headers) == (200, False)


async def test_requests_are_measured_by_the_template_of_their_route(api: Api) -> None:
    home = await registered_at_noon(api)
    child = await home.child()
    route = "/api/v1/viewing-time/balance/{profile_id}"
    before = requests(route, "2xx", "GET"), requests(route, "4xx", "GET"), requests("unmatched", "4xx", "GET")
    await api.http.get(f"/viewing-time/balance/{child}", headers=home.as_player)
    await api.http.get(f"/viewing-time/balance/{child}")
    await api.http.get(f"/nowhere/{child}")
    after = requests(route, "2xx", "GET"), requests(route, "4xx", "GET"), requests("unmatched", "4xx", "GET")
    assert after == tuple(number + 1 for number in before)
    assert child not in metrics.render(shared=False).decode()


async def test_beats_are_counted_once_whatever_came_of_them(site: Site, player: Player, api: Api) -> None:
    beat, end = "/api/v1/viewing-time/heartbeat", "/api/v1/viewing-time/session/{session_id}/end"
    before = [
        requests(beat, "2xx"),
        requests(beat, "4xx"),
        requests(end, "2xx"),
        outcomes("counted"),
        outcomes("malformed"),
    ]
    client = await site.connect()
    client.send(player.request(player.body()))
    session = (await client.answer()).json["session_id"]
    client.send(player.request(player.body(session_id=session)))
    await client.answer()
    client.send(player.request(b"{"))
    await client.answer()
    client.send(player.request(b"").replace(beat.encode(), end.format(session_id=session).encode(), 1))
    assert (await client.answer()).status == 200
    gateway = {"beats": [{"profile_id": player.child, "title_id": player.title, "device_id": "tv-2"}]}
    batch = await api.http.post("/viewing-time/heartbeats", json=gateway, headers=player.home.as_player)
    assert batch.json()["results"][0]["enforcement"] == "allowed"
    after = [
        requests(beat, "2xx"),
        requests(beat, "4xx"),
        requests(end, "2xx"),
        outcomes("counted"),
        outcomes("malformed"),
    ]
    assert [now - then for now, then in zip(after, before, strict=True)] == [2, 1, 1, 3, 1]


def lookups() -> dict[str, float]:
    metrics.publish()
    name = "hourglass_policy_lookups_total"
    return {
        source: REGISTRY.get_sample_value(name, {"source": source}) or 0.0
        for source in ("memory", "redis", "postgresql")
    }


async def test_each_need_of_a_policy_is_counted_where_it_was_found(site: Site, player: Player, api: Api) -> None:
    async def found(beats: int) -> dict[str, float]:
        before = lookups()
        for _ in range(beats):
            client.send(player.request(player.body()))
            assert (await client.answer()).status == 200
        return {source: count - before[source] for source, count in lookups().items() if count != before[source]}

    client = await site.connect()
    await found(1)  # the title is known from now on, too
    policies = api.services.viewing.service._policies
    policies.forget(player.child)
    assert await found(1) == {"redis": 1}
    assert await found(3) == {"memory": 3}
    await api.services.redis.flushall()
    policies.forget(player.child)
    assert await found(1) == {"postgresql": 1}


async def test_a_refusal_is_logged_with_its_reason_and_the_account(
    site: Site, player: Player, api: Api, lines: list[Any]
) -> None:
    other = await (await registered_at_noon(api)).child()
    lines.clear()
    client = await site.connect()
    client.send(player.request(player.body(profile_id=other)))
    assert (await client.answer()).status == 403
    await api.http.get(f"/viewing-time/balance/{other}", headers=player.home.as_player)
    assert [line.method_name for line in lines] == ["warning", "warning"]
    for line, route in zip(lines, ("heartbeat", "balance/{profile_id}"), strict=True):
        assert line.args == ("request_refused",)
        facts = line.kwargs
        assert facts["route"] == f"/api/v1/viewing-time/{route}"
        assert (facts["status"], facts["code"]) == (403, "profile_access_denied")
        assert facts["account_id"] == player.home.id
        assert facts["request_id"]
        assert other not in str(facts)


async def test_a_request_without_a_token_is_logged_without_an_account(api: Api, lines: list[Any]) -> None:
    answer = await api.http.get("/profiles", headers={"Authorization": "Bearer secret-token"})
    [line] = lines
    assert (answer.status_code, line.kwargs["code"], line.kwargs["account_id"]) == (401, "unauthenticated", None)
    assert "secret-token" not in str(line)


async def test_probes_and_beats_get_no_line(site: Site, player: Player, api: Api, lines: list[Any]) -> None:
    lines.clear()
    client = await site.connect()
    client.send(player.request(player.body()))
    session = (await client.answer()).json["session_id"]
    await player.home.beat(player.child, player.title, session_id=session)
    await api.http.get("http://test/health/ready")
    await api.http.get("http://test/metrics")
    assert lines == []
    await api.http.get("/profiles", headers=player.home.as_player)
    [line] = lines
    assert (line.method_name, line.args) == ("info", ("request_answered",))
    assert line.kwargs["account_id"] == player.home.id


async def test_a_chosen_beat_is_logged_and_answered_the_same(
    site: Site, player: Player, api: Api, lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.front.access_log, "beat_share", 1.0)
    lines.clear()
    client = await site.connect()  # a connection asks once, when it is made
    client.send(player.request(player.body()))
    assert (await client.answer()).status == 200
    [line] = lines
    assert line.kwargs["route"] == "/api/v1/viewing-time/heartbeat"
    assert (line.kwargs["status"], line.kwargs["account_id"]) == (200, player.home.id)


def test_a_flood_of_refusals_fills_no_disk(lines: list[Any]) -> None:
    at_seconds = [0.0]
    log = AccessLog(share=0, beat_share=0, refusals_a_second=50, seconds=lambda: at_seconds[0])

    def refuse() -> None:
        context = RequestContext(request_id="1")
        log.answered(context, method="GET", route="/", status=401, seconds=0.0, is_chosen=False)

    for _ in range(1000):
        refuse()
    assert len(lines) == 50
    at_seconds[0] = 1.0
    refuse()
    assert lines[50].kwargs == {"count": 950}
    assert len(lines) == 52


def test_a_share_of_requests_gets_a_line() -> None:
    numbers = count()
    log = AccessLog(share=0.25, beat_share=0.0, chance=lambda: next(numbers) % 4 / 4)
    assert sum(log.chooses() for _ in range(100)) == 25
    assert not any(log.chooses_beat() for _ in range(100))
