"""How large a deployment must be for so many viewers, from what was measured (docs/reference/performance.md)."""

import math

import msgspec

API_US, REDIS_US, WORKER_US, POSTGRES_US = 50, 26, 6, 8
"""Processor time of a heartbeat in each part, all on one machine, with 47 heartbeats in a script call."""
CLUSTER_API_FACTOR, CLUSTER_REDIS_FACTOR = 1.8, 2.0
"""How much more a heartbeat costs on a cluster, where calls are split by node: the API 1.4 on 3 masters and 1.7 to 2.2
on 6, Redis 2.0 and 3.0 to 3.7, with 12 and 5 heartbeats in a call. Larger deployments have more of them in a call."""
REDIS_BYTES = 368 + 240 + 100
"""A viewer in Redis: counters, mark of what is unflushed, shared policy, key space."""
API_BYTES, API_BASE_BYTES = 394, 91_000_000
"""A viewer in each API process that has met it, and the process by itself."""
ROW_BYTES = 240
"""A balance or a session with its share of the indexes: 63.5 million rows took 15 GB."""
REQUEST_BYTES, ANSWER_BYTES = 700, 550
BUSY = 0.6
"""How busy a processor may be on average, so that the 99th percentile stays where it was measured."""
FORK = 2.0
"""Redis writes its file from a fork, whose memory may grow to that of its parent."""
SESSIONS_A_DAY = 3
FLUSHER_ROWS_PER_SECOND = 69_249
"""What one worker writes at most; only one flushes."""
FLUSHED_EVERY_SECONDS = 60
PRESET_CACHE_ENTRIES = 600_000
"""Policies and tokens that an API process remembers, unless its settings say otherwise."""
CACHE_HEADROOM = 1.2
PROXY_BITS_PER_SECOND = 1_000_000_000
_SECOND_US = 1_000_000
_CONNECTIONS_OF_WORKERS = 12
_LEAST_PROCESSES = 2
_LEAST_MASTERS = 3


class Assumptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a deployment, beside its viewers.

    ``children`` are all who have a profile; ``viewers`` of them watch at the same time.
    """

    viewers: int
    children: int
    beat_interval_seconds: int = 30
    pool: int = 5
    session_days: int = 90
    balance_days: int = 365


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed, for all deployments together; the memory is that of one process or server.

    ``deployments``: each flushes with one worker. ``cache_entries``: of an API process.
    """

    deployments: int
    cache_entries: int
    beats_per_second: float
    api_processes: int
    api_bytes: int
    redis_masters: int
    redis_cores: float
    redis_bytes: int
    postgres_cores: float
    postgres_connections: int
    disk_bytes: int
    rows_per_second: float
    worker_cores: float
    in_bits_per_second: float
    out_bits_per_second: float

    @property
    def needs_cluster(self) -> bool:
        return self.redis_masters > 1


def size(asked: Assumptions) -> Size:
    """The size of a deployment. One Redis counts on one core; where that is too little, a cluster has several."""
    beats = asked.viewers / asked.beat_interval_seconds
    redis_cores = beats * REDIS_US / _SECOND_US
    api_cores = beats * API_US / _SECOND_US
    masters = 1
    if redis_cores > BUSY:
        redis_cores *= CLUSTER_REDIS_FACTOR
        api_cores *= CLUSTER_API_FACTOR
        masters = max(_LEAST_MASTERS, math.ceil(redis_cores / BUSY))
    processes = max(_LEAST_PROCESSES, math.ceil(api_cores / BUSY))
    rows = asked.children * (asked.balance_days + SESSIONS_A_DAY * asked.session_days)
    rows_per_second = asked.viewers / FLUSHED_EVERY_SECONDS
    deployments = max(1, math.ceil(rows_per_second / (FLUSHER_ROWS_PER_SECOND * BUSY)))
    viewers = math.ceil(asked.viewers / deployments)  # a player may meet any process of its deployment
    return Size(
        deployments=deployments,
        cache_entries=max(PRESET_CACHE_ENTRIES, math.ceil(viewers * CACHE_HEADROOM)),
        beats_per_second=beats,
        api_processes=processes,
        api_bytes=API_BASE_BYTES + API_BYTES * viewers,
        redis_masters=masters,
        redis_cores=redis_cores,
        redis_bytes=int(REDIS_BYTES * asked.viewers * FORK / masters),
        postgres_cores=beats * POSTGRES_US / _SECOND_US / BUSY,
        postgres_connections=processes * asked.pool + _CONNECTIONS_OF_WORKERS,
        disk_bytes=rows * ROW_BYTES,
        rows_per_second=rows_per_second,
        worker_cores=beats * WORKER_US / _SECOND_US / BUSY,
        in_bits_per_second=beats * REQUEST_BYTES * 8,
        out_bits_per_second=beats * ANSWER_BYTES * 8,
    )


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is full at a number of viewers, and what to do then."""

    what: str
    viewers: int
    remedy: str


def limits(*, beat_interval_seconds: int = 30) -> list[Limit]:
    """What is full first, as viewers grow. A share of ``BUSY`` of a processor or of a worker counts as full."""
    redis = BUSY * _SECOND_US / REDIS_US * beat_interval_seconds
    flusher = BUSY * FLUSHER_ROWS_PER_SECOND * FLUSHED_EVERY_SECONDS
    proxy = PROXY_BITS_PER_SECOND / (REQUEST_BYTES * 8) * beat_interval_seconds
    found = (
        Limit(
            what=f"what an API process remembers: {PRESET_CACHE_ENTRIES:,} policies and tokens",
            viewers=int(PRESET_CACHE_ENTRIES / CACHE_HEADROOM),
            remedy="`HOURGLASS_POLICY_CACHE_SIZE`, `HOURGLASS_TOKEN_CACHE_SIZE`",
        ),
        Limit(what=f"one Redis, at {REDIS_US} µs a heartbeat", viewers=int(redis), remedy="a cluster"),
        Limit(
            what=f"the worker that flushes, at {FLUSHER_ROWS_PER_SECOND:,} rows a second",
            viewers=int(flusher),
            remedy="a second deployment",
        ),
        Limit(
            what=f"one proxy with {PROXY_BITS_PER_SECOND // 10**9} Gbit/s, before TLS",
            viewers=int(proxy),
            remedy="more proxies",
        ),
    )
    return sorted(found, key=lambda limit: limit.viewers)
