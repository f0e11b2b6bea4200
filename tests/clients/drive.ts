// The main job through a generated TypeScript client. Arguments: address, e-mail, password, title.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

declare const process: { argv: string[] };
const [address, email, password, title] = process.argv.slice(2) as [string, string, string, string];

function answered<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  if (answer.data === undefined) {
    throw new Error(`${answer.response.status} ${JSON.stringify(answer.error)}`);
  }
  return answer.data;
}

const client = createClient<paths>({ baseUrl: address });
const account = answered(
  await client.POST("/api/v1/auth/register", { body: { email, password, timezone: "Europe/Oslo" } }),
);
client.use({
  onRequest: ({ request }) => {
    request.headers.set("Authorization", `Bearer ${account.access_token}`);
  },
});
answered(await client.POST("/api/v1/parental-controls/pin", { body: { new_pin: "4711", password } }));
const unlock = answered(await client.POST("/api/v1/parental-controls/pin/verify", { body: { pin: "4711" } }));
const header = { "X-PIN-Token": unlock.pin_token };
const child = answered(
  await client.POST("/api/v1/profiles", { params: { header }, body: { name: "Ada", is_kids: true } }),
);
const path = { profile_id: child.id };
const beat = answered(
  await client.POST("/api/v1/viewing-time/heartbeat", {
    body: { profile_id: child.id, title_id: title, device_id: "tv-1", device_type: "tv" },
  }),
);
const limits = await client.GET("/api/v1/parental-controls/profiles/{profile_id}/viewing-time", {
  params: { path, header },
});
answered(limits);
const saved = answered(
  await client.PUT("/api/v1/parental-controls/profiles/{profile_id}/viewing-time", {
    params: { path, header: { ...header, "If-Match": limits.response.headers.get("ETag") ?? "" } },
    body: { weekday_limit_minutes: 60, weekend_limit_minutes: 60 },
  }),
);
const grant = answered(
  await client.POST("/api/v1/parental-controls/profiles/{profile_id}/viewing-time/grant", {
    params: { path, header },
    body: { minutes: 15 },
  }),
);
const report = answered(await client.GET("/api/v1/parental-controls/weekly-report", { params: { header } }));
if (typeof report === "string") {
  throw new Error("CSV was not asked for");
}
const refused = await client.POST("/api/v1/viewing-time/heartbeat", {
  body: { profile_id: child.id, title_id: "nothing", device_id: "tv-2" },
});
console.log(
  JSON.stringify({
    enforcement: beat.enforcement,
    limit: saved.weekday_limit_minutes,
    granted: grant.granted_minutes,
    remaining: grant.remaining_seconds,
    children: report.profiles.map((entry) => entry.profile_name),
    refused: refused.error?.code,
  }),
);
