"""The worker with a failpoint: it kills itself at the end of its first flush, before or after the commit."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence

import pytest
from sqlalchemy import event

from app import wiring
from app.domain.accounting import Live
from app.domain.watermark import NO_MARKS, Mark
from app.postgres_store.usage import PostgresUsage
from workers.flusher import main


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingBeforeTheCommit(PostgresUsage):
    async def upsert(self, entries: Sequence[tuple[str, Live]], marks: Mapping[int, Mark] = NO_MARKS) -> None:
        if entries:
            event.listen(self._engine.sync_engine, "commit", die)
        await super().upsert(entries, marks)


class DyingAfterTheCommit(PostgresUsage):
    async def upsert(self, entries: Sequence[tuple[str, Live]], marks: Mapping[int, Mark] = NO_MARKS) -> None:
        await super().upsert(entries, marks)
        if entries:
            die()


if __name__ == "__main__":
    dying = {"before-commit": DyingBeforeTheCommit, "after-commit": DyingAfterTheCommit}[sys.argv[1]]
    pytest.MonkeyPatch().setattr(wiring, "PostgresUsage", dying)
    main()
