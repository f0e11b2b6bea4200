"""The running day: all children at once, one child alone, extra time and requests for it."""

from starlette.responses import Response

from app.errors import AlreadyDecided, NotFound
from app.parents.schemas import NewGrant, NewPause
from app.web.cards import OFFERED, Card, Grants, card_of, cards_of, grants_of
from app.web.forms import FormRefused, checked, number_in
from app.web.visit import Visit


async def overview(visit: Visit) -> Response:
    profiles = await visit.profiles()
    cards = await cards_of(visit, [profile for profile in profiles if profile.is_kids])
    grants = {card.profile.id: await grants_of(visit, card.profile, card.why.day.date) for card in cards}
    has_pin = (await visit.services.pins.status(visit.account_id)).has_pin
    return await visit.page(
        "overview.html",
        cards=cards,
        grants=grants,
        asked=_asked(cards, grants),
        has_pin=has_pin,
        is_any_paused=any(card.paused_until for card in cards),
    )


async def child(visit: Visit) -> Response:
    profile = await visit.profile(visit.profile_id)
    if not profile.is_kids:
        return visit.redirect("/household")
    card = await card_of(visit, profile)
    grants = await grants_of(visit, profile, card.why.day.date)
    return await visit.page(
        "child.html",
        profile=profile,
        card=card,
        grants=grants,
        asked=[(profile, grants.open)] if grants.open else [],
    )


def _asked(cards: list[Card], grants: dict[str, Grants]) -> list[tuple[object, object]]:
    return [(card.profile, grants[card.profile.id].open) for card in cards if grants[card.profile.id].open]


async def give(visit: Visit) -> Response:
    """Extra time, once for each form, however often it is sent."""
    profile = await visit.profile(visit.profile_id)
    text = visit.form.get("minutes", "")
    minutes = number_in(text)
    try:
        body = checked(NewGrant, {"minutes": None if text == "unlimited" else minutes if minutes in OFFERED else 0})
    except FormRefused:
        raise NotFound from None  # no form of ours offers that
    given = await visit.services.parents.grants.give(
        visit.actor, profile.id, minutes=body.minutes, key=visit.form_key, at_ms=visit.at_ms
    )
    said = (
        visit.t("%(name)s has no limit until the day ends.") % {"name": profile.name}
        if given.minutes is None
        else visit.t("%(name)s has %(duration)s more today.")
        % {"name": profile.name, "duration": visit.words.minutes(given.minutes)}
    )
    await visit.flash(said, undo=f"/children/{profile.id}/grants/{given.grant_id}/revoke")
    return visit.redirect(visit.next_path)


async def revoke(visit: Visit) -> Response:
    profile = await visit.profile(visit.profile_id)
    grant_id = visit.request.path_params["grant_id"]
    taken = await visit.services.parents.grants.revoke(visit.actor, profile.id, grant_id, at_ms=visit.at_ms)
    said = (
        visit.t("The limit of %(name)s is in force again.") % {"name": profile.name}
        if taken.minutes is None
        else visit.t("The %(duration)s for %(name)s are taken back.")
        % {"name": profile.name, "duration": visit.words.minutes(taken.minutes)}
    )
    await visit.flash(said)
    return visit.redirect(visit.next_path)


async def pause(visit: Visit) -> Response:
    """Stop a child's playback, once for each form."""
    profile = await visit.profile(visit.profile_id)
    body = _pause_of(visit)
    [pause] = await visit.services.parents.pauses.begin(
        visit.actor, profile.id, minutes=body.minutes, key=visit.form_key, at_ms=visit.at_ms
    )
    until = visit.words.moment(pause.until_ms or visit.at_ms, profile.timezone, now=visit.now)
    said = visit.t("%(name)s is paused until %(time)s.") % {"name": profile.name, "time": until}
    await visit.flash(said, undo=f"/children/{profile.id}/pause/lift")
    return visit.redirect(visit.next_path)


async def lift(visit: Visit) -> Response:
    profile = await visit.profile(visit.profile_id)
    await visit.services.parents.pauses.lift(visit.actor, profile.id, at_ms=visit.at_ms)
    await visit.flash(visit.t("The pause of %(name)s is lifted.") % {"name": profile.name})
    return visit.redirect(visit.next_path)


async def pause_all(visit: Visit) -> Response:
    """Stop the playback of every child, once for each form."""
    body = _pause_of(visit)
    await visit.services.parents.pauses.begin(
        visit.actor, None, minutes=body.minutes, key=visit.form_key, at_ms=visit.at_ms
    )
    said = (
        visit.t("Everybody is paused for the rest of today.")
        if body.minutes is None
        else visit.t("Everybody is paused for %(duration)s.") % {"duration": visit.words.minutes(body.minutes)}
    )
    await visit.flash(said, undo="/pause/lift")
    return visit.redirect("/")


async def lift_all(visit: Visit) -> Response:
    await visit.services.parents.pauses.lift(visit.actor, None, at_ms=visit.at_ms)
    await visit.flash(visit.t("Every pause is lifted."))
    return visit.redirect("/")


def _pause_of(visit: Visit) -> NewPause:
    text = visit.form.get("minutes", "")
    try:
        return checked(NewPause, {"minutes": None if text == "day" else number_in(text) or 0})
    except FormRefused:
        raise NotFound from None  # no form of ours offers that


async def approve(visit: Visit) -> Response:
    profile = await visit.profile(visit.profile_id)
    try:
        request = await visit.services.parents.requests.approve(
            visit.actor, profile.id, visit.request.path_params["request_id"], at_ms=visit.at_ms
        )
    except AlreadyDecided:
        return await _too_late(visit)
    said = visit.t("%(name)s has %(duration)s more today.")
    await visit.flash(
        said % {"name": profile.name, "duration": visit.words.minutes(request.minutes)},
        undo=f"/children/{profile.id}/grants/{request.grant_id}/revoke",
    )
    return visit.redirect(visit.next_path)


async def deny(visit: Visit) -> Response:
    profile = await visit.profile(visit.profile_id)
    try:
        await visit.services.parents.requests.deny(
            visit.actor, profile.id, visit.request.path_params["request_id"], at_ms=visit.at_ms
        )
    except AlreadyDecided:
        return await _too_late(visit)
    await visit.flash(visit.t("The request of %(name)s is denied.") % {"name": profile.name})
    return visit.redirect(visit.next_path)


async def _too_late(visit: Visit) -> Response:
    await visit.flash(visit.t("This request was answered before, or its day is over."), kind="notice")
    return visit.redirect(visit.next_path)
