"""A worker with a failpoint: it kills itself in its first flush, before or after the commit."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence

import pytest
from sqlalchemy import event

from app.domain.checkpoint import NO_CHECKPOINTS, Checkpoint
from app.domain.counters import Counters
from app.postgres_store.usage import PostgresUsage
from app.wiring import worker
from workers.scheduler import main


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingBeforeTheCommit(PostgresUsage):
    async def upsert(
        self, entries: Sequence[tuple[str, Counters]], marks: Mapping[int, Checkpoint] = NO_CHECKPOINTS
    ) -> None:
        if entries:
            event.listen(self._engine.sync_engine, "commit", die)
        await super().upsert(entries, marks)


class DyingAfterTheCommit(PostgresUsage):
    async def upsert(
        self, entries: Sequence[tuple[str, Counters]], marks: Mapping[int, Checkpoint] = NO_CHECKPOINTS
    ) -> None:
        await super().upsert(entries, marks)
        if entries:
            die()


if __name__ == "__main__":
    dying = {"before-commit": DyingBeforeTheCommit, "after-commit": DyingAfterTheCommit}[sys.argv[1]]
    pytest.MonkeyPatch().setattr(worker, "PostgresUsage", dying)
    main()
