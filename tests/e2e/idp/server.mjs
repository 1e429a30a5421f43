// Login services of made-up universities, for the tests of the hub's login: npm's oidc-provider with a login form of
// its own.  Started by tests/login_services.py with its settings as JSON in argv[2]; says "ready" when it listens.
//
// A control port, which no browser is told of, changes what a test needs changed: accounts and their claims, what the
// tokens are forged into, whether a service answers at all.
import { createPrivateKey, generateKeyPairSync, sign } from "node:crypto";
import { createServer } from "node:http";
import Provider from "oidc-provider";

const settings = JSON.parse(process.argv[2]);
const services = Object.fromEntries(settings.services.map((service) => [service.id, makeService(service)]));

function makeService({ id, port }) {
  const state = { accounts: {}, forge: null, server: null };
  const issuer = `http://127.0.0.1:${port}`;
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const jwk = { ...privateKey.export({ format: "jwk" }), kid: `${id}-1`, alg: "RS256", use: "sig" };
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "edif",
        client_secret: settings.secret,
        redirect_uris: settings.hubs.map((hub) => `${hub}/hub/oauth_callback`),
        post_logout_redirect_uris: settings.hubs.map((hub) => `${hub}/hub/edif-logged-out`),
        grant_types: ["authorization_code", "refresh_token"],
      },
    ],
    jwks: { keys: [jwk] },
    cookies: { keys: ["made-up"], names: { session: `_${id}`, interaction: `_${id}_i`, resume: `_${id}_r` } },
    claims: {
      openid: ["sub"],
      email: ["email"],
      profile: ["name", "preferred_username", "eduperson_scoped_affiliation", "voperson_external_affiliation", "groups"],
    },
    conformIdTokenClaims: false, // claims in the id_token too, as Keycloak has it
    pkce: { required: () => true },
    issueRefreshToken: async () => true,
    ttl: { AccessToken: 60, AuthorizationCode: 60, IdToken: 60, RefreshToken: 3600, Session: 3600, Grant: 3600, Interaction: 600 },
    findAccount: (_ctx, subject) => {
      const account = Object.values(state.accounts).find((each) => each.claims.sub === subject);
      return account && { accountId: subject, claims: () => account.claims };
    },
    interactions: { url: (_ctx, interaction) => `/form/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => {
          ctx.body = `<!doctype html><title>Log out</title>${form}<button form="op.logoutForm" name="logout" value="yes">Yes, log me out</button>`;
        },
      },
    },
  });
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.path === "/token" && ctx.body?.id_token && state.forge) {
      ctx.body = { ...ctx.body, id_token: forged(ctx.body.id_token, state.forge, jwk) };
    }
  });
  provider.on("server_error", (_ctx, error) => console.error(error));
  const answer = async (request, response) => {
    const [, page, uid] = request.url.split("?")[0].split("/");
    if (page === "form") await form(provider, state, id, uid, request, response);
    else await provider.callback()(request, response);
  };
  state.listen = () =>
    new Promise((listening) => {
      state.server = createServer(answer).listen(port, "127.0.0.1", listening);
    });
  state.stop = () =>
    new Promise((stopped) => {
      state.server.close(stopped);
      state.server.closeAllConnections();
    });
  return state;
}

async function form(provider, state, id, uid, request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (prompt.name === "consent") {
    const grant = (grantId && (await provider.Grant.find(grantId))) ?? new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    grant.addOIDCScope(params.scope);
    return provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
  }
  let said = "";
  if (request.method === "POST") {
    const fields = new URLSearchParams(await body(request));
    if (fields.has("cancel")) {
      return provider.interactionFinished(request, response, { error: "access_denied", error_description: "given up" });
    }
    const account = state.accounts[fields.get("name")];
    if (account && account.password === fields.get("password")) {
      return provider.interactionFinished(request, response, { login: { accountId: account.claims.sub } });
    }
    said = "<p role=alert>Wrong name or password.</p>";
  }
  response.setHeader("content-type", "text/html");
  response.end(
    `<!doctype html><html lang=en><title>University ${id}</title><h1>University ${id}</h1>${said}<form method=post action="/form/${uid}">` +
      "<label>Name <input name=name></label> <label>Password <input name=password type=password></label>" +
      "<button>Log in</button> <button name=cancel value=1>Cancel</button></form></html>",
  );
}

function forged(token, how, jwk) {
  const [head, middle] = token
    .split(".", 2)
    .map((part) => JSON.parse(Buffer.from(part, "base64url")));
  const header = { ...head, ...how.header };
  const payload = { ...middle, ...how.payload };
  const signed = [header, payload].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  if (header.alg === "none") return `${signed}.`;
  const key = how.stranger
    ? generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey
    : createPrivateKey({ key: jwk, format: "jwk" });
  return `${signed}.${sign("sha256", Buffer.from(signed), key).toString("base64url")}`;
}

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

// {"service": id, "accounts": {name: {password, claims} | null}, "forge": {...} | null, "up": true | false}
createServer(async (request, response) => {
  const told = JSON.parse(await body(request));
  const state = services[told.service];
  for (const [name, account] of Object.entries(told.accounts ?? {})) {
    if (account) state.accounts[name] = account;
    else delete state.accounts[name];
  }
  if ("forge" in told) state.forge = told.forge;
  if (told.up === false) await state.stop();
  if (told.up === true) await state.listen();
  response.end("{}");
}).listen(settings.control, "127.0.0.1", async () => {
  await Promise.all(Object.values(services).map((state) => state.listen()));
  console.log("ready");
});
