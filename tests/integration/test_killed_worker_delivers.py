"""The worker is killed in the middle of deliveries. Every event still arrives, in the order of its child."""

import asyncio
import sys
from pathlib import Path
from uuid import uuid4

from app.clock import now_ms
from app.domain.feed import FeedEvent, GrantGiven
from app.embedded.valkey import Valkey
from app.feed.service import number_all
from app.kit.sealing import SecretSeal
from app.postgres_store.engine import create_engine
from app.postgres_store.feed import FeedWriter, PostgresFeed
from app.postgres_store.webhooks import PostgresWebhooks
from app.timestamps import utc
from tests.deployed import SECRETS, Deployed
from tests.receivers import receiving
from tests.rows import Rows
from tests.servers import Databases

NOW = now_ms()
"""The worker removes what is a week old."""
CHILDREN, EVENTS, KILLS = 12, 40, 3


async def test_kills_lose_no_event_and_keep_the_order(postgres: Databases, valkey: Valkey, tmp_path: Path) -> None:
    url = postgres.fresh()
    engine = create_engine(url, pool_size=2, timeout_seconds=20)
    rows, feed = Rows(engine), PostgresFeed(engine)
    account = await rows.account()
    children = [await rows.child(account, at_ms=NOW) for _ in range(CHILDREN)]
    kept = PostgresWebhooks(engine, SecretSeal([SECRETS["HOURGLASS_SESSION_SECRET"].encode()]))
    variables = {
        "DATABASE_URL": url,
        "REDIS_URL": valkey.url,
        "HOURGLASS_EVENT_FEED": "true",
        "HOURGLASS_EVENT_PRIVATE_RECEIVERS": "true",
    }
    async with receiving() as receiver, asyncio.timeout(240):
        await kept.add(str(uuid4()), url=receiver.url, kinds=None, secret=b"s" * 32, at_ms=NOW)
        ids = [event for _ in range(EVENTS) for event in await _happens(rows, children)]
        await number_all(feed)
        with Deployed(tmp_path, variables) as deployed:
            for kill in range(1, KILLS + 1):
                _worker(deployed)
                while len(set(receiver.ids)) < len(ids) * kill // (KILLS + 1):  # noqa: ASYNC110  nobody is told
                    await asyncio.sleep(0.005)
                deployed._processes["worker"].kill()
                deployed._processes["worker"].wait()
            _worker(deployed)
            while len(set(receiver.ids)) < len(ids):  # noqa: ASYNC110  nobody is told
                await asyncio.sleep(0.05)
        assert set(receiver.ids) == set(ids)
        assert {subject: len(seen) for subject, seen in receiver.first_by_subject().items()} == dict.fromkeys(
            children, EVENTS
        )
        assert all(seen == sorted(seen) for seen in receiver.first_by_subject().values())
        repeated = len(receiver.ids) - len(ids)
        assert repeated <= KILLS * 100  # a round at most for each kill
    await engine.dispose()


def _worker(deployed: Deployed) -> None:
    deployed.start("worker", sys.executable, "-m", "app.cli", "worker", PYTHONPATH=str(deployed.source))


async def _happens(rows: Rows, children: list[str]) -> list[str]:
    events = [
        FeedEvent(
            facts=GrantGiven(grant_id=str(uuid4()), day=utc(NOW).date(), minutes=15, is_remote=True),
            cause=(uuid4(),),
            at_ms=NOW,
            profile_id=child,
        )
        for child in children
    ]
    async with rows.engine.begin() as database:
        await FeedWriter(is_on=True).write(database, *events, at_ms=NOW)
    return [event.event_id for event in events]
