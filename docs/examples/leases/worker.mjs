// A CDN worker that serves media to players with a valid playback lease. `claimsOf` is all that verifies.
// Settings of the worker: HOURGLASS_URL, the service; HOURGLASS_ISSUER, as HOURGLASS_JWT_ISSUER there.
const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const json = (text) => JSON.parse(new TextDecoder().decode(bytes(text)));

export async function claimsOf(lease, keys, { issuer = "hourglass", audience = "playback", now = Date.now() / 1000 } = {}) {
  const [head, body, signature] = lease.split(".");
  const { alg, kid, typ } = json(head);
  const jwk = keys.find((key) => key.kid === kid);
  if (alg !== "ES256" || typ !== "playback-lease+jwt" || !jwk) return null;
  const key = await crypto.subtle.importKey("jwk", jwk, { name: "ECDSA", namedCurve: "P-256" }, false, ["verify"]);
  const signed = new TextEncoder().encode(`${head}.${body}`);
  if (!(await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, key, bytes(signature), signed))) return null;
  const claims = json(body);
  return claims.iss === issuer && claims.aud === audience && claims.exp > now ? claims : null;
}

let known = { keys: [], until: 0, since: 0 };

/** The key set, kept for five minutes. A key that is unknown makes the worker ask once more, every ten seconds at most. */
async function keysFor(lease, url) {
  const { kid } = json(lease.split(".")[0]);
  const now = Date.now();
  const isNews = !known.keys.some((key) => key.kid === kid) && now > known.since + 10_000;
  if (now > known.until || isNews) {
    const { keys } = await (await fetch(`${url}/.well-known/jwks.json`)).json();
    known = { keys, until: now + 300_000, since: now };
  }
  return known.keys;
}

export default {
  async fetch(request, env) {
    const lease = new URL(request.url).searchParams.get("lease") ?? "";
    const claims = await keysFor(lease, env.HOURGLASS_URL)
      .then((keys) => claimsOf(lease, keys, { issuer: env.HOURGLASS_ISSUER }))
      .catch(() => null);
    return claims === null ? new Response("No valid playback lease.", { status: 403 }) : env.MEDIA.fetch(request);
  },
};
