// JSON Web Tokens, right and wrong ones, made with nothing but node:crypto.

import { constants, createHmac, createPublicKey, generateKeyPairSync, sign } from "node:crypto";

/** The secret that test hosts share unless a test says otherwise. */
export const SECRET = "a secret of the tests, at least 32 bytes long";

const base64url = (value) => Buffer.from(value).toString("base64url");
export const nowSeconds = () => Math.floor(Date.now() / 1000);

/**
 * Mints a token. `claims` are merged over a student's that is valid for an hour; a claim that is
 * `undefined` is left out. `key` is a secret or a private key that fits `alg`.
 */
export function mint(claims = {}, { alg = "HS256", key = SECRET, header = {} } = {}) {
  const now = nowSeconds();
  const payload = { userId: "alice", role: "student", iat: now, exp: now + 3600, ...claims };
  const signed = `${base64url(JSON.stringify({ typ: "JWT", alg, ...header }))}.${base64url(JSON.stringify(payload))}`;
  return `${signed}.${signature(alg, key, signed).toString("base64url")}`;
}

function signature(alg, key, text) {
  const data = Buffer.from(text);
  const hash = `sha${alg.slice(2)}`;
  switch (alg.slice(0, 2)) {
    case "HS":
      return createHmac(hash, key).update(data).digest();
    case "RS":
      return sign(hash, data, key);
    case "PS":
      return sign(hash, data, {
        key,
        padding: constants.RSA_PKCS1_PSS_PADDING,
        saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
      });
    case "ES":
      return sign(hash, data, { key, dsaEncoding: "ieee-p1363" });
    case "Ed":
      return sign(null, data, key);
    case "no":
    case "nO":
      return Buffer.alloc(0);
    default:
      throw new Error(`no algorithm ${alg}`);
  }
}

/** Makes a pair of keys for `alg`: `{ privateKey, publicPem, jwk(kid) }`. */
export function keyPair(alg) {
  const make = {
    R: () => generateKeyPairSync("rsa", { modulusLength: 2048 }),
    P: () => generateKeyPairSync("rsa", { modulusLength: 2048 }),
    E: () => alg === "EdDSA"
      ? generateKeyPairSync("ed25519")
      : generateKeyPairSync("ec", { namedCurve: alg === "ES384" ? "P-384" : "P-256" }),
  }[alg[0]];
  const { privateKey, publicKey } = make();
  return {
    privateKey,
    publicPem: publicKey.export({ type: "spki", format: "pem" }),
    jwk: (kid) => ({ ...createPublicKey(privateKey).export({ format: "jwk" }), kid, alg, use: "sig" }),
  };
}
