// The one place where the tests know the names of the host's configuration keys.

/** Option of a test → section and key of `switchboard.toml`. */
const KEYS = {
  drainTimeout: ["server", "drain_timeout"],
  path: ["socket", "path"],
  corsOrigin: ["socket", "cors_origin"],
  pingInterval: ["socket", "ping_interval"],
  pingTimeout: ["socket", "ping_timeout"],
  maxMessageBytes: ["socket", "max_message_bytes"],
  maxConnections: ["socket", "max_connections"],
  outgoingBytes: ["socket", "outgoing_bytes"],
  handshakesPerSecond: ["socket", "handshakes_per_second"],
  handshakeBurst: ["socket", "handshake_burst"],
  secret: ["auth", "secret"],
  algorithms: ["auth", "algorithms"],
  publicKeys: ["auth", "public_keys"],
  jwksFile: ["auth", "jwks_file"],
  issuer: ["auth", "issuer"],
  audience: ["auth", "audience"],
  leeway: ["auth", "leeway"],
  late: ["auth", "late"],
  lateTimeout: ["auth", "late_timeout"],
  guests: ["auth", "guests"],
  roles: ["auth", "roles"],
  roleAliases: ["auth", "role_aliases"],
  expiryWarning: ["auth", "expiry_warning"],
  eventsPerSecond: ["limits", "events_per_second"],
  burst: ["limits", "burst"],
  userEventsPerSecond: ["limits", "user_events_per_second"],
  userBurst: ["limits", "user_burst"],
  refusals: ["limits", "refusals"],
  mailbox: ["limits", "mailbox"],
  roomsPerConnection: ["limits", "rooms_per_connection"],
  order: ["plugins", "order"],
  deadline: ["plugins", "deadline"],
  memoryMb: ["plugins", "memory_mb"],
  isolation: ["plugins", "isolation"],
  quarantineFaults: ["plugins.quarantine", "faults"],
  apiKey: ["api", "key"],
  state: ["state", "backend"],
  stateDir: ["state", "dir"],
  typingTimeout: ["typing", "timeout"],
  presenceGrace: ["presence", "grace"],
  presenceIdle: ["presence", "idle"],
  serverEventBytes: ["limits", "server_event_bytes"],
  clusterEnabled: ["cluster", "enabled"],
  redisUrl: ["redis", "url"],
  redisPort: ["redis", "port"],
  redisUsername: ["redis", "username"],
  redisPassword: ["redis", "password"],
  clusterMode: ["cluster", "mode"],
  view: ["cluster", "view"],
  viewPrefix: ["cluster", "view_prefix"],
  viewRooms: ["cluster", "view_rooms"],
  subscriptions: ["cluster", "subscriptions"],
  redisTimeout: ["redis", "timeout"],
  redisTls: ["redis", "tls"],
  redisCa: ["redis", "ca"],
  redisCertificate: ["redis", "certificate"],
  redisKey: ["redis", "key"],
  redisCluster: ["redis", "cluster"],
  redisNodes: ["redis", "nodes"],
  redisSentinels: ["redis", "sentinels"],
  redisMaster: ["redis", "master"],
  sentinelUsername: ["redis", "sentinel_username"],
  sentinelPassword: ["redis", "sentinel_password"],
};

/** The key of the server API in test hosts. */
export const API_KEY = "api-key-of-the-tests-0123456789abcdef";

/** What test hosts run with unless a test says otherwise: no limit that a test would meet by chance. */
const DEFAULTS = {
  drainTimeout: "5s",
  handshakesPerSecond: 100_000,
  handshakeBurst: 100_000,
  eventsPerSecond: 1_000_000,
  burst: 1_000_000,
  userEventsPerSecond: 1_000_000,
  userBurst: 1_000_000,
  apiKey: API_KEY,
};

/**
 * Returns the text of a `switchboard.toml`. `options` has keys of the table above, `undefined` for
 * "not set", `plugin`: `{ NAME: { namespace?, rooms?, capabilities?, channels?, settings? } }`, and
 * `channels`: `{ NAME: { event?, plugin?, key? } }`.
 */
export function configurationFile({ plugin = {}, channels = {}, ...options } = {}) {
  const sections = {};
  for (const [option, value] of Object.entries({ ...DEFAULTS, ...options })) {
    const place = KEYS[option];
    if (!place) throw new Error(`the harness knows no option "${option}"`);
    if (value === undefined) continue;
    const [section, key] = place;
    (sections[section] ??= {})[key] = value;
  }
  for (const [name, value] of Object.entries(plugin)) sections[`plugin.${name}`] = value;
  for (const [name, value] of Object.entries(channels)) sections[`channels.${JSON.stringify(name)}`] = value;
  return Object.entries(sections)
    .map(([section, members]) => `[${section}]\n${lines(members)}`)
    .join("\n");
}

function lines(members) {
  return Object.entries(members)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key} = ${toml(value)}\n`)
    .join("");
}

function toml(value) {
  if (Array.isArray(value)) return `[${value.map(toml).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    const members = Object.entries(value).map(([key, item]) => `${JSON.stringify(key)} = ${toml(item)}`);
    return `{ ${members.join(", ")} }`;
  }
  return JSON.stringify(value); // Texts, numbers and booleans read the same in both.
}
