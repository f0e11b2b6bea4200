"""Who calls: tokens, passwords and PINs, devices, and how often each may ask."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from app.auth.devices import Devices, Revoked
from app.auth.external_ids import ExternalIds
from app.auth.hashing import Hasher
from app.auth.hashing_queue import HashingKind
from app.auth.lockout import Lockout
from app.auth.lockout_rules import PASSWORD, PIN, Rule
from app.auth.pins import UNLOCK_SECONDS, Pins
from app.auth.rates import RateLimit
from app.auth.service import AccountService
from app.auth.sign_ins import AccountLife, EndedSignIns, Refreshing
from app.auth.tokens import TokenCache, Tokens
from app.clock import Clock
from app.postgres_store.accounts import PostgresAccounts
from app.postgres_store.devices import PostgresDevices
from app.postgres_store.external_ids import PostgresExternalIds
from app.postgres_store.lockouts import PostgresLockouts
from app.postgres_store.sign_ins import PostgresSignIns
from app.redis_store.attempts import RedisAttempts
from app.redis_store.rates import RedisRates
from app.redis_store.unlocks import RedisRevocations, RedisUnlocks
from app.settings.settings import Settings
from app.wiring.external_identity import external_ids, external_tombstones, open_remote_key_set, tokens_of
from app.wiring.process import repeat
from app.wiring.stores import Stores

_REVOKED_SECONDS = 600.0
_LOCK_FILE = "hashing.lock"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who calls, opened."""

    tokens: Tokens
    token_cache: TokenCache
    rate_limit: RateLimit
    households: AccountService
    pins: Pins
    devices: Devices
    account_life: AccountLife
    revoked: Revoked
    external_ids: ExternalIds
    external_store: PostgresExternalIds


async def open_identity(stack: AsyncExitStack, *, stores: Stores, settings: Settings, clock: Clock) -> Identity:
    engine, redis = stores.engine, stores.redis
    accounts, hasher = PostgresAccounts(engine), _open_hasher(stack, settings)
    devices_kept, revocations = PostgresDevices(engine), RedisRevocations(redis)
    revoked = await _open_revoked(stack, devices_kept, clock)
    external_store = PostgresExternalIds(engine, external_tombstones(settings))
    ids = external_ids(external_store, revoked, settings, clock)
    tokens = tokens_of(settings, keys=await open_remote_key_set(stack, settings), accounts=ids)
    sign_in_lockout, password_lockout, pin_lockout = _lockouts(stores, accounts, hasher, clock)
    unlocks = RedisUnlocks(redis, life_seconds=UNLOCK_SECONDS)
    pins = Pins(
        accounts,
        hasher=hasher,
        pin_lockout=pin_lockout,
        password_lockout=password_lockout,
        unlocks=unlocks,
        clock=clock,
    )
    sign_ins, ended = PostgresSignIns(engine), EndedSignIns(revoked, revocations)
    stack.push_async_callback(ended.close)
    devices = Devices(devices_kept, pins=pins, tokens=tokens, revoked=revoked, revocations=revocations, clock=clock)
    return Identity(
        tokens=tokens,
        token_cache=TokenCache(tokens, size=settings.token_cache_size, clock=clock, is_revoked=revoked.__contains__),
        rate_limit=RateLimit(
            account_most=settings.account_requests_per_minute,
            token_most=settings.token_requests_per_minute,
            rates=RedisRates(redis),
        ),
        households=AccountService(
            accounts,
            hasher=hasher,
            lockout=sign_in_lockout,
            tokens=tokens,
            sign_ins=sign_ins,
            refreshing=Refreshing(sign_ins, ended=ended, clock=clock, refresh_seconds=settings.refresh_token_seconds),
            ended=ended,
            clock=clock,
            access_seconds=settings.access_token_seconds,
            refresh_seconds=settings.refresh_token_seconds,
        ),
        pins=pins,
        devices=devices,
        account_life=AccountLife(
            sign_ins,
            pins=pins,
            hasher=hasher,
            unlocks=unlocks,
            ended=ended,
            revoke_device=devices.revoke,
            clock=clock,
        ),
        revoked=revoked,
        external_ids=ids,
        external_store=external_store,
    )


def _lockouts(
    stores: Stores, accounts: PostgresAccounts, hasher: Hasher, clock: Clock
) -> tuple[Lockout, Lockout, Lockout]:
    """For sign-ins, passwords and PINs. The first two count the same tries."""
    tries, ledger = RedisAttempts(stores.redis), PostgresLockouts(stores.engine)

    def lockout(rule: Rule, kind: HashingKind) -> Lockout:
        return Lockout(rule, kind=kind, hasher=hasher, tries=tries, ledger=ledger, store=accounts, clock=clock)

    return (
        lockout(PASSWORD, HashingKind.SIGN_IN),
        lockout(PASSWORD, HashingKind.PASSWORD),
        lockout(PIN, HashingKind.PIN),
    )


async def _open_revoked(stack: AsyncExitStack, store: PostgresDevices, clock: Clock) -> Revoked:
    """The revocations of this process, loaded and renewed now and then."""
    revoked = Revoked(store, clock)
    stack.push_async_callback(revoked.close)
    await revoked.load()

    async def reload() -> None:
        """Forget ids that no valid token can carry, and learn of revocations whose message was lost."""
        revoked.load_soon()

    repeat(stack, reload, every_seconds=_REVOKED_SECONDS)
    return revoked


def _open_hasher(stack: AsyncExitStack, settings: Settings) -> Hasher:
    in_metrics_folder = settings.metrics_dir / _LOCK_FILE if settings.metrics_dir is not None else None
    hasher = Hasher(
        pepper=settings.accepted("pin_pepper")[0],
        previous=settings.accepted("pin_pepper")[1:],
        cost=settings.bcrypt_cost,
        queue=settings.bcrypt_queue,
        lock_file=settings.bcrypt_lock_file or in_metrics_folder,
        at_once=settings.bcrypt_workers,
    )
    stack.push_async_callback(hasher.close)
    return hasher
