// What the hosts are on which the first-party plugins are tested, apart and together.

/** The local time in UTC, so many hours from now. */
const clock = (hours) => new Date(Date.now() + hours * 3_600_000).toISOString().slice(11, 16);

const RULES = {
  courses: {
    quiet: { quietHours: { from: clock(-2), to: clock(2), timeZone: "Etc/UTC" } },
    wordy: { words: ["spam"] },
    open: { roles: ["student"] },
    approved: { approval: true },
    waiting: { approval: true },
    staffed: { approval: true },
    limited: { perHour: 5 },
  },
};

/** By plugin: what the host of its tests needs. The users and ids of each are no other's. */
export const SUITES = {
  announcements: { plugins: ["announcements"], plugin: { announcements: { settings: RULES } } },
  chat: { plugins: ["chat", "lms", "rooms"], presenceGrace: "300ms", typingTimeout: "500ms" },
  classroom: {
    plugins: ["classroom", "lms", "rooms", "probe"],
    roleAliases: { teacher: "educator" },
  },
  lms: { plugins: ["lms", "rooms", "probe"], typingTimeout: "500ms" },
  quiz: { plugins: ["quiz"] },
  rooms: { plugins: ["rooms", "lms", "probe"], presenceGrace: "300ms" },
};

/** A host on which all of them can run at once. */
export const TOGETHER = {
  ...Object.assign({}, ...Object.values(SUITES)),
  // Both take `signal`; where neither can read one, the first says what it expected.
  order: ["classroom", "chat"],
  // The shared hosts' own scouts use `probe`.
  plugins: [...new Set(Object.values(SUITES).flatMap(({ plugins }) => plugins))],
};
