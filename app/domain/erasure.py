"""What an erasure removes, and what it leaves: a receipt."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class ErasureReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """Proof of an erasure without personal data: how many rows of each kind are gone."""

    erased_at_ms: int
    counts: Mapping[str, int]


class Erased(msgspec.Struct, frozen=True):
    """The ids of profiles and accounts that were erased."""

    profile_ids: tuple[str, ...] = ()
    account_ids: tuple[str, ...] = ()


class RewriteProgress(StrEnum):
    """The state of rewriting a server's append-only file."""

    NO_FILE = "no_file"
    RUNNING = "running"
    FAILED = "failed"
    IDLE = "idle"
    """The last one ended well, or there was none."""


class FilesState(msgspec.Struct, frozen=True):
    """The append-only files of all servers, and which runs of which servers these are."""

    progress: RewriteProgress
    servers: str


class RewriteNote(msgspec.Struct, frozen=True, kw_only=True):
    """When (ms) servers were asked for a rewrite, 0 for not now, and up to when erasures have left their files."""

    servers: str
    covered_ms: int = 0
    began_ms: int = 0
