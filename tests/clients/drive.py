"""The main job through a generated Python client. Arguments: address, e-mail, password, title."""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, T201  a program that a stranger would write

import json
import sys

from generated.api.parental_controls import get_limits, grant_time, save_limits
from generated.api.pin import set_pin, verify_pin
from generated.api.profiles import add_profile
from generated.api.reports import get_weekly_report
from generated.api.signing_in import register
from generated.api.viewing import send_heartbeat
from generated.client import AuthenticatedClient, Client
from generated.models import (
    GivenPin,
    HeartbeatRequest,
    HeartbeatRequestDeviceType,
    NewGrant,
    NewPin,
    NewProfile,
    Problem,
    Registration,
    ViewingTimeChange,
)

address, email, password, title = sys.argv[1:]


def answered(answer):
    if answer is None or isinstance(answer, Problem):
        raise SystemExit(str(answer))
    return answer


opened = answered(
    register.sync(
        client=Client(base_url=address),
        body=Registration(email=email, password=password, timezone="Europe/Oslo"),
    )
)
client = AuthenticatedClient(base_url=address, token=opened.access_token)
answered(set_pin.sync(client=client, body=NewPin(new_pin="4711", password=password)))
unlock = answered(verify_pin.sync(client=client, body=GivenPin(pin="4711"))).pin_token
child = answered(add_profile.sync(client=client, body=NewProfile(name="Ada", is_kids=True), x_pin_token=unlock))


def beat(title_id, device_id):
    return send_heartbeat.sync(
        client=client,
        body=HeartbeatRequest(
            profile_id=child.id, title_id=title_id, device_id=device_id, device_type=HeartbeatRequestDeviceType.TV
        ),
    )


first = answered(beat(title, "tv-1"))
limits = get_limits.sync_detailed(child.id, client=client, x_pin_token=unlock)
saved = answered(
    save_limits.sync(
        child.id,
        client=client,
        body=ViewingTimeChange(weekday_limit_minutes=60, weekend_limit_minutes=60),
        if_match=limits.headers["ETag"],
        x_pin_token=unlock,
    )
)
grant = answered(grant_time.sync(child.id, client=client, body=NewGrant(minutes=15), x_pin_token=unlock))
report = answered(get_weekly_report.sync(client=client, x_pin_token=unlock))
print(
    json.dumps(
        {
            "enforcement": first.enforcement,
            "limit": saved.weekday_limit_minutes,
            "granted": grant.granted_minutes,
            "remaining": grant.remaining_seconds,
            "children": [entry.profile_name for entry in report.profiles],
            "refused": beat("nothing", "tv-2").code,
        }
    )
)
