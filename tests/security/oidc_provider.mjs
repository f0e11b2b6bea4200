// A certified OpenID provider with one client, for tests. Prints its port when it listens.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(process.cwd() + "/");
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")).href);
const { createServer } = await import("node:http");

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "app",
        client_secret: "only-the-tests-know-it",
        redirect_uris: ["http://127.0.0.1/signed-in"],
        grant_types: ["authorization_code"],
        response_types: ["code"],
      },
    ],
    cookies: { keys: ["only-the-tests-know-it"] },
    extraTokenClaims: (ctx) => ({ auth_time: ctx.oidc.entities.AuthorizationCode?.authTime }),
    features: {
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: "watch",
          audience: "hourglass",
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: "RS256" } },
        }),
      },
    },
  });
  server.on("request", provider.callback());
  console.log(server.address().port);
});
