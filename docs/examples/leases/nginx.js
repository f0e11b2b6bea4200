// Verifies playback leases in nginx (njs 0.7.9 and newer; also older ones that cannot read a key as JWK).
const P256 = "3059301306072a8648ce3d020106082a8648ce3d03010703420004"; // what goes before x and y (RFC 5480)
const json = (text) => JSON.parse(Buffer.from(text, "base64url").toString());

async function verify(r) {
  try {
    const part = r.args.lease.split(".");
    const header = json(part[0]), claims = json(part[1]);
    const answer = await r.subrequest("/.hourglass-keys");
    const jwk = JSON.parse(answer.responseText).keys.find((key) => key.kid === header.kid);
    const point = [jwk.x, jwk.y].map((number) => Buffer.from(number, "base64url").toString("hex")).join("");
    const ec = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
    const key = await crypto.subtle.importKey("spki", Buffer.from(P256 + point, "hex"), ec, false, ["verify"]);
    const good = await crypto.subtle.verify(ec, key, Buffer.from(part[2], "base64url"), part[0] + "." + part[1]);
    const named = header.alg === "ES256" && header.typ === "playback-lease+jwt" && claims.iss === "hourglass" && claims.aud === "playback";
    if (good && named && claims.exp > Date.now() / 1000) r.internalRedirect("@media");
    else r.return(403);
  } catch (error) {
    r.return(403);
  }
}

export default { verify };
