"""The household: PIN, children and adults, parent devices, caregivers, language, and the account itself."""

from starlette.responses import Response

from app.auth.schemas import NewDevice, NewPin, PinReset
from app.errors import HourglassError, NotFound
from app.privacy.schemas import AccountErasure
from app.profiles.schemas import NewProfile, ProfileChange
from app.web.caregiver_visit import HOME as CARE
from app.web.forms import FormRefused, checked, number_in
from app.web.i18n import N_
from app.web.visit import Visit

_NAME_WRONG = N_("Type the name exactly as it is written above.")


async def overview(visit: Visit) -> Response:
    return await _page(visit)


async def _page(
    visit: Visit,
    *,
    form: str = "",
    errors: dict[str, str] | None = None,
    token: str = "",
    caregiver_link: str = "",
    status: int = 200,
) -> Response:
    """The page; ``form`` names the one whose errors and values are shown.

    ``token`` and ``caregiver_link`` are those of a new device.
    """
    devices = await visit.services.devices.of_account(visit.account_id)
    return await visit.page(
        "household.html",
        status=status,
        profiles=await visit.profiles(),
        parent_devices=[device for device in devices if not device.is_caregiver],
        caregivers=[device for device in devices if device.is_caregiver],
        form=form,
        errors=errors or {},
        values=visit.form,
        token=token,
        caregiver_link=caregiver_link,
    )


async def pin(visit: Visit) -> Response:
    """Set the first PIN with the password, or change it with the present one."""
    status = await visit.services.pins.status(visit.account_id)
    if visit.request.method == "GET":
        return await visit.page("pin.html", has_pin=status.has_pin)
    names = ("new_pin", "current_pin") if status.has_pin else ("new_pin", "password")
    try:
        body = checked(NewPin, {name: visit.form.get(name, "") for name in names})
        await visit.services.pins.choose(
            visit.account_id,
            new_pin=body.new_pin,
            current_pin=body.current_pin,
            password=body.password,
            actor=visit.principal.actor,
        )
        if not status.has_pin:
            await visit.unlock(body.new_pin)
    except (FormRefused, HourglassError) as error:
        errors = await visit.errors_of(error, pin_field=names[1])
        return await visit.page("pin.html", status=422, has_pin=status.has_pin, errors=errors)
    await visit.flash(visit.t("The PIN is changed.") if status.has_pin else visit.t("The PIN is set."))
    return visit.redirect("/")


async def forgotten_pin(visit: Visit) -> Response:
    """A new PIN in place of a forgotten one, with the password."""
    if visit.request.method == "GET":
        return await visit.page("pin_forgotten.html")
    try:
        body = checked(PinReset, {name: visit.form.get(name, "") for name in ("password", "new_pin")})
        await visit.services.pins.reset(
            visit.account_id, password=body.password, new_pin=body.new_pin, actor=visit.principal.actor
        )
    except (FormRefused, HourglassError) as error:
        errors = await visit.errors_of(error, pin_field="password")
        return await visit.page("pin_forgotten.html", status=422, errors=errors)
    await visit.flash(visit.t("The new PIN is set. All unlocked browsers are locked again."))
    return visit.redirect("/")


async def add_profile(visit: Visit) -> Response:
    form = visit.form
    try:
        body = checked(NewProfile, {"name": form.get("name", ""), "is_kids": form.get("kind") != "adult"})
        profile = await visit.services.members.add(
            visit.account_id, name=body.name, is_kids=body.is_kids, timezone=None, actor=visit.principal.actor
        )
    except (FormRefused, HourglassError) as error:
        return await _page(visit, form="profile", errors=await visit.errors_of(error), status=422)
    await visit.flash(visit.t("%(name)s is part of the household.") % {"name": profile.name})
    return visit.redirect(f"/children/{profile.id}/settings" if profile.is_kids else "/household")


async def change_profile(visit: Visit) -> Response:
    """Rename a profile, or make a child an adult or an adult a child."""
    form, profile_id = visit.form, visit.profile_id
    values: dict[str, object] = {"name": form.get("name", "")}
    if form.get("kind") in {"child", "adult"}:
        values["is_kids"] = form["kind"] == "child"
    try:
        body = checked(ProfileChange, values)
        profile = await visit.services.members.change(
            visit.account_id,
            profile_id,
            name=body.name,
            is_kids=body.is_kids,
            timezone=None,
            actor=visit.principal.actor,
        )
    except (FormRefused, HourglassError) as error:
        return await _page(visit, form=profile_id, errors=await visit.errors_of(error), status=422)
    await visit.flash(visit.t("%(name)s is saved.") % {"name": profile.name})
    return visit.redirect("/household")


async def erase_profile(visit: Visit) -> Response:
    """Erase an adult's profile whose name was typed."""
    profile = await visit.profile(visit.profile_id)
    if visit.form.get("confirmation", "").strip() != profile.name:
        errors = {"confirmation": visit.t(_NAME_WRONG)}
        return await _page(visit, form=profile.id, errors=errors, status=422)
    await visit.keep_receipt(
        await visit.services.privacy.erasure.profile(visit.account_id, profile.id, actor=visit.principal.actor)
    )
    return visit.redirect("/household/receipt")


async def receipt(visit: Visit) -> Response:
    found = visit.signed_in.receipt
    if found is None:
        raise NotFound
    return await visit.page("receipt.html", receipt=found, is_account=False)


async def add_device(visit: Visit) -> Response:
    """A parent device; its token is shown this once, so the answer is the page itself."""
    try:
        body = checked(NewDevice, {"name": visit.form.get("name", ""), "pin": visit.form.get("pin", "")})
        _, token = await visit.services.devices.add(
            visit.account_id, name=body.name, pin=body.pin, actor=visit.principal.actor
        )
    except (FormRefused, HourglassError) as error:
        return await _page(visit, form="device", errors=await visit.errors_of(error), status=422)
    return await _page(visit, token=token)


async def add_caregiver(visit: Visit) -> Response:
    """A caregiver's device; its link is shown this once, so the answer is the page itself."""
    values = {
        "name": visit.form.get("name", ""),
        "pin": visit.form.get("pin", ""),
        "role": "caregiver",
        "daily_grant_minutes": number_in(visit.form.get("daily_grant_minutes", "")) or 0,
    }
    try:
        body = checked(NewDevice, values)
        _, token = await visit.services.devices.add(
            visit.account_id,
            name=body.name,
            pin=body.pin,
            actor=visit.principal.actor,
            daily_grant_minutes=body.daily_grant_minutes,
        )
    except (FormRefused, HourglassError) as error:
        return await _page(visit, form="caregiver", errors=await visit.errors_of(error), status=422)
    return await _page(visit, caregiver_link=f"{visit.origin}{CARE}#{token}")


async def revoke_device(visit: Visit) -> Response:
    device_id = visit.request.path_params["device_id"]
    await visit.services.devices.revoke(visit.account_id, device_id, actor=visit.principal.actor)
    await visit.flash(visit.t("The device is revoked: it opens nothing any more."))
    return visit.redirect("/household")


async def erase_account(visit: Visit) -> Response:
    """Erase the account with its password, and show the receipt this once."""
    try:
        body = checked(AccountErasure, {"password": visit.form.get("password", "")})
        found = await visit.services.privacy.erasure.account(visit.account_id, password=body.password)
    except (FormRefused, HourglassError) as error:
        return await _page(visit, form="account", errors=await visit.errors_of(error, pin_field="password"), status=422)
    await visit.sessions.end_all(visit.account_id)
    visit.session = None
    return visit.signed_out(visit.render("receipt.html", receipt=found, is_account=True))
