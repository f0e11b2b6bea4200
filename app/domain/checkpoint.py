"""Checkpoints: watermark and generation of each bucket, in Redis and in PostgreSQL.

Before the flush writes rows of a bucket to PostgreSQL, it raises the bucket's watermark in Redis. The rows and the
watermark are then committed together. So Redis holds everything that PostgreSQL holds while its watermark is not lower.
A lower watermark means that Redis came back with older data.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class Checkpoint(msgspec.Struct, frozen=True):
    """A bucket's watermark, and how many times Redis came back older than PostgreSQL."""

    watermark: int = 0
    generation: int = 0

    def covers(self, other: "Checkpoint") -> bool:
        return self.watermark >= other.watermark and self.generation >= other.generation


NO_CHECKPOINTS: Mapping[int, Checkpoint] = MappingProxyType({})


def agreed(found: Checkpoint, *, noted: Checkpoint) -> Checkpoint:
    """What both sides hold from now on, given what Redis was found to hold and what PostgreSQL has noted.

    Where Redis fell behind the generation is raised, so that all counters of older generations are merged with
    PostgreSQL's before they count on.
    """
    generation = max(found.generation, noted.generation)
    if found.watermark < noted.watermark:
        return Checkpoint(noted.watermark, generation + 1)
    return Checkpoint(found.watermark, generation)
