"""Provisioning: every call may be repeated, and says what it has done."""

from collections.abc import Sequence

from app.clock import Clock
from app.domain.erasure import ErasureReceipt
from app.domain.external_ids import canonical
from app.domain.markets import Markets
from app.domain.platform import AccountFacts, Change, PlatformAccount, Provisioned
from app.domain.profile import Profile
from app.errors import ExternalIdTaken, InvalidInput, NotFound, ProfileAccessDenied, Unauthenticated
from app.platform.ports import AccountStore, Announcements, ErasureService, ProfileIds, ProfileService

CHUNK = 1000
"""Accounts in one transaction."""


class Platform:
    """Makes, shows, changes and erases accounts and profiles by the platform's ids, or ours."""

    def __init__(
        self,
        accounts: AccountStore,
        *,
        ids: ProfileIds,
        members: ProfileService,
        erasure: ErasureService,
        announcements: Announcements,
        markets: Markets,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._ids = ids
        self._members = members
        self._erasure = erasure
        self._announcements = announcements
        self._markets = markets
        self._clock = clock

    # --- accounts

    async def put_account(self, facts: AccountFacts, *, actor: str) -> tuple[PlatformAccount, Change]:
        """Make an account or change it. Raises NotFound: it was erased meanwhile."""
        [done] = await self.put_accounts([facts], actor=actor)
        return await self._account(facts.external_id), done.change

    async def put_accounts(self, facts: Sequence[AccountFacts], *, actor: str) -> list[Provisioned]:
        """Make accounts or change them, whose external ids differ; in order.

        Raises DatabaseUnavailable: some may be done; repeating the call does the rest.
        """
        done: list[Provisioned] = []
        for first in range(0, len(facts), CHUNK):
            chunk = facts[first : first + CHUNK]
            done += await self._accounts.provision(chunk, actor=actor, at_ms=self._clock())
        return done

    async def account(self, given: str) -> tuple[PlatformAccount, list[Profile]]:
        """An account with its profiles. Raises NotFound."""
        account = await self._account(given)
        return account, await self._members.of_account(account.account_id)

    async def assign_market(self, given: str, market: str | None, *, actor: str) -> PlatformAccount:
        """Move an account into a market, None: into none. Every process uses its rules within a second.

        Raises:
            NotFound: there is no such account.
            InvalidInput: there is no such market.
        """
        if market is not None and not self._markets.has(market):
            raise InvalidInput(errors=[{"pointer": "/market", "detail": "must be a market of the markets file"}])
        account = await self._account(given)
        touched = await self._accounts.assign_market(account.account_id, market, actor=actor, at_ms=self._clock())
        for profile_id in touched:
            await self._announcements.changed(profile_id)
        return await self._account(account.account_id)

    async def erase_account(self, given: str) -> ErasureReceipt:
        """Raises NotFound."""
        account = await self._account(given)
        try:
            return await self._erasure.account_for_platform(account.account_id)
        except Unauthenticated:  # somebody else has just erased it
            raise NotFound from None

    async def _account(self, given: str) -> PlatformAccount:
        account = await self._accounts.account(canonical(given))
        if account is None:
            raise NotFound("There is no such account.")
        return account

    # --- profiles

    async def put_profile(
        self, account: str, external_id: str, *, name: str, is_kids: bool, timezone: str | None, actor: str
    ) -> tuple[Profile, Change]:
        """Make a profile or change it. A zone that is not given stays, or is the account's.

        Raises:
            NotFound: there is no such account.
            TooManyProfiles
            ExternalIdTaken: the id is a UUID, and that of a profile elsewhere.
        """
        account_id = (await self._account(account)).account_id
        wanted = canonical(external_id)
        before = await self._profile(account_id, wanted)
        if before is None:
            try:
                added = await self._members.add(
                    account_id, name=name, is_kids=is_kids, timezone=timezone, actor=actor, external_id=wanted
                )
            except ExternalIdTaken:
                before = await self._profile(account_id, wanted)  # another call has just made it
                if before is None:
                    raise
            except Unauthenticated:
                raise NotFound("There is no such account.") from None
            else:
                return added, Change.CREATED
        zone = before.timezone if timezone is None else timezone
        if (before.name, before.is_kids, before.timezone) == (name, is_kids, zone):
            return before, Change.UNCHANGED
        changed = await self._members.change(
            account_id,
            before.id,
            name=name if name != before.name else None,
            is_kids=is_kids if is_kids != before.is_kids else None,
            timezone=zone if zone != before.timezone else None,
            actor=actor,
        )
        return changed, Change.UPDATED

    async def profile(self, account: str, given: str) -> Profile:
        """Raises NotFound."""
        account_id = (await self._account(account)).account_id
        found = await self._profile(account_id, canonical(given))
        if found is None:
            raise NotFound("There is no such profile.")
        return found

    async def set_enforcement(self, account: str, given: str, enforcement: str | None, *, actor: str) -> Profile:
        """Give a profile an enforcement mode of its own, None: that of its market. Raises NotFound."""
        account_id = (await self._account(account)).account_id
        profile = await self.profile(account_id, given)
        is_other = await self._accounts.set_enforcement(
            account_id, profile.id, enforcement, actor=actor, at_ms=self._clock()
        )
        if is_other:
            await self._announcements.changed(profile.id)
        return await self.profile(account_id, profile.id)

    async def erase_profile(self, account: str, given: str, *, actor: str) -> ErasureReceipt:
        """Raises NotFound."""
        account_id = (await self._account(account)).account_id
        found = await self._profile(account_id, canonical(given))
        if found is None:
            raise NotFound("There is no such profile.")
        try:
            return await self._erasure.profile(account_id, found.id, actor=actor)
        except ProfileAccessDenied:  # somebody else has just erased it
            raise NotFound("There is no such profile.") from None

    async def _profile(self, account_id: str, given: str) -> Profile | None:
        """A profile of an account by our id, or else by the platform's."""
        of_account = await self._members.of_account(account_id)
        by_external = {profile.external_id: profile for profile in of_account if profile.external_id}
        return (by_external | {profile.id: profile for profile in of_account}).get(given)
