// Who may connect, how, and for how long.

import assert from "node:assert/strict";
import { Client, connect, TRANSPORTS } from "./harness/clients.mjs";
import { replace } from "./harness/components.mjs";
import { waitFor } from "./harness/deadline.mjs";
import { hostForFile, scenario, startHost } from "./harness/scenario.mjs";
import { keyPair, mint, nowSeconds, SECRET } from "./harness/tokens.mjs";

const host = hostForFile({ plugins: ["probe"], issuer: "https://login.example", audience: "switchboard", leeway: "1s" });
const good = { iss: "https://login.example", aud: "switchboard" };
const token = (claims, options) => mint({ ...good, ...claims }, options);

const wrongTokens = {
  "expired": () => token({ exp: nowSeconds() - 30 }),
  "not yet valid": () => token({ nbf: nowSeconds() + 600 }),
  "signed with another key": () => token({}, { key: "another secret, just as long as the right one" }),
  "unsigned": () => token({}, { alg: "none" }),
  "unsigned, in other letters": () => token({}, { alg: "nOnE" }),
  "of another algorithm of the same family": () => token({}, { alg: "HS512" }),
  "for another audience": () => token({ aud: "somebody-else" }),
  "without an audience": () => token({ aud: undefined }),
  "of another issuer": () => token({ iss: "https://evil.example" }),
  "without an issuer": () => token({ iss: undefined }),
  "without an expiry": () => token({ exp: undefined }),
  "without a user": () => token({ userId: undefined }),
  "of a user whose id names a room": () => token({ userId: "a:b" }),
  "of a user whose id is a number": () => token({ userId: 7 }),
  "garbage": () => "garbage",
  "three parts of garbage": () => "a.b.c",
  "a good one with its last letters cut": () => token().slice(0, -6),
  "100 kB long": () => token({ padding: "x".repeat(100_000) }, { key: "another secret, just as long as the right one" }),
  "a number": () => 12345,
  "empty": () => "",
};

for (const transport of TRANSPORTS) {
  for (const [kind, make] of Object.entries(wrongTokens)) {
    scenario(`a token that is ${kind} is refused with its code (${transport})`, async () => {
      const message = await new Client(host, { transport, token: make() }).refusal();
      assert.match(message, /^AUTH_FAILED: \S/);
      assert.ok(message.length < 300, "the reason does not repeat the token");
    });
  }

  scenario(`a refusal says why, and nothing that helps an attacker (${transport})`, async () => {
    assert.equal(
      await new Client(host, { transport, token: wrongTokens["expired"]() }).refusal(),
      "AUTH_FAILED: token expired",
    );
  });

  scenario(`a token is taken from auth, query and header (${transport})`, async () => {
    const places = {
      auth: { auth: { token: token({ userId: "in-auth" }) } },
      query: { query: { token: token({ userId: "in-query" }) } },
      header: { headers: { authorization: `Bearer ${token({ userId: "in-header" })}` } },
    };
    for (const [place, options] of Object.entries(places)) {
      const client = await new Client(host, { transport, ...options }).connect();
      assert.equal(client.userId, `in-${place}`);
    }
  });

  scenario(`the session event tells who one is (${transport})`, async () => {
    const exp = nowSeconds() + 1800;
    const client = await new Client(host, { transport, token: token({ exp, role: "educator" }) }).connect();
    assert.deepEqual(Object.keys(client.session).sort(), ["connectionId", "expiresAt", "role", "userId"]);
    assert.equal(client.session.userId, "alice");
    assert.equal(client.session.role, "educator");
    assert.equal(client.session.expiresAt, new Date(exp * 1000).toISOString());
    assert.notEqual(client.id, client.socket.id, "Socket.IO's id is a secret of the transport");
  });
}

scenario("sub stands in for userId, and the other claims reach the plugin untouched", async () => {
  const claims = { userId: undefined, sub: "bob", enrolledCourses: ["c1"], nested: { a: [1, null] } };
  const client = await new Client(host, { token: token(claims) }).connect();
  assert.equal(client.userId, "bob");
  const me = await client.must("probe:whoami");
  assert.equal(me.user, "bob");
  assert.equal(me.connection, client.id);
  assert.equal(me.wantsAck, true);
  assert.deepEqual(me.claims.enrolledCourses, ["c1"]);
  assert.deepEqual(me.claims.nested, { a: [1, null] });
});

scenario("a token within the leeway is accepted", async () => {
  const wide = await startHost({ plugins: ["probe"], leeway: "60s" });
  await new Client(wide, { token: mint({ nbf: nowSeconds() + 20 }) }).connect();
});

