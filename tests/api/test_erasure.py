"""After an erasure no store names the erased profile or account, whatever was running (fault 49)."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
import structlog
from redis.asyncio import Redis
from sqlalchemy import delete, text

from app.auth.tokens import Principal, Role
from app.clock import now_ms
from app.errors import ProfileAccessDenied
from app.http import problems
from app.postgres_store import tables
from app.postgres_store.erasure import PostgresErasure
from app.postgres_store.partitions import make_partitions
from app.timestamps import rfc3339
from app.wiring.worker import WorkerServices, open_worker
from tests.scenes.api import Api, SetClock, opened
from tests.scenes.households import PASSWORD, Household, registered

NAME = "Zerubbabel"
TITLE = "moon-pirates"
PIN = "4711"


@pytest.fixture
def clock() -> SetClock:
    """The present: what a test beats is dated by the server's own clock."""
    return SetClock(now_ms())


@pytest.fixture(autouse=True)
async def _prepared(api: Api) -> None:
    """Nobody is here yet, and there is something to watch."""
    await api.services.redis.flushall()
    async with api.services.engine.begin() as database:
        await database.execute(delete(tables.accounts))
    await make_partitions(api.services.engine, at_ms=api.clock())
    title = [{"id": TITLE, "name": "Moon Pirates", "is_educational": False}]
    answer = await api.signed_in("catalogue", Role.SERVICE).put("/catalog/titles", json=title)
    assert answer.status_code == 200


@pytest.fixture
async def worker(api: Api) -> AsyncIterator[WorkerServices]:
    async with open_worker(api.services.settings, clock=api.clock) as services:
        yield services


def _beat(child: str, **fields: Any) -> dict[str, Any]:
    return {"profile_id": child, "title_id": TITLE, "device_id": f"tv-of-{child}", "device_type": "tv", **fields}


async def _family(api: Api) -> tuple[Household, str]:
    """A family of which everything is kept that can be kept: every table and every key knows it."""
    family = await registered(api)
    child = await family.child(name=NAME)
    controls = f"/parental-controls/profiles/{child}"
    for call in (
        family.player.post("/parental-controls/pin", json={"new_pin": PIN, "password": PASSWORD}),
        family.player.post("/parental-controls/pin/verify", json={"pin": PIN}),
        family.player.post("/auth/devices", json={"name": "phone", "pin": PIN}),
        family.player.post("/viewing-time/heartbeat", json=_beat(child)),
        family.player.post("/viewing-time/heartbeat", json=_beat(child, device_id="another")),
        family.parent.post(f"{controls}/viewing-time/grant", json={"minutes": 15}, headers={"Idempotency-Key": "once"}),
        family.player.post(f"{controls}/requests", json={"minutes": 30, "note": f"{NAME} asks"}),
        family.player.post("/viewing-time/offline-sync", json=_offline(child)),
    ):
        answer = await call
        assert answer.status_code < 300, answer.text
    wrong = await family.player.post("/parental-controls/pin/verify", json={"pin": "0000"})
    assert wrong.status_code == 403
    return family, child


def _offline(child: str) -> dict[str, Any]:
    at_ms = now_ms()
    time_range = {
        "title_id": TITLE,
        "started_at": rfc3339(at_ms - 3_600_000),
        "ended_at": rfc3339(at_ms - 3_000_000),
        "watched_seconds": 600,
    }
    return {
        "profile_id": child,
        "device_id": "pad",
        "batch_id": uuid4().hex,
        "device_now": rfc3339(at_ms),
        "last_server_time": rfc3339(at_ms - 7_200_000),
        "intervals": [time_range],
    }


async def _park(api: Api, child: str) -> None:
    async with api.services.engine.begin() as database:
        await database.execute(
            text("""INSERT INTO parked_rows (profile_id, source, counters, error, parked_at)
                    VALUES (CAST(:child AS uuid), :child || '|x', '{}', 'broken', now())"""),
            {"child": child},
        )


async def _hint(api: Api, child: str) -> None:
    async with api.services.engine.begin() as database:
        await database.execute(
            text("""INSERT INTO tamper_hints (profile_id, day, session_id, kind, device_id, noted_at)
                    VALUES (CAST(:child AS uuid), '2026-03-02', gen_random_uuid(), 'clock_moved', 'tv', now())"""),
            {"child": child},
        )


