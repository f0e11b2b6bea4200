"""Flow 2: what parents set, grant and read."""

from app.clock import Clock
from app.parents import Parents
from app.parents.announcements import Announcements
from app.parents.grants import GrantService, RequestService
from app.parents.pauses import PauseService
from app.parents.service import ChildSettings
from app.parents.used import UsedTime
from app.postgres_store.caregivers import PostgresCaregivers
from app.postgres_store.configs import PostgresConfigs
from app.postgres_store.grants import PostgresGrants, PostgresRequests
from app.postgres_store.pauses import PostgresPauses
from app.postgres_store.profiles import PostgresProfiles
from app.postgres_store.reports import PostgresReports
from app.postgres_store.usage import PostgresUsage
from app.postgres_store.weekly_reports import PostgresWeeklyReports
from app.profiles.service import ProfileService
from app.redis_store.counters import RedisCounters
from app.reports import Reports
from app.reports.cursors import Cursors
from app.reports.history import History
from app.reports.weekly import WeeklyReports
from app.settings.settings import Settings
from app.wiring.stores import Stores
from app.wiring.stores import rules as counting_rules


def parents(
    stores: Stores, counters: RedisCounters, announcements: Announcements, settings: Settings, clock: Clock
) -> Parents:
    engine, feed, markets = stores.engine, stores.feed, stores.markets
    rules = counting_rules(settings)
    used = UsedTime(counters=counters, flushed=PostgresUsage(engine, clock), max_gap_ms=rules.max_gap_ms)
    return Parents(
        clock=clock,
        settings=ChildSettings(
            configs=PostgresConfigs(engine, feed),
            past=PostgresReports(engine, markets=markets),
            ended_days=counters,
            announcements=announcements,
            markets=markets,
            pause_grace_ms=rules.pause_grace_ms,
        ),
        grants=GrantService(
            grants=PostgresGrants(engine, feed),
            used=used,
            announcements=announcements,
            markets=markets,
        ),
        requests=RequestService(
            requests=PostgresRequests(engine, feed), used=used, announcements=announcements, markets=markets
        ),
        caregivers=PostgresCaregivers(engine),
        pauses=PauseService(pauses=PostgresPauses(engine, feed), used=used, announcements=announcements),
    )


def profile_service(stores: Stores, announcements: Announcements, settings: Settings, clock: Clock) -> ProfileService:
    return ProfileService(
        PostgresProfiles(stores.engine, stores.feed),
        announcements=announcements,
        markets=stores.markets,
        most=settings.max_profiles,
        clock=clock,
    )


def reports(stores: Stores, settings: Settings, clock: Clock) -> Reports:
    past = PostgresReports(stores.engine, markets=stores.markets)
    return Reports(
        clock=clock,
        history=History(past, cursors=Cursors(*settings.accepted("session_secret"))),
        weekly=WeeklyReports(past, PostgresWeeklyReports(stores.engine, stores.feed)),
        max_gap_ms=settings.max_gap_seconds * 1000,
    )