scenario("role aliases are applied, for plugins too", async () => {
  const school = await startHost({ plugins: ["probe"], roleAliases: { teacher: "educator" } });
  const client = await connect(school, "tina", { role: "teacher" });
  assert.equal(client.role, "educator");
  assert.equal((await client.must("probe:whoami")).role, "educator");
});

for (const alg of ["RS256", "PS256", "ES256", "EdDSA"]) {
  scenario(`${alg} by a PEM file; the public key is no HMAC secret`, async () => {
    const [mine, another] = [keyPair(alg), keyPair(alg)];
    const strict = await startHost({
      plugins: ["probe"],
      secret: undefined,
      algorithms: [alg],
      files: { "key.pem": mine.publicPem },
      publicKeys: (self) => [self.file("key.pem")],
    });
    await new Client(strict, { token: mint({}, { alg, key: mine.privateKey }) }).connect();
    const wrong = {
      "another key": mint({}, { alg, key: another.privateKey }),
      "the public key as a secret": mint({}, { alg: "HS256", key: mine.publicPem }),
      "the same, claiming the right algorithm": mint({}, { alg: "HS256", key: mine.publicPem, header: { alg } }),
      "no signature": mint({}, { alg: "none" }),
    };
    for (const [kind, wrongToken] of Object.entries(wrong)) {
      assert.match(await new Client(strict, { token: wrongToken }).refusal(), /^AUTH_FAILED: /, kind);
    }
  });
}

for (const alg of ["HS384", "HS512"]) {
  scenario(`${alg} by a secret from the environment`, async () => {
    const key = "x".repeat(64);
    const strict = await startHost({
      plugins: ["probe"],
      secret: undefined,
      algorithms: [alg],
      environment: { JWT_SECRET: key },
    });
    await new Client(strict, { token: mint({}, { alg, key }) }).connect();
    assert.match(await new Client(strict, { token: mint({}, { key }) }).refusal(), /^AUTH_FAILED: /);
  });
}

scenario("keys of a JWKS file are rotated without a restart", async () => {
  const [first, second] = [keyPair("RS256"), keyPair("RS256")];
  const set = (...keys) => JSON.stringify({ keys });
  const rotating = await startHost({
    plugins: ["probe"],
    secret: undefined,
    algorithms: ["RS256"],
    files: { "jwks.json": set(first.jwk("first")) },
    jwksFile: (self) => self.file("jwks.json"),
  });
  const by = (pair, kid) => mint({}, { alg: "RS256", key: pair.privateKey, header: { kid } });
  const accepted = async (made) => {
    const client = new Client(rotating, { token: made });
    try {
      await client.connect();
      return true;
    } catch (error) {
      assert.match(error.message, /AUTH_FAILED/);
      return false;
    } finally {
      client.close();
    }
  };
  const file = rotating.file("jwks.json");

  assert.equal(await accepted(by(first, "first")), true);
  assert.equal(await accepted(by(second, "second")), false, "a key that is not in the file");
  assert.equal(await accepted(by(first, "second")), false, "a kid that is not in the file");

  replace(file, set(first.jwk("first"), second.jwk("second")));
  await waitFor(() => accepted(by(second, "second")), "the new key");
  assert.equal(await accepted(by(first, "first")), true, "both keys during the rotation");
  assert.equal(await accepted(by(first, "second")), false, "a kid is not another key's");

  replace(file, "{ half a fi");
  replace(file, set(second.jwk("second")));
  await waitFor(async () => !(await accepted(by(first, "first"))), "the old key's end");
  assert.equal(await accepted(by(second, "second")), true);

  replace(file, "not a key set");
  // The file is looked at when a token is.
  await waitFor(async () => (await accepted(by(second, "second"))) && /jwks/i.test(rotating.log().split("\n").filter((line) => /WARN|ERROR/.test(line)).join("\n")), "a warning");
  assert.equal(await accepted(by(second, "second")), true, "a broken file changes nothing");
});

const late = hostForFile({ plugins: ["probe"], lateTimeout: "4s" });

