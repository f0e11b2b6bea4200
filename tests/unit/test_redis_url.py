"""Valid and invalid values of REDIS_URL."""

import pytest

from app.settings.redis_url import Arrangement, parse_redis_url, without_secrets


def test_an_ordinary_address_is_left_as_it_is() -> None:
    for url in ("redis://cache:6380/2", "rediss://user:word@cache", "unix:///run/valkey.sock?db=1"):
        address = parse_redis_url(url)
        assert (address.arrangement, address.plain) == (Arrangement.SINGLE, url)


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    address = parse_redis_url("rediss+cluster://me:s%40crt@one:7000,two,[::1]:7001?ssl_ca_certs=/ca.pem")
    assert address.arrangement is Arrangement.CLUSTER
    assert address.hosts == (("one", 7000), ("two", 6379), ("::1", 7001))
    assert address.plain == "rediss://me:s%40crt@one:7000?ssl_ca_certs=/ca.pem"


def test_sentinels_are_told_which_master() -> None:
    address = parse_redis_url("redis+sentinel://:word@one,two:26380/main-1/3")
    assert address.arrangement is Arrangement.SENTINEL
    assert address.hosts == (("one", 26_379), ("two", 26_380))
    assert (address.service, address.plain) == ("main-1", "redis://:word@one:26379/3")
    assert parse_redis_url("redis+sentinel://one/main").plain == "redis://one:26379/0"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://cache", "must begin with one of redis://"),
        ("cache:6379", "must begin with one of redis://"),
        ("redis+cluster://", "host 1 must read host or host:port"),
        ("redis+cluster://:hush@one,:7000", "host 2 must read host or host:port"),
        ("redis+cluster://one:0", "host 1 must read host or host:port"),
        ("redis+cluster://one:70000", "host 1 must read host or host:port"),
        ("redis+cluster://one;two", "host 1 must read host or host:port"),
        ("redis+cluster://one/1", "a cluster has one database"),
        ("redis+sentinel://one", "which master"),
        ("redis+sentinel://one/main/x", "which master"),
        ("redis+cluster://[::1", "is not an address"),
    ],
)
def test_a_wrong_address_is_refused_without_repeating_it(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refusal:
        parse_redis_url(url)
    assert "hush" not in str(refusal.value)


def test_passwords_are_hidden() -> None:
    url = "redis+sentinel://me:hush@one,two/main?sentinel_username=w&sentinel_password=hush2&socket_keepalive=yes"
    masked = without_secrets(url)
    assert masked == (
        "redis+sentinel://me:***@one,two/main?sentinel_username=w&sentinel_password=***&socket_keepalive=yes"
    )
