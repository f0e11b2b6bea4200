"""`hourglass events` lists receivers and replays what they did not accept."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from typing import TypeVar
from uuid import uuid4

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from app.cli import app as command_line
from app.clock import now_ms
from app.deployment.errors import CommandError
from app.domain.feed import FeedEvent, GrantGiven
from app.domain.webhooks import DeliveryRound, WaitingDelivery, WebhookReceiver
from app.feed.service import number_all
from app.kit.sealing import SecretSeal
from app.postgres_store import tables
from app.postgres_store.engine import create_engine
from app.postgres_store.feed import FeedWriter, PostgresFeed
from app.postgres_store.webhooks import PostgresWebhooks
from tests.deployed import SECRETS
from tests.rows import Rows
from tests.servers import Databases

Answer = TypeVar("Answer")
RECEIVER = str(uuid4())


class Deployment:
    """A database with three events, of which the receiver has one as a dead letter."""

    def __init__(self, url: str) -> None:
        self._url = url

    def do(self, action: Callable[[Rows, PostgresWebhooks], Awaitable[Answer]]) -> Answer:
        async def done() -> Answer:
            engine = create_engine(self._url, pool_size=2, timeout_seconds=20)
            seal = SecretSeal([SECRETS["HOURGLASS_SESSION_SECRET"].encode()])
            try:
                return await action(Rows(engine), PostgresWebhooks(engine, seal))
            finally:
                await engine.dispose()

        return asyncio.run(done())

    def receiver(self) -> WebhookReceiver:
        return self.do(lambda _, kept: kept.receiver(RECEIVER))


async def _prepare(rows: Rows, kept: PostgresWebhooks) -> None:
    feed, at_ms = PostgresFeed(rows.engine), now_ms()
    await kept.add(RECEIVER, url="https://receiver.example/hook", kinds=None, secret=b"s" * 32, at_ms=at_ms)
    child = await rows.child(await rows.account(), at_ms=at_ms)
    facts = GrantGiven(grant_id=str(uuid4()), day=date(2026, 3, 2), minutes=15, is_remote=True)
    events = [FeedEvent(facts=facts, cause=(number,), at_ms=at_ms, profile_id=child) for number in range(3)]
    async with rows.engine.begin() as database:
        await FeedWriter(is_on=True).write(database, *events, at_ms=at_ms)
    await number_all(feed)
    first, *_ = (await feed.after(0, most=10)).events
    dead = WaitingDelivery(event=first, first_ms=at_ms, attempts=9, error="status_500")
    await kept.keep(RECEIVER, DeliveryRound(position=3, dead=(dead,), is_failing=True), at_ms=at_ms)


@pytest.fixture
def deployment(postgres: Databases, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    url = postgres.fresh()
    variables = {"DATABASE_URL": url, "REDIS_URL": "redis://nowhere", "HOURGLASS_EVENT_FEED": "true", **SECRETS}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    deployment = Deployment(url)
    deployment.do(_prepare)
    return deployment


def _run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command_line, ["events", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.usefixtures("deployment")
def test_receivers_are_listed_without_their_secrets() -> None:
    code, text = _run()
    assert (code, text.strip()) == (
        0,
        f"{RECEIVER} https://receiver.example/hook: enabled, 0 waiting, 1 dead letters, 0 not tried",
    )


def test_dead_letters_and_ranges_are_delivered_once_more(deployment: Deployment) -> None:
    assert _run("--receiver", RECEIVER, "--dead") == (0, "1 events will be delivered once more\n")
    found = deployment.receiver()
    assert (found.waiting, found.dead_letters) == (1, 0)
    assert _run("--receiver", RECEIVER, "--after", "1") == (0, "2 events will be delivered once more\n")
    assert _run("--receiver", RECEIVER, "--after", "0", "--until", "1") == (0, "1 events will be delivered once more\n")
    assert deployment.receiver().waiting == 3


@pytest.mark.usefixtures("deployment")
def test_wrong_use_is_said() -> None:
    assert _run("--dead")[0] == 2
    assert _run("--receiver", RECEIVER)[0] == 2
    assert _run("--receiver", RECEIVER, "--dead", "--after", "1")[0] == 2
    for position in ("-1", str(2**63), "x"):
        assert _run("--receiver", RECEIVER, "--after", position)[0] == 2
        assert _run("--receiver", RECEIVER, "--until", position)[0] == 2
    with pytest.raises(CommandError, match="no such receiver"):
        _run("--receiver", str(uuid4()), "--dead")


def test_a_disabled_receiver_is_shown_as_such(deployment: Deployment) -> None:
    async def disable(rows: Rows, _: PostgresWebhooks) -> None:
        async with rows.engine.begin() as database:
            gone = {"is_enabled": False, "disabled_reason": "gone"}
            await database.execute(update(tables.webhook_receivers).values(**gone))

    deployment.do(disable)
    assert "disabled (gone)" in _run()[1]