async def _prepare_report(api: Api, family: Household) -> None:
    """A report as the worker keeps it."""
    async with api.services.engine.begin() as database:
        await database.execute(
            text("""INSERT INTO weekly_reports (account_id, week_ending, report, as_of, changes)
                    SELECT CAST(:account AS uuid), DATE '2026-03-01',
                           jsonb_build_object('children', jsonb_agg(jsonb_build_object(
                               'profile_id', p.id, 'profile_name', p.name))), now(), 0
                      FROM profiles p WHERE p.account_id = CAST(:account AS uuid)"""),
            {"account": family.id},
        )


async def _tables_with(api: Api, *words: str) -> set[str]:
    """The tables, apart from the tombstones, in which any column of any row holds one of the words."""
    found = set()
    async with api.services.engine.connect() as database:
        names = await database.execute(
            text("""SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE n.nspname = 'public' AND c.relkind = 'r'""")
        )
        for name in names.scalars().all():
            for word in words:
                rows = await database.execute(
                    text(f'SELECT count(*) FROM "{name}" t WHERE strpos(t::text, :word) > 0'),  # noqa: S608
                    {"word": word},
                )
                if name != "erasure_tombstones" and rows.scalar_one():
                    found.add(name)
    return found


async def _keys_with(redis: Redis, *words: str) -> set[str]:
    """Keys whose name or contents hold one of the words, without the id in them."""
    found = set()
    async for key in redis.scan_iter():
        dumped = key + b"\n" + repr(await _contents(redis, key)).encode()
        if any(word.encode() in dumped for word in words):
            found.add(key.decode().rpartition("}")[2].split(":")[1])
    return found


async def _contents(redis: Redis, key: bytes) -> Any:
    kind = await redis.type(key)
    if kind == b"none":  # its life ended while we looked
        return None
    if kind == b"string":
        return await redis.get(key)
    if kind == b"hash":
        return await redis.hgetall(key)
    if kind == b"zset":
        return await redis.zrange(key, 0, -1)
    if kind == b"list":
        return await redis.lrange(key, 0, -1)
    assert kind == b"stream", kind
    return await redis.xrange(key)


async def _erase_account(client: httpx.AsyncClient, password: str = PASSWORD) -> httpx.Response:
    return await client.request("DELETE", "/account", json={"password": password})


async def test_an_erased_child_is_nowhere(api: Api, worker: WorkerServices) -> None:
    family, child = await _family(api)
    sister = await family.child(name="Sister")
    await worker.flusher.drain()
    for session in ({}, {"device_id": "a third"}):  # something to flush again
        await family.player.post("/viewing-time/heartbeat", json=_beat(child, **session))
    await _park(api, child)
    await _hint(api, child)
    await _prepare_report(api, family)
    known = await _tables_with(api, child, NAME)
    assert {name.partition("_2")[0] for name in known} == {
        "profiles", "viewing_time_configs", "viewing_time_config_history", "time_grants", "extra_time_requests",
        "idempotency_keys", "viewing_time_balances", "viewing_sessions", "offline_batches", "offline_intervals",
        "parked_rows", "tamper_hints", "audit_log", "weekly_reports",
    }  # fmt: skip
    assert await _keys_with(api.services.redis, child, NAME) == {"live", "dirty", "closed", "policy", "recent"}

    answer = await family.parent.delete(f"/profiles/{child}")

    assert answer.status_code == 200
    counts = answer.json()["counts"]
    unused = {kind for kind, count in counts.items() if not count and not kind.startswith("feed_")}
    assert unused == set(), unused
    assert child not in answer.text
    assert await _keys_with(api.services.redis, child, NAME) == set()
    await worker.flusher.drain()
    assert await _tables_with(api, child, NAME) == set()
    assert await _keys_with(api.services.redis, child, NAME) == set()
    left = await _tables_with(api, sister)
    assert {"profiles", "viewing_time_configs", "weekly_reports"} <= left
    assert [profile["id"] for profile in (await family.player.get("/profiles")).json()] == [sister]


