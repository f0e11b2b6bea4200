"""Parse REDIS_URL: one server, Sentinel, or a cluster."""

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import SplitResult, urlsplit

REDIS_PORT = 6379
SENTINEL_PORT = 26_379
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")
_SERVICE = re.compile(r"/([A-Za-z0-9._-]+)(?:/([0-9]{1,5}))?")
_SECRET = re.compile(r"([?&]sentinel_password=)[^&]*")
_MAX_PORT = 65_535


class Arrangement(Enum):
    """The topology of the servers behind an address."""

    SINGLE = ("redis", "rediss", "unix")
    SENTINEL = ("redis+sentinel", "rediss+sentinel")
    CLUSTER = ("redis+cluster", "rediss+cluster")


@dataclass(frozen=True, kw_only=True)
class RedisAddress:
    """A parsed address.

    ``plain`` names the first host in redis-py's format with credentials, database and options, but without
    ``+sentinel`` or ``+cluster``.
    """

    arrangement: Arrangement
    hosts: tuple[tuple[str, int], ...]
    service: str
    plain: str


def parse_redis_url(url: str) -> RedisAddress:
    """Parse an address. Raises ValueError without repeating the address, because it may contain a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is not an address") from None
    arrangement = _arrangement(parts.scheme)
    if arrangement is Arrangement.SINGLE:
        return RedisAddress(arrangement=arrangement, hosts=(), service="", plain=url)
    is_cluster = arrangement is Arrangement.CLUSTER
    hosts = _hosts(parts, REDIS_PORT if is_cluster else SENTINEL_PORT)
    service, database = ("", _no_database(parts)) if is_cluster else _service(parts)
    host, port = hosts[0]
    credentials, at, _ = parts.netloc.rpartition("@")
    plain = parts._replace(
        scheme=parts.scheme.partition("+")[0],
        netloc=f"{credentials}{at}{f'[{host}]' if ':' in host else host}:{port}",
        path=database,
    )
    return RedisAddress(arrangement=arrangement, hosts=hosts, service=service, plain=plain.geturl())


def without_secrets(url: str) -> str:
    """The address with its passwords hidden."""
    password = urlsplit(url).password
    masked = url.replace(f":{password}@", ":***@", 1) if password else url
    return _SECRET.sub(r"\1***", masked)


def _arrangement(scheme: str) -> Arrangement:
    for arrangement in Arrangement:
        if scheme in arrangement.value:
            return arrangement
    known = ", ".join(f"{scheme}://" for arrangement in Arrangement for scheme in arrangement.value)
    raise ValueError(f"must begin with one of {known}")


def _hosts(parts: SplitResult, default_port: int) -> tuple[tuple[str, int], ...]:
    found = []
    for place, text in enumerate(parts.netloc.rpartition("@")[2].split(","), start=1):
        match = _HOST.fullmatch(text)
        port = int(match[3] or default_port) if match else 0
        if match is None or not 0 < port <= _MAX_PORT:
            raise ValueError(f"host {place} must read host or host:port, several of them separated by commas")
        found.append((match[1] or match[2], port))
    return tuple(found)


def _no_database(parts: SplitResult) -> str:
    if parts.path not in {"", "/", "/0"}:
        raise ValueError("a cluster has one database: nothing may follow its hosts")
    return ""


def _service(parts: SplitResult) -> tuple[str, str]:
    match = _SERVICE.fullmatch(parts.path)
    if match is None:
        raise ValueError("Sentinel must be told which master: host:port[,host:port...]/service_name[/database]")
    return match[1], f"/{match[2] or 0}"
