"""Webhooks against real receivers: at least once, in order, signed, and each receiver apart from the others."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import delete, select, text

from app.domain.feed import ConfigChanged, FeedEvent, GrantGiven
from app.domain.webhooks import GIVE_UP_MS, ROTATION_MS, SECRET_BYTES, secret_text
from app.errors import NotFound
from app.feed import delivery as delivery_module
from app.feed import sender as sender_module
from app.feed.delivery import Deliverer
from app.feed.sender import HttpSender
from app.feed.service import number_all
from app.kit.sealing import SecretSeal
from app.postgres_store import tables
from app.postgres_store.engine import create_engine
from app.postgres_store.erasure import PostgresErasure
from app.postgres_store.feed import FeedWriter, PostgresFeed
from app.postgres_store.webhooks import PostgresWebhooks
from tests.receivers import OK, Receiver, is_signed, receiving, status
from tests.rows import Rows

NOON = 1_772_452_800_000
FEED = FeedWriter(is_on=True)
HOUR = 3_600_000


class _Lock:
    """This process delivers."""

    async def is_ours(self) -> bool:
        return True


class Scene:
    """A family whose events are delivered, at an instant of the test's."""

    def __init__(self, rows: Rows, account: str) -> None:
        self.rows = rows
        self.account = account
        self.at_ms = NOON
        self.kept = PostgresWebhooks(rows.engine, SecretSeal([b"s" * 32]))
        self.sender = HttpSender(private_allowed=True, total_seconds=2)
        self.secrets: dict[str, str] = {}
        self.restart()

    def restart(self) -> None:
        """A worker that remembers nothing."""
        feed = PostgresFeed(self.rows.engine)
        self.deliverer = Deliverer(feed, self.kept, self.sender, lock=_Lock(), clock=lambda: self.at_ms)

    async def add(self, receiver: Receiver | str, kinds: list[str] | None = None) -> str:
        receiver_id, secret = str(uuid4()), uuid4().bytes * (SECRET_BYTES // 16)
        url = receiver if isinstance(receiver, str) else receiver.url
        await self.kept.add(receiver_id, url=url, kinds=kinds, secret=secret, at_ms=self.at_ms)
        self.secrets[receiver_id] = secret_text(secret)
        return receiver_id

    async def child(self) -> str:
        return await self.rows.child(self.account, at_ms=NOON)

    async def happens(self, child: str, count: int = 1) -> list[str]:
        """Events of a child; their ids."""
        events = [
            FeedEvent(
                facts=GrantGiven(grant_id=str(uuid4()), day=date(2026, 3, 2), minutes=15, is_remote=True),
                cause=(uuid4(),),
                at_ms=self.at_ms,
                profile_id=child,
            )
            for _ in range(count)
        ]
        async with self.rows.engine.begin() as database:
            await FEED.write(database, *events, at_ms=self.at_ms)
        await number_all(PostgresFeed(self.rows.engine))
        return [event.event_id for event in events]

    async def run(self) -> None:
        """A tick, and the end of the runs that it has started."""
        await self.deliverer.tick()
        await asyncio.wait_for(asyncio.gather(*self.deliverer._running.values()), 60)

    def later(self, ms: int) -> None:
        """Time passes, also for pauses after failures."""
        self.at_ms += ms
        for circuit in self.deliverer._circuits.values():
            circuit.paused_until_ms = 0

    async def state(self, receiver_id: str) -> tuple[int, int, int]:
        """How many wait, are dead letters, and were not tried yet."""
        found = await self.kept.receiver(receiver_id)
        return found.waiting, found.dead_letters, found.behind


@pytest.fixture(scope="module")
async def rows(database_url: str) -> AsyncIterator[Rows]:
    engine = create_engine(database_url, pool_size=6, timeout_seconds=20)
    yield Rows(engine)
    await engine.dispose()


@pytest.fixture
async def scene(rows: Rows) -> AsyncIterator[Scene]:
    async with rows.engine.begin() as database:
        await database.execute(delete(tables.webhook_receivers))
    scene = Scene(rows, await rows.account())
    yield scene
    await scene.deliverer.close()
    await scene.sender.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


async def test_events_arrive_signed_in_the_order_of_each_child(scene: Scene, receiver: Receiver) -> None:
    receiver_id = await scene.add(receiver)
    children = [await scene.child() for _ in range(5)]
    ids = [event for _ in range(6) for child in children for event in await scene.happens(child)]
    await scene.run()
    assert sorted(receiver.ids) == sorted(ids)
    for child in children:
        sequences = [event["sequence"] for event in receiver.events if event["subject"] == child]
        assert sequences == sorted(sequences)
        assert len(sequences) == 6
    headers, body = receiver.got[0]
    assert is_signed(headers, body, scene.secrets[receiver_id])
    assert not is_signed(headers, body + b" ", scene.secrets[receiver_id])
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["webhook-timestamp"] == str(NOON // 1000)
    assert headers["host"] == receiver.url.split("/")[2]
    assert await scene.state(receiver_id) == (0, 0, 0)
    await scene.run()
    assert len(receiver.got) == len(ids)


async def test_a_receiver_gets_what_it_asked_for_and_nothing_from_before(scene: Scene, receiver: Receiver) -> None:
    child = await scene.child()
    await scene.happens(child)
    receiver_id = await scene.add(receiver, kinds=["config.changed"])
    await scene.happens(child)
    changed = FeedEvent(facts=ConfigChanged(version=2, changed=()), cause=(child, 2), at_ms=NOON, profile_id=child)
    async with scene.rows.engine.begin() as database:
        await FEED.write(database, changed, at_ms=NOON)
    await number_all(PostgresFeed(scene.rows.engine))
    await scene.run()
    assert [event["type"] for event in receiver.events] == ["hourglass.config.changed"]
    assert await scene.state(receiver_id) == (0, 0, 0)


async def test_an_event_that_fails_holds_its_own_child_alone(scene: Scene, receiver: Receiver) -> None:
    await scene.add(receiver)
    child, sister = await scene.child(), await scene.child()
    bad, *after = await scene.happens(child, 3)
    others = await scene.happens(sister, 3)
    receiver.answer = lambda event: status(500) if event["id"] == bad else OK
    await scene.run()
    assert sorted(receiver.ids) == sorted([bad, *others])
    after += await scene.happens(child)
    receiver.answer = lambda _: OK
    await scene.run()
    assert receiver.ids[4:] == []  # not due yet
    scene.later(7_000)
    await scene.run()
    assert receiver.ids[4:] == [bad, *after]
    assert receiver.ids[4] == bad


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(500), "status_500"),
        (status(404), "status_404"),
        (status(301, "Location: http://127.0.0.1:1/"), "status_301"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\nConnection: close", "broken_answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\nshort", "broken_answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\nConnection: close\r\n\r\n", "broken_answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\nConnection: close", "broken_answer"),
        (None, "timeout"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", "timeout"),
    ],
    ids=["500", "404", "redirect", "not http", "short", "bad length", "huge head", "hangs", "body hangs"],
)
async def test_what_is_no_acceptance_is_tried_again(
    scene: Scene, receiver: Receiver, answer: bytes | None, error: str
) -> None:
    receiver_id = await scene.add(receiver)
    (event,) = await scene.happens(await scene.child())
    receiver.answer = lambda _: answer
    await scene.run()
    (waiting,) = await scene.kept.waiting(receiver_id, most=10)
    assert (waiting.error, waiting.attempts) == (error, 1)
    assert 4_000 <= waiting.next_ms - scene.at_ms <= 6_000
    assert (await scene.kept.receiver(receiver_id)).failing_since_ms == NOON
    receiver.answer = lambda _: OK
    scene.later(7_000)
    await scene.run()
    assert receiver.ids == [event, event]
    assert (await scene.kept.receiver(receiver_id)).failing_since_ms is None


async def test_a_long_answer_is_cut_off_and_counts_by_its_status(scene: Scene, receiver: Receiver) -> None:
    receiver_id = await scene.add(receiver)
    await scene.happens(await scene.child())
    receiver.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 1_000_000
    await scene.run()
    assert await scene.state(receiver_id) == (0, 0, 0)


async def test_a_redirect_is_not_followed(scene: Scene, receiver: Receiver) -> None:
    async with receiving() as target:
        await scene.add(receiver)
        await scene.happens(await scene.child())
        receiver.answer = lambda _: status(307, f"Location: {target.url}")
        await scene.run()
        assert (len(receiver.got), target.connections) == (1, 0)


async def test_a_receiver_that_hangs_delays_no_other(scene: Scene, receiver: Receiver) -> None:
    async with receiving() as hanging:
        hanging.answer = lambda _: None
        await scene.add(hanging)
        await scene.add(receiver)
        ids = [event for _ in range(30) for event in await scene.happens(await scene.child())]
        await scene.deliverer.tick()
        async with asyncio.timeout(10):
            while len(receiver.got) < len(ids):  # noqa: ASYNC110  the receiver signals nobody
                await asyncio.sleep(0.02)
        assert 0 < len(hanging.got) <= 8
        assert sorted(receiver.ids) == sorted(ids)


async def test_the_circuit_opens_and_one_attempt_closes_it(scene: Scene, receiver: Receiver) -> None:
    receiver_id = await scene.add(receiver)
    ids = [event for _ in range(40) for event in await scene.happens(await scene.child())]
    receiver.answer = lambda _: status(503)
    await scene.run()
    tried = len(receiver.got)
    assert 5 <= tried <= 12  # eight at once
    await scene.run()
    assert len(receiver.got) == tried  # paused
    scene.later(10_000)
    await scene.run()
    assert len(receiver.got) == tried + 1
    await scene.happens(await scene.child(), 3)
    receiver.answer = lambda _: OK
    scene.later(10 * 60_000)
    await scene.run()
    assert await scene.state(receiver_id) == (0, 0, 0)
    assert set(ids) <= set(receiver.ids)


async def test_a_receiver_says_when_to_come_back(scene: Scene, receiver: Receiver) -> None:
    receiver_id = await scene.add(receiver)
    await scene.happens(await scene.child())
    receiver.answer = lambda _: status(429, "Retry-After: 120")
    await scene.run()
    (waiting,) = await scene.kept.waiting(receiver_id, most=10)
    assert waiting.next_ms == scene.at_ms + 120_000
    receiver.answer = lambda _: OK
    scene.later(60_000)
    await scene.run()
    assert len(receiver.got) == 1
    scene.later(60_000)
    await scene.run()
    assert len(receiver.got) == 2


async def test_a_new_address_and_secret_are_in_force_amid_a_backlog(scene: Scene, receiver: Receiver) -> None:
    receiver_id = await scene.add(receiver)
    ids = await scene.happens(await scene.child(), 3)
    arrived = asyncio.Event()
    receiver.answer = lambda _: arrived.set()
    await scene.deliverer.tick()
    await asyncio.wait_for(arrived.wait(), 10)
    async with receiving() as other:
        await scene.kept.change(receiver_id, {"url": other.url})
        await scene.kept.rotate(receiver_id, secret=b"n" * SECRET_BYTES, at_ms=scene.at_ms)
        [run] = scene.deliverer._running.values()
        await scene.deliverer.tick()
        await asyncio.wait([run], timeout=1)
        assert run.cancelled()
        await scene.run()
        assert (receiver.ids, other.ids) == (ids[:1], ids)
        assert all(is_signed(headers, body, secret_text(b"n" * SECRET_BYTES)) for headers, body in other.got)
    assert await scene.state(receiver_id) == (0, 0, 0)


async def test_a_new_address_does_not_wait_for_the_pause_of_the_one_before(scene: Scene, receiver: Receiver) -> None:
    receiver_id = await scene.add(receiver)
    receiver.answer = lambda _: status(500)
    for _ in range(6):
        await scene.happens(await scene.child())
    await scene.run()
    assert scene.deliverer._circuits[receiver_id].is_open
    async with receiving() as other:
        await scene.kept.change(receiver_id, {"url": other.url})
        ids = await scene.happens(await scene.child())
        await scene.run()
        assert other.ids[-1:] == ids


async def test_a_receiver_that_is_gone_gets_nothing_until_it_is_enabled(scene: Scene, receiver: Receiver) -> None:
    receiver_id = await scene.add(receiver)
    child = await scene.child()
    ids = await scene.happens(child, 3)
    receiver.answer = lambda _: status(410)
    await scene.run()
    found = await scene.kept.receiver(receiver_id)
    assert (found.is_enabled, found.disabled_reason, len(receiver.got)) == (False, "gone", 1)
    ids += await scene.happens(child)
    scene.later(HOUR)
    await scene.run()
    assert len(receiver.got) == 1
    receiver.answer = lambda _: OK
    await scene.kept.change(receiver_id, {"is_enabled": True})
    await scene.run()
    assert receiver.ids[1:] == ids


async def test_an_event_is_a_dead_letter_after_three_days_and_can_be_replayed(scene: Scene, receiver: Receiver) -> None:
    receiver_id = await scene.add(receiver)
    child = await scene.child()
    bad, after = await scene.happens(child, 2)
    receiver.answer = lambda event: status(500) if event["id"] == bad else OK
    await scene.run()
    scene.later(GIVE_UP_MS - 1)
    await scene.run()
    assert await scene.state(receiver_id) == (2, 0, 0)
    scene.later(2 * HOUR)
    await scene.run()
    assert await scene.state(receiver_id) == (0, 1, 0)
    assert receiver.ids == [bad, bad, bad, after]
    await scene.run()
    receiver.answer = lambda _: OK
    assert await scene.kept.replay_dead(receiver_id, at_ms=scene.at_ms) == 1
    later = await scene.happens(child)
    await scene.run()
    assert receiver.ids[4:] == [bad, *later]
    assert await scene.state(receiver_id) == (0, 0, 0)


async def test_a_range_is_replayed_with_the_same_ids_in_order(scene: Scene, receiver: Receiver) -> None:
    receiver_id = await scene.add(receiver)
    start = (await scene.kept.receiver(receiver_id)).position
    ids = await scene.happens(await scene.child(), 5)
    await scene.run()
    assert await scene.kept.replay_range(receiver_id, after=start + 1, until=start + 99, at_ms=scene.at_ms) == 4
    await scene.run()
    assert receiver.ids == [*ids, *ids[1:]]
    with pytest.raises(NotFound):
        await scene.kept.replay_dead(str(uuid4()), at_ms=0)


async def test_a_crash_between_sending_and_keeping_sends_again_and_loses_nothing(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.add(receiver)
    children = [await scene.child() for _ in range(4)]
    ids = [event for _ in range(5) for child in children for event in await scene.happens(child)]

    async def killed(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(scene.kept, "keep", killed)
        with contextlib.suppress(asyncio.CancelledError):
            await scene.run()
    assert len(receiver.got) == len(ids)
    scene.restart()
    await scene.run()
    assert set(receiver.ids) == set(ids)
    assert len(receiver.got) == 2 * len(ids)
    assert all(sequences == sorted(sequences) for sequences in receiver.first_by_subject().values())


async def test_a_removed_receiver_gets_nothing_and_keeps_no_connection(scene: Scene, receiver: Receiver) -> None:
    async with receiving() as other:
        removed = await scene.add(other)
        await scene.add(receiver)
        child = await scene.child()
        await scene.happens(child)
        await scene.run()
        await scene.kept.remove(removed)
        await scene.happens(child)
        await scene.run()
        assert (len(receiver.got), len(other.got)) == (2, 1)
        assert set(scene.sender._clients) == {receiver.url}


async def test_two_secrets_sign_for_a_day_after_a_rotation(scene: Scene, receiver: Receiver) -> None:
    receiver_id = await scene.add(receiver)
    child, old, new = await scene.child(), scene.secrets[receiver_id], b"n" * SECRET_BYTES
    await scene.kept.rotate(receiver_id, secret=new, at_ms=scene.at_ms)
    for after_ms in (0, ROTATION_MS - 1, 1):
        scene.later(after_ms)
        await scene.happens(child)
        await scene.run()
    signed = [(is_signed(*each, old), is_signed(*each, secret_text(new))) for each in receiver.got]
    assert signed == [(True, True), (True, True), (False, True)]


async def test_secrets_survive_the_rotation_of_what_seals_them(scene: Scene, receiver: Receiver) -> None:
    receiver_id = await scene.add(receiver)
    engine = scene.rows.engine
    between = PostgresWebhooks(engine, SecretSeal([b"t" * 32, b"s" * 32]))
    secret = (await between.receiver(receiver_id)).secret
    assert (await PostgresWebhooks(engine, SecretSeal([b"t" * 32])).receiver(receiver_id)).secret == secret
    lost = await PostgresWebhooks(engine, SecretSeal([b"u" * 32])).receiver(receiver_id)
    assert (lost.is_enabled, lost.disabled_reason) == (False, "secret_unreadable")
    async with engine.connect() as database:
        sealed = (await database.execute(select(tables.webhook_receivers.c.sealed_secret))).scalar_one()
    assert secret not in sealed


async def test_what_was_erased_is_not_delivered(scene: Scene, receiver: Receiver) -> None:
    receiver_id = await scene.add(receiver)
    child = await scene.child()
    await scene.happens(child, 3)
    receiver.answer = lambda _: status(500)
    await scene.run()
    await PostgresErasure(scene.rows.engine, feed=FEED).profile(scene.account, child, actor="p", at_ms=NOON)
    await number_all(PostgresFeed(scene.rows.engine))
    receiver.answer = lambda _: OK
    scene.later(HOUR)
    await scene.run()
    assert [event["type"] for event in receiver.events[1:]] == ["hourglass.profile.erased"]
    assert await scene.state(receiver_id) == (0, 0, 0)


async def test_many_waiting_events_stop_the_reading_of_the_feed(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "MAX_WAITING", 20)
    monkeypatch.setattr(delivery_module, "BATCH", 10)
    receiver_id = await scene.add(receiver)
    ids = await scene.happens(await scene.child(), 60)
    receiver.answer = lambda _: status(500)
    await scene.run()
    waiting, _, behind = await scene.state(receiver_id)
    assert (waiting, behind) == (20, 40)
    receiver.answer = lambda _: OK
    scene.later(HOUR)
    await scene.run()
    assert receiver.ids[1:] == ids


# --- where a request may go


async def _attempted(url: str, **settings: Any) -> str | None:
    sender = HttpSender(**({"private_allowed": False, "total_seconds": 1} | settings))
    try:
        return (await sender.send(url, body=b"{}", headers={}, at_ms=NOON)).error
    finally:
        await sender.close()


async def test_no_request_goes_to_a_private_address(receiver: Receiver) -> None:
    port = receiver.url.split(":")[2].split("/")[0]
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1"):  # noqa: S104
        assert await _attempted(f"http://{host}:{port}/") in {"private_address", "network", "name_not_resolved"}, host
    assert receiver.connections == 0
    assert await _attempted(receiver.url, private_allowed=True) is None


async def test_a_name_that_changes_its_address_leads_nowhere_private(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name answers a public address when it is checked, and a private one afterwards."""
    answers = iter([["192.88.99.1"]])
    monkeypatch.setattr(sender_module, "_resolved", lambda *_: next(answers, ["127.0.0.1"]))
    port = receiver.url.split(":")[2].split("/")[0]
    assert await _attempted(f"http://rebinding.example:{port}/") in {"timeout", "not_connected", "network"}
    assert await _attempted(f"http://rebinding.example:{port}/") == "private_address"
    assert receiver.connections == 0


async def test_proxies_of_the_environment_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert await _attempted(receiver.url, private_allowed=True) is None


Certificate = Callable[[str], Awaitable[tuple[ssl.SSLContext, Path]]]


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[[str], tuple[ssl.SSLContext, Path]]:
    """Makes a certificate for a name that signs itself."""

    def make(name: str) -> tuple[ssl.SSLContext, Path]:
        key, found = tmp_path / f"{name}.key", tmp_path / f"{name}.pem"
        subprocess.run(  # noqa: S603
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
                *("-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(found)),
            ],
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(found, key)
        return context, found

    return make


async def test_certificates_are_verified_for_the_name(
    certificate: Callable[[str], tuple[ssl.SSLContext, Path]],
) -> None:
    for name, trusted, error in (
        ("localhost", True, None),
        ("localhost", False, "tls"),
        ("elsewhere.example", True, "tls"),
    ):
        context, file = certificate(name)
        async with receiving(tls=context) as receiver:
            ca_file = file if trusted else None
            assert await _attempted(receiver.url, private_allowed=True, ca_file=ca_file) == error
            assert len(receiver.got) == (0 if error else 1)


async def test_a_slow_receiver_delays_no_transaction(scene: Scene, receiver: Receiver) -> None:
    """While all deliveries hang, no connection to the database is held."""
    receiver.answer = lambda _: None
    await scene.add(receiver)
    for _ in range(8):
        await scene.happens(await scene.child())
    await scene.deliverer.tick()
    async with asyncio.timeout(10):
        while len(receiver.got) < 8:  # noqa: ASYNC110  the receiver signals nobody
            await asyncio.sleep(0.02)
    open_ones = (
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' OR wait_event_type = 'Lock'"
    )
    async with scene.rows.engine.connect() as database:
        assert (await database.execute(text(open_ones))).scalar_one() == 0