async def test_beats_that_go_on_bring_nothing_back(api: Api, worker: WorkerServices) -> None:
    """Players, a second process, the flush, the sweep and offline sync, all while the child is erased."""
    family, child = await _family(api)
    is_over = asyncio.Event()
    async with opened(api.services.settings, api.clock) as elsewhere:

        async def until_over(call: Callable[[], Awaitable[object]]) -> None:
            while not is_over.is_set():
                await call()
                await asyncio.sleep(0)

        async def until_refused(player: httpx.AsyncClient, path: str, body: Callable[[], object]) -> None:
            while (await player.post(path, json=body())).status_code != 403:
                pass

        players = [family.player, family.player, elsewhere.signed_in(family.id, Role.HOUSEHOLD)]
        working = [asyncio.create_task(until_over(job)) for job in (worker.flusher.drain, worker.sweep)]
        playing = [
            asyncio.create_task(until_refused(player, "/viewing-time/heartbeat", lambda: _beat(child)))
            for player in players
        ]
        playing += [
            asyncio.create_task(until_refused(player, "/viewing-time/offline-sync", lambda: _offline(child)))
            for player in players[1:]
        ]
        await asyncio.sleep(0.5)
        answer = await family.parent.delete(f"/profiles/{child}")
        assert answer.status_code == 200, answer.text
        async with asyncio.timeout(30):
            await asyncio.gather(*playing)
        is_over.set()
        await asyncio.gather(*working)
    for call in (
        family.player.post("/viewing-time/heartbeat", json=_beat(child)),
        family.player.post("/viewing-time/offline-sync", json=_offline(child)),
        family.player.get(f"/viewing-time/balance/{child}"),
        family.parent.get(f"/parental-controls/profiles/{child}/export"),
        family.parent.post(f"/parental-controls/profiles/{child}/viewing-time/grant", json={"minutes": 15}),
    ):
        assert (await call).status_code == 403
    await worker.remove_erased()  # what was under way just then
    await worker.flusher.drain()
    await worker.sweep()
    assert await _tables_with(api, child, NAME) == set()
    assert await _keys_with(api.services.redis, child, NAME) == set()


async def test_an_erased_account_is_nowhere(api: Api, worker: WorkerServices) -> None:
    family, child = await _family(api)
    await family.child(name="Sister")
    await worker.flusher.drain()
    await family.player.post("/viewing-time/heartbeat", json=_beat(child))
    await _prepare_report(api, family)
    neighbours, _ = await _family(api)
    words = (family.id, family.email, child, NAME)
    assert {"accounts", "devices", "lockouts", "audit_log"} <= await _tables_with(api, family.id, family.email)
    assert {"attempts", "unlocks", "policy"} <= await _keys_with(api.services.redis, family.id)

    answer = await _erase_account(family.parent)

    assert answer.status_code == 200, answer.text
    counts = answer.json()["counts"]
    assert (counts["accounts"], counts["profiles"], counts["devices"], counts["lockouts"]) == (1, 2, 1, 1)
    assert not any(word in answer.text for word in words)
    await worker.flusher.drain()
    assert await _tables_with(api, family.id, family.email, child) == set()
    # Quotas of requests end by themselves within a minute.
    assert await _keys_with(api.services.redis, family.id, child) <= {"rate"}
    assert len((await neighbours.player.get("/profiles")).json()) == 1
    again = await api.http.post(
        "/auth/register", json={"email": family.email, "password": PASSWORD, "timezone": "Europe/Oslo"}
    )
    assert again.status_code == 201
    assert again.json()["account_id"] != family.id


async def test_the_tokens_of_an_erased_account_end_everywhere_within_a_second(api: Api) -> None:
    family, child = await _family(api)
    device = await family.player.post("/auth/devices", json={"name": "tablet", "pin": PIN})
    on_device = {"Authorization": f"Bearer {device.json()['token']}"}
    async with opened(api.services.settings, api.clock) as elsewhere:
        second = elsewhere.services
        await asyncio.wait_for(second.viewing.invalidations.subscribed.wait(), 5)
        player = elsewhere.signed_in(family.id, Role.HOUSEHOLD)
        assert (await player.post("/viewing-time/heartbeat", json=_beat(child))).status_code == 200
        assert (await elsewhere.http.get("/profiles", headers=on_device)).status_code == 200
        assert (await _erase_account(family.parent)).status_code == 200
        assert (await family.player.post("/viewing-time/heartbeat", json=_beat(child))).status_code == 401
        async with asyncio.timeout(1):
            while (await player.post("/viewing-time/heartbeat", json=_beat(child))).status_code != 401:
                pass
        assert (await elsewhere.http.get("/profiles", headers=on_device)).status_code == 401
    refresh = {"refresh_token": family.tokens["refresh_token"]}
    assert (await api.http.post("/auth/refresh", json=refresh)).status_code == 401
    login = {"email": family.email, "password": PASSWORD}
    assert (await api.http.post("/auth/login", json=login)).status_code == 401
    async with opened(api.services.settings, api.clock) as later:
        assert (await later.signed_in(family.id).get("/profiles")).status_code == 401


