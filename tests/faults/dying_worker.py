"""The worker with a failpoint: it kills itself at the end of its first flush, before or after the commit."""

import os
import signal
import sys
from collections.abc import Sequence

import pytest
from sqlalchemy import event

from app import wiring
from app.domain.accounting import Live
from app.postgres_store.usage import PostgresUsage
from workers.flusher import main


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingBeforeTheCommit(PostgresUsage):
    async def upsert(self, entries: Sequence[tuple[str, Live]]) -> None:
        event.listen(self._engine.sync_engine, "commit", die)
        await super().upsert(entries)


class DyingAfterTheCommit(PostgresUsage):
    async def upsert(self, entries: Sequence[tuple[str, Live]]) -> None:
        await super().upsert(entries)
        die()


if __name__ == "__main__":
    dying = {"before-commit": DyingBeforeTheCommit, "after-commit": DyingAfterTheCommit}[sys.argv[1]]
    pytest.MonkeyPatch().setattr(wiring, "PostgresUsage", dying)
    main()
