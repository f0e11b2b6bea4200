"""Explanations of the findings of `hourglass doctor`, with corrections."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """Why a finding matters, and how to correct it."""

    why: str
    fix: str


EXPLANATIONS: Mapping[str, Explanation] = {
    "Redis": Explanation(
        "Without it no heartbeat is counted. Players continue for their lease.",
        "Start the server, or correct REDIS_URL (address, user, password).",
    ),
    "PostgreSQL": Explanation(
        "Without it only cached children continue. Nothing is flushed, and parents cannot change anything.",
        "Start the server, or correct DATABASE_URL (address, database, user, password).",
    ),
    "Redis version": Explanation("Older servers lack commands that the scripts use.", "Upgrade Redis."),
    "Valkey version": Explanation("Older servers lack commands that the scripts use.", "Upgrade Valkey."),
    "append-only file": Explanation(
        "Unflushed counters are lost when the server stops.",
        "CONFIG SET appendonly yes, and the same in its configuration file.",
    ),
    "written": Explanation(
        "A power cut loses the time counted since the last write to disk.",
        "CONFIG SET appendfsync everysec, and the same in its configuration file.",
    ),
    "last write": Explanation(
        "The append-only file cannot be written: the server refuses heartbeats.",
        "Read the server's log; usually its disk is full.",
    ),
    "eviction": Explanation(
        "When memory is full the server deletes counters.",
        "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file.",
    ),
    "snapshots": Explanation(
        "Snapshots fork the server in addition to the append-only file and are not needed.",
        'CONFIG SET save "", and the same in its configuration file.',
    ),
    "Redis clock": Explanation(
        "Redis dates usage; viewing days would begin at the wrong time.",
        "Run chrony or systemd-timesyncd on both hosts.",
    ),
    "PostgreSQL clock": Explanation(
        "PostgreSQL dates rows, and this host dates tokens.",
        "Run chrony or systemd-timesyncd on both hosts.",
    ),
    "Redis connections": Explanation(
        "With too few connections processes wait for each other, and heartbeats get 503.",
        "Raise maxclients of the server, or lower HOURGLASS_REDIS_CONNECTIONS or HOURGLASS_WORKERS.",
    ),
    "PostgreSQL connections": Explanation(
        "Processes without a connection cannot start or answer parents.",
        "Raise max_connections, put PgBouncer in front, or lower HOURGLASS_DATABASE_POOL or HOURGLASS_WORKERS.",
    ),
    "PostgreSQL version": Explanation("Older servers lack features that the statements use.", "Upgrade PostgreSQL."),
    "schema": Explanation(
        "Code and schema must fit; processes refuse to start otherwise.",
        "Run hourglass migrate of the newest version in use, or upgrade Hourglass.",
    ),
    "dead letters": Explanation(
        "PostgreSQL refused these rows: that time is missing from the children's history.",
        "Read the column error of table parked_rows; correct the cause, then insert the rows by hand or delete them.",
    ),
    "synchronous_commit": Explanation(
        "PostgreSQL may lose rows that it has confirmed and that Redis has already removed.",
        "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf();",
    ),
    "worker": Explanation(
        "Without it usage stays in Redis: history and reports are not updated, and memory grows.",
        "Start hourglass worker; its /health/ready names the failing job or server.",
    ),
    "cluster": Explanation(
        "Some slots have no master: their children get 503.", "redis-cli --cluster fix, or start the missing nodes."
    ),
    "slots served": Explanation(
        "Children of the other slots get 503.", "Start the missing masters, or let their replicas take over."
    ),
    "full coverage required": Explanation(
        "One master that is away stops every child.",
        "CONFIG SET cluster-require-full-coverage no on every node, and the same in its configuration file.",
    ),
    "replicas": Explanation(
        "Without a replica its children get 503 until the master is back.",
        "Add a replica for each master, on another host.",
    ),
    "buckets": Explanation(
        "Masters without a bucket are idle.",
        "HOURGLASS_BUCKETS is fixed for the life of a deployment; use fewer masters.",
    ),
    "Sentinels": Explanation(
        "With two Sentinels no failover is possible while one is away.", "Run three Sentinels on three hosts."
    ),
    "master": Explanation("Its children get 503.", "Start the node, or let a replica take over."),
    "replica": Explanation("Its master has no replica for a failover.", "Start the node."),
}


def explanation_of(subject: str) -> Explanation | None:
    """The explanation of a finding. The subject of a cluster finding begins with the node."""
    last = subject.rpartition(": ")[2].strip()
    return EXPLANATIONS.get(last) or EXPLANATIONS.get(last.partition(" ")[0])