async def test_only_a_parent_who_knows_the_password_erases_an_account(api: Api) -> None:
    family, child = await _family(api)
    assert (await _erase_account(family.player)).json()["code"] == "pin_required"
    wrong = await _erase_account(family.parent, "not the password")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong_password")
    assert (await family.parent.request("DELETE", "/account", json={})).status_code == 422
    assert (await family.parent.delete("/account")).status_code == 422
    assert (await family.player.get(f"/viewing-time/balance/{child}")).status_code == 200


async def test_the_event_stream_of_an_erased_child_ends(api: Api) -> None:
    family, child = await _family(api)
    access = api.services.token_cache.access(Principal(family.id, Role.HOUSEHOLD, 2**40))
    stream = await api.services.viewing.streams.open(access, child, None)
    chunks = stream.events
    assert await anext(chunks) == b": connected\n\n"
    waiting = asyncio.ensure_future(anext(chunks))
    async with asyncio.timeout(10):
        while child not in api.services.viewing.notifier._waiting:  # noqa: ASYNC110  nothing tells when it waits
            await asyncio.sleep(0)
        await family.parent.delete(f"/profiles/{child}")
        with pytest.raises(ProfileAccessDenied):
            await waiting


async def test_what_redis_could_not_be_told_is_removed_later(api: Api, worker: WorkerServices) -> None:
    family, child = await _family(api)
    ledger = PostgresErasure(api.services.engine)
    await ledger.profile(family.id, child, actor="parent", at_ms=api.clock())  # and nobody told Redis
    assert await _keys_with(api.services.redis, child) == {"live", "dirty", "closed", "policy", "recent"}
    await worker.flusher.drain()
    await worker.remove_erased()
    assert await _tables_with(api, child) == set()
    assert await _keys_with(api.services.redis, child) == set()


async def test_a_restored_redis_forgets_by_itself(api: Api, worker: WorkerServices) -> None:
    """Days later, when the worker no longer looks for the erased: what was unflushed meets the tombstone."""
    family, child = await _family(api)
    redis = api.services.redis
    backup = [(key, await redis.dump(key), await redis.pttl(key)) async for key in redis.scan_iter()]
    await family.parent.delete(f"/profiles/{child}")
    api.clock.at_ms += 3 * 86_400_000
    for key, value, life_ms in backup:
        if value is not None:  # a count of requests may have ended its short life
            await redis.restore(key, max(0, life_ms), value, replace=True)
    assert "dirty" in await _keys_with(redis, child)
    beat = await family.player.post("/viewing-time/heartbeat", json=_beat(child))
    assert beat.status_code == 403
    await worker.remove_erased()
    await worker.flusher.drain()
    assert await _tables_with(api, child, NAME) == set()
    left = [key async for key in redis.scan_iter() if child.encode() in key]
    assert {key.split(b":")[2] for key in left} == {b"live", b"policy", b"recent"}
    assert all([0 < await redis.ttl(key) <= 48 * 3600 for key in left])
    assert not {"dirty", "closed"} & await _keys_with(redis, child)


async def test_names_are_in_no_log_and_no_metric(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = io.StringIO()
    configured = structlog.get_config()["processors"]
    log = structlog.wrap_logger(structlog.PrintLogger(lines), processors=configured)
    monkeypatch.setattr(problems, "log", log)
    family, child = await _family(api)
    await family.parent.patch(f"/profiles/{child}", json={"name": f"{NAME} the Second"})
    await family.parent.get("/parental-controls/weekly-report")
    async with api.services.engine.begin() as database:
        await database.execute(text("ALTER TABLE profiles ADD CONSTRAINT two CHECK (name NOT LIKE '%Third') NOT VALID"))
    # Both the library and the server would like to quote the row that is refused.
    answer = await family.parent.post("/profiles", json={"name": f"{NAME} the Third", "is_kids": True})
    async with api.services.engine.begin() as database:
        await database.execute(text("ALTER TABLE profiles DROP CONSTRAINT two"))
    assert answer.status_code == 500
    told = lines.getvalue()
    assert "unexpected_error" in told
    assert "CheckViolation" in told
    assert NAME not in told
    assert NAME not in (await api.http.get("http://test/metrics")).text