for (const transport of TRANSPORTS) {
  scenario(`one may authenticate after connecting (${transport})`, async () => {
    const client = await new Client(late, { transport }).open();
    assert.equal(await client.code("probe:echo", 1), "NOT_AUTHENTICATED");
    client.emit("probe:echo", 2);
    const error = await client.next("error");
    assert.equal(error.code, "NOT_AUTHENTICATED");
    assert.equal(error.event, "probe:echo");
    client.emit("auth", mint({ userId: "lazy" }));
    assert.deepEqual(await client.next("auth-success"), { userId: "lazy" });
    assert.equal((await client.next("session")).userId, "lazy");
    assert.deepEqual((await client.must("probe:echo", 3)).args, [3]);
  });

  scenario(`a wrong token may be tried three times in all (${transport})`, async () => {
    const client = await new Client(late, { transport }).open();
    for (let attempt = 0; attempt < 2; attempt += 1) {
      client.emit("auth", "garbage");
      assert.equal((await client.next("error")).code, "AUTH_FAILED");
    }
    client.emit("auth", mint({ userId: "third-time-lucky" }));
    assert.deepEqual(await client.next("auth-success"), { userId: "third-time-lucky" });

    const unlucky = await new Client(late, { transport }).open();
    for (let attempt = 0; attempt < 3; attempt += 1) {
      unlucky.emit("auth", "garbage");
      assert.equal((await unlucky.next("error")).code, "AUTH_FAILED");
    }
    unlucky.emit("auth", mint({ userId: "fourth" }));
    await unlucky.closed();
    assert.deepEqual(unlucky.heard("auth-success"), []);
  });

  scenario(`who stays silent is disconnected with AUTH_TIMEOUT (${transport})`, async () => {
    const client = await new Client(late, { transport }).open();
    const error = await client.next("error");
    assert.equal(error.code, "AUTH_TIMEOUT");
    await client.closed();
  });
}

scenario("a connection that is not authenticated hears nothing", async () => {
  const client = await new Client(late).open();
  const watcher = await connect(late, "watcher");
  await watcher.must("probe:emit", { to: ["everyone"], name: "probe:news", args: ["secret"] });
  assert.equal(await watcher.next("probe:news"), "secret");
  client.emit("auth", mint({ userId: "eve" }));
  await client.next("auth-success");
  assert.deepEqual(client.heard("probe:news"), []);
});

scenario("without late authentication a connection without a token is refused", async () => {
  const strict = await startHost({ plugins: ["probe"], late: false });
  assert.match(await new Client(strict).refusal(), /^NOT_AUTHENTICATED: \S/);
  assert.match(await new Client(strict, { token: "" }).refusal(), /^AUTH_FAILED: \S/);
});

scenario("guests connect where they are allowed, each as somebody of their own", async () => {
  const party = await startHost({ plugins: ["probe"], guests: true });
  const guest = () => new Client(party, { query: { username: "Gül", email: "g@example.org" } }).connect();
  const [one, two] = [await guest(), await guest()];
  assert.equal(one.role, "guest");
  assert.notEqual(one.userId, two.userId);
  assert.match(one.userId, /^[A-Za-z0-9_\-.@~]{1,128}$/);
  const me = await one.must("probe:whoami");
  assert.equal(me.claims.username, "Gül");
  assert.equal(me.claims.email, "g@example.org");
  // A wrong token is not overlooked because the connection could have been a guest's.
  const wrong = new Client(party, { token: "garbage", query: { username: "Gül" } });
  assert.match(await wrong.refusal(), /^AUTH_FAILED: /);
});

scenario("where guests are not allowed a name makes none", async () => {
  const client = await new Client(late, { query: { username: "Gül" } }).open();
  assert.equal(await client.code("probe:whoami"), "NOT_AUTHENTICATED");
});

for (const transport of TRANSPORTS) {
  scenario(`a token that expires while connected ends the connection, a renewed one does not (${transport})`, async () => {
    const brief = await startHost({ plugins: ["probe"], leeway: "0s", expiryWarning: "60s" });
    const exp = nowSeconds() + 6;
    const make = (user, until) => new Client(brief, { transport, token: mint({ userId: user, exp: until }) }).connect();
    const [idle, renewing, thief] = await Promise.all([make("idle", exp), make("renewing", exp), make("thief", exp)]);
    for (const client of [idle, renewing, thief]) {
      assert.deepEqual(await client.next("token-expiring"), { expiresAt: new Date(exp * 1000).toISOString() });
    }
    renewing.emit("auth", mint({ userId: "renewing" }));
    assert.deepEqual(await renewing.next("auth-success"), { userId: "renewing" });
    thief.emit("auth", mint({ userId: "renewing" }));
    assert.equal((await thief.next("error")).code, "AUTH_FAILED", "another user's token renews nothing");
    assert.equal((await thief.must("probe:whoami")).user, "thief");

    for (const client of [idle, thief]) {
      assert.equal((await client.next("error", (error) => error.code === "TOKEN_EXPIRED")).code, "TOKEN_EXPIRED");
      await client.closed();
    }
    assert.ok(nowSeconds() >= exp, "not before it expired");
    assert.equal((await renewing.must("probe:whoami")).user, "renewing");
  });
}

scenario("a secret never shows in the log", async () => {
  const leaky = token({ userId: "quiet" });
  await new Client(host, { token: leaky }).connect();
  await new Client(host, { token: `${leaky}x` }).refusal();
  assert.ok(!host.log().includes(leaky));
  assert.ok(!host.log().includes(SECRET));
});
