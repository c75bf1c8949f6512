// hidden.mjs FILE.js ...: runs the page's program without a browser, hides it for two weeks, and shows it again. It must ask for
// the day that it is by then, and not go on asking for one that the server refuses.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import vm from 'node:vm';

const MINUTES_MAX = 20_000;
const DAY_MS = 864e5;
let now = Date.parse('2026-03-01T12:00:00Z');
const asked = [];

function answer(url) {
  const { pathname, searchParams: query } = new URL(url, 'http://server');
  if (pathname === '/v1/access') return { now: new Date(now).toISOString() };
  const from = Date.parse(query.get('from') || new Date(now).toISOString());
  if (pathname === '/v1/clicks') {
    const refused = (now - from) / 60_000 > MINUTES_MAX;
    asked.push({ from: query.get('from'), refused });
    if (refused) return null;
  }
  const times = { from: new Date(from).toISOString(), to: new Date(now + 60_000).toISOString(), segments: [] };
  return { meta: { ...times, reasons: [], complete: true, freshness_ms: 0 }, data: [], count: 0 };
}
async function fetch(url) {
  const body = answer(url);
  return { ok: body !== null, status: body ? 200 : 400, json: async () => body || { detail: 'too many rows' } };
}

// Whatever the page does to its elements, it may.
const anything = new Proxy(() => {}, {
  get: (_, name) => (name === Symbol.iterator ? [][Symbol.iterator] : name === Symbol.toPrimitive ? () => '' : anything),
  set: () => true,
  apply: () => anything,
});
const timers = [];
const heard = {};
const document = {
  hidden: false,
  body: { dataset: {} },
  getElementById: () => anything,
  querySelectorAll: () => [],
  createElement: () => anything,
  createElementNS: () => anything,
  addEventListener: (name, hear) => (heard[name] = hear),
};
const page = {
  document, fetch, URL, URLSearchParams, AbortSignal, Intl, console, Option: Object,
  Date: class extends Date { static now() { return now; } },
  location: { search: '?range=today', pathname: '/' },
  history: { pushState() {} },
  addEventListener() {},
  matchMedia: () => anything,
  ResizeObserver: class { observe() {} },
  setTimeout: (wake) => timers.push(wake),
  clearTimeout() {},
  setInterval() {},
  chart: null,
  drawChart() {},
  redraw() {},
};
vm.runInNewContext(process.argv.slice(2).map((file) => readFileSync(file, 'utf8')).join('\n'), page);

const settled = () => new Promise((done) => setTimeout(done, 5));
const tick = async () => {
  timers.splice(0).forEach((wake) => wake());
  await settled();
};

await settled();
assert.deepEqual(asked.splice(0), [{ from: '2026-03-01', refused: false }]);
document.hidden = true;
for (let n = 0; n < 3; n += 1) await tick();
assert.deepEqual(asked, [], 'a hidden page does not ask');
now += 15 * DAY_MS;
document.hidden = false;
heard.visibilitychange();
await settled();
for (let n = 0; n < 3; n += 1) await tick();
assert.deepEqual(asked.at(-1), { from: '2026-03-16', refused: false }, JSON.stringify(asked));
// While it is looked at the server may be away as long: then nothing wakes it but its own clock.
now += 15 * DAY_MS;
for (let n = 0; n < 3; n += 1) await tick();
assert.deepEqual(asked.at(-1), { from: '2026-03-31', refused: false }, JSON.stringify(asked));
