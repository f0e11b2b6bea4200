"""The page of a caregiver: what is left to each child, extra time within today's budget, and requests to approve."""

import msgspec
from starlette.responses import Response

from app.auth.devices import DEVICE_SECONDS
from app.auth.tokens import Principal, Role
from app.domain.caregivers import CaregiverView
from app.errors import AlreadyDecided, BudgetExhausted, NotFound, ProfileAccessDenied, Unauthenticated
from app.parents.schemas import NewGrant
from app.viewing.schemas import BalanceAnswer
from app.web.cards import OFFERED, closed_sentence
from app.web.caregiver_visit import HOME, CaregiverVisit
from app.web.forms import FormRefused, checked, number_in
from app.web.i18n import N_
from app.web.sessions import CaregiverSession
from app.web.visit import Visit

_LINK_OPENS_NOTHING = N_("This link opens nothing any more. Ask the parents for a new one.")


class CaredChild(msgspec.Struct, frozen=True, kw_only=True):
    """A child as a caregiver sees it. ``sentence`` says why nothing plays, empty where it does."""

    profile_id: str
    name: str
    zone: str
    balance: BalanceAnswer
    sentence: str

    @property
    def is_blocked(self) -> bool:
        return self.balance.enforcement == "blocked"

    @property
    def kind(self) -> str:
        """How the ring is coloured."""
        if self.is_blocked:
            return "blocked"
        if self.balance.remaining_seconds is None:
            return "unlimited"
        return "low" if self.balance.enforcement.startswith("warning") else "ok"

    @property
    def share_left(self) -> float:
        """How much of the ring is full, 0 to 1."""
        left_s = self.balance.remaining_seconds
        if left_s is None:
            return 1.0
        return left_s / max(1.0, left_s + self.balance.used_seconds)


async def overview(visit: Visit) -> Response:
    """The caregiver's page; without a session the page that opens its link."""
    assert isinstance(visit, CaregiverVisit)  # noqa: S101  as the routes say
    if visit.session is None:
        return visit.render("caregiver_link.html", ended="ended" in visit.request.query_params)
    try:
        view = await visit.view()
    except Unauthenticated:
        await visit.sessions.end(visit.token, visit.session)
        return visit.signed_out_response()
    children = await _children(visit, view)
    names = {child.profile_id: child for child in children}
    return await visit.page(
        "caregiver.html",
        view=view,
        children=children,
        asked=[(names[request.profile_id], request) for request in view.requests if request.profile_id in names],
        offered=[minutes for minutes in OFFERED if minutes <= view.budget.left_minutes],
    )


async def _children(visit: Visit, view: CaregiverView) -> list[CaredChild]:
    zones = {profile.id: profile.timezone for profile in await visit.profiles()}
    children = []
    for child in view.children:
        balance = await visit.services.viewing.service.balance(visit.principal, child.profile_id)
        zone = zones.get(child.profile_id, "UTC")
        sentence = closed_sentence(visit, child.name, balance, zone) or ""
        children.append(
            CaredChild(profile_id=child.profile_id, name=child.name, zone=zone, balance=balance, sentence=sentence)
        )
    return children


async def open_link(visit: Visit) -> Response:
    """Exchange the token of a link, which browsers send to nobody by themselves, for a session."""
    token = visit.form.get("token", "").rpartition("#")[2].strip()
    try:
        principal = await _caregiver_of(visit, token)
    except Unauthenticated:
        errors = {"token": visit.t(_LINK_OPENS_NOTHING)}
        return visit.render("caregiver_link.html", status=422, errors=errors, ended=False)
    session = CaregiverSession(account_id=principal.account_id, device_id=principal.device_id or "")
    return await visit.begin_session(session, path=HOME, max_age=DEVICE_SECONDS)


async def _caregiver_of(visit: Visit, token: str) -> Principal:
    """The caregiver that a token speaks for. Raises Unauthenticated: it is none, or has been revoked."""
    authorization = b"Bearer " + token.encode()
    principal = visit.services.token_cache.principal_of(authorization)
    if principal.role is not Role.CAREGIVER or principal.device_id is None:
        raise Unauthenticated
    await visit.services.rate_limit.admit(principal.account_id, authorization)
    caregivers = visit.services.parents.caregivers
    await caregivers.view(principal.account_id, principal.device_id, at_ms=visit.at_ms)
    return principal


async def sign_out(visit: Visit) -> Response:
    """End the session. The link opens another one until a parent revokes the device."""
    await visit.sessions.end(visit.token, visit.session)
    return visit.signed_out(visit.redirect(HOME))


async def give(visit: Visit) -> Response:
    """Extra time within today's budget, once for each form."""
    minutes = number_in(visit.form.get("minutes", ""))
    try:
        body = checked(NewGrant, {"minutes": minutes if minutes in OFFERED else 0})
    except FormRefused:
        raise NotFound from None  # no form of ours offers that
    name = await _name_of(visit, visit.profile_id)
    try:
        given = await visit.services.parents.grants.give(
            visit.actor, visit.profile_id, minutes=body.minutes, key=visit.form_key, at_ms=visit.at_ms
        )
    except BudgetExhausted:
        return await _too_much(visit)
    return await _given(visit, name, given.minutes or 0)


async def approve(visit: Visit) -> Response:
    name = await _name_of(visit, visit.profile_id)
    try:
        request = await visit.services.parents.requests.approve(
            visit.actor, visit.profile_id, visit.request.path_params["request_id"], at_ms=visit.at_ms
        )
    except BudgetExhausted:
        return await _too_much(visit)
    except AlreadyDecided:
        await visit.flash(visit.t("This request was answered before, or its day is over."), kind="notice")
        return visit.redirect(HOME)
    return await _given(visit, name, request.minutes)


async def _name_of(visit: Visit, profile_id: str) -> str:
    """The name of a child. Raises ProfileAccessDenied, Unauthenticated."""
    assert isinstance(visit, CaregiverVisit)  # noqa: S101  as the routes say
    view = await visit.view()
    for child in view.children:
        if child.profile_id == profile_id:
            return child.name
    raise ProfileAccessDenied


async def _given(visit: Visit, name: str, minutes: int) -> Response:
    said = visit.t("%(name)s has %(duration)s more today.")
    await visit.flash(said % {"name": name, "duration": visit.words.minutes(minutes)})
    return visit.redirect(HOME)


async def _too_much(visit: Visit) -> Response:
    await visit.flash(visit.t("That is more than you may still give today."), kind="notice")
    return visit.redirect(HOME)
