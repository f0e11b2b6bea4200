"""Findings of `hourglass doctor` for clusters and Sentinel."""

import pytest

from app.deployment.checkup import CheckResult, Finding, examine_redis
from app.deployment.errors import CommandError
from tests.builders import settings_for
from tests.clusters import ClusterOfServers, SentinelServers


async def findings_at(url: str) -> dict[str, Finding]:
    return {finding.subject: finding for finding in await examine_redis(settings_for(database_url="", redis_url=url))}


async def test_every_node_of_a_cluster_is_looked_at(cluster: ClusterOfServers) -> None:
    findings = await findings_at(cluster.url)
    assert [finding for finding in findings.values() if not finding.is_good] == []
    assert findings["slots served"].found == "16384"
    for node in cluster.nodes:
        role = "master" if node.is_master else "replica"
        assert findings[f"{role} 127.0.0.1:{node.port}"].found == "8 checks"


async def test_the_node_that_is_set_up_wrongly_is_named(cluster: ClusterOfServers) -> None:
    node = next(node for node in cluster.nodes if not node.is_master)
    node.ask("CONFIG SET", "maxmemory-policy", "allkeys-lru")
    cluster.nodes[0].ask("CONFIG SET", "cluster-require-full-coverage", "yes")
    try:
        found = await findings_at(cluster.url)
    finally:
        node.ask("CONFIG SET", "maxmemory-policy", "noeviction")
        cluster.nodes[0].ask("CONFIG SET", "cluster-require-full-coverage", "no")
    poor = {subject: finding.verdict for subject, finding in found.items() if not finding.is_good}
    assert poor[f"replica 127.0.0.1:{node.port}: eviction"] is CheckResult.FAILURE
    assert set(poor) <= {f"replica 127.0.0.1:{node.port}: eviction", "full coverage required"}


async def test_sentinels_and_replicas_are_counted(sentinel: SentinelServers) -> None:
    findings = await findings_at(sentinel.url)
    assert (findings["Sentinels"].found, findings["replicas"].found) == ("3", "1")
    assert findings["eviction"].is_good


async def test_a_cluster_out_of_reach_is_explained() -> None:
    with pytest.raises(CommandError, match="cannot use Redis \\(REDIS_URL\\)"):
        await findings_at("redis+cluster://127.0.0.1:1")
