'use strict';
// The page asks the API, once a second, and shows what it says. It adds nothing up but the periods of the chart, decides
// nothing about what is closed, and never draws what is unknown as a number. Days and clocks are those of time.js.

/** `days`: how many the range has, with today; 0 for the last hour. `fine`: the grain of the small lines beside the ads. */
const RANGES = {
  hour: { grain: 'minute', fine: 'minute', every: 1, days: 0, words: 'the last hour', before: 'the hour before' },
  today: { grain: 'minute', fine: 'hour', every: 5, days: 1, words: 'today', before: 'yesterday until this time' },
  week: { grain: 'hour', fine: 'day', every: 5, days: 7, words: '7 days', before: 'the 7 days before' },
  month: { grain: 'day', fine: 'day', every: 5, days: 30, words: '30 days', before: 'the 30 days before' },
};
const GRAIN_WORDS = { minute: 'this minute', hour: 'this hour', day: 'today' };
const DELAYED_AFTER_MS = 15_000;
const TABLES_EVERY_MS = 4_000;

/** What the address says: the view can be shared, and the back button works. */
function fromUrl() {
  const query = new URLSearchParams(location.search);
  const range = query.get('range');
  const tz = query.get('tz');
  return {
    range: Object.hasOwn(RANGES, range) ? range : 'hour',
    ad: query.get('ad') || '',
    tz: tz && isZone(tz) ? tz : 'UTC',
    compare: query.get('compare') === 'before',
  };
}
function toUrl(change) {
  const { range, ad, tz, compare } = { ...view, ...change };
  const query = new URLSearchParams();
  if (range !== 'hour') query.set('range', range);
  if (ad) query.set('ad', ad);
  if (tz !== 'UTC') query.set('tz', tz);
  if (compare) query.set('compare', 'before');
  const text = query.toString();
  return text ? `?${text}` : location.pathname;
}

let view = fromUrl();
zone = view.tz;
const keyOf = ({ range, ad, tz, compare }) => `${range} ${ad} ${tz} ${compare}`;
/** The last answer about the chart: of which view it is, and when it came by this browser's clock. */
let last = null;
let trouble = null;
/** The server's time, not the browser's: the two may differ. */
let serverTime = null;
/** The periods before those of the chart, while the two are compared. */
let before = null;
/** What the tables below the chart were last drawn for, and when. */
let tables = { key: null, at: 0, complete: null };

async function ask(path) {
  let answer;
  try {
    answer = await fetch(path, { signal: AbortSignal.timeout(REQUEST_MAX_MS), cache: 'no-store' });
  } catch {
    throw { unreachable: true, detail: 'The server cannot be reached.' };
  }
  const body = await answer.json().catch(() => null);
  if (answer.ok && body) return body;
  throw { status: answer.status, detail: (body && body.detail) || `The server answered ${answer.status}.` };
}

/** A question about the range that is shown. */
function path(address, asked) {
  const query = new URLSearchParams();
  const all = zone === 'UTC' ? asked : { ...asked, tz: zone };
  for (const [name, value] of Object.entries(all)) if (value) query.set(name, value);
  return `${address}?${query}`;
}
function clicksPath(now) {
  const { grain, days } = RANGES[view.range];
  return path('/v1/clicks', { granularity: grain, from: days && back(day(now), days - 1), ad_id: view.ad });
}
/** As many days, or minutes, that end where the range begins. */
function beforePath({ from }) {
  const { grain, days } = RANGES[view.range];
  const asked = { granularity: grain, ad_id: view.ad };
  if (days > 0) return path('/v1/clicks', { ...asked, from: back(from.slice(0, 10), days), to: from.slice(0, 10) });
  return path('/v1/clicks', { ...asked, from: new Date(Date.parse(from) - 36e5).toISOString(), to: from });
}

async function refresh() {
  const key = keyOf(view);
  const current = () => key === keyOf(view);
  try {
    if (serverTime === null) serverTime = Date.parse((await ask('/v1/status')).now);
    const asked = clicksPath(serverTime);
    const answer = await ask(asked);
    if (!current()) return;
    serverTime = Date.parse(answer.meta.to) - 1;
    last = { ...answer, came: Date.now(), path: asked, key };
    trouble = null;
    drawClicks(last);
    drawStanding();
    await refreshTables(answer.meta, key, current).catch((problem) => {
      // The chart is right all the same; a server that cannot be reached is found out by the next question.
      if (!problem.detail) throw problem;
      if (current() && !problem.unreachable) set($('ads-hint'), `cannot be told: ${problem.detail}`);
    });
    document.body.dataset.ready = view.range;
  } catch (problem) {
    // It may be long ago that this was the server's time: the refused question must not be asked again.
    serverTime = null;
    if (!current()) return;
    if (!problem.detail) throw problem;
    trouble = problem;
    // Numbers of another question must not stand under this one's title.
    if (last && last.key !== key) {
      last = before = null;
      drawClicks(null);
    }
    drawStanding();
  }
}

/** Less often than the chart, but at once when another question is asked or the sources come and go. */
async function refreshTables({ from, to, complete }, key, current) {
  const young = Date.now() - tables.at < TABLES_EVERY_MS;
  const beside = !view.compare || (before && Date.parse(before.to) === Date.parse(from));
  if (young && beside && tables.key === key && tables.complete === complete) return;
  const [days, ads, earlier] = await Promise.all([
    ask('/v1/days?last=7'),
    ask(path('/v1/ads', { from, to, limit: '10' })),
    view.compare ? ask(beforePath(last.meta)) : null,
  ]);
  if (!current()) return;
  tables = { key, at: Date.now(), complete };
  before = earlier && { key, to: earlier.meta.to, data: earlier.data };
  if (earlier) drawClicks(last);
  drawDays(days);
  drawAds(ads);
  if (ads.data.length === 0) return;
  const { fine, days: count } = RANGES[view.range];
  const names = ads.data.map((row) => row.ad_id).join(',');
  const lines = await ask(path('/v1/clicks', { granularity: fine, from: count > 0 ? from.slice(0, 10) : from, ad_id: names }));
  if (current()) drawLines(lines);
}

let wakeUp = () => {};
let again = false;

/** One refresh after the other: a slow server is not asked again before it has answered. */
async function follow() {
  for (;;) {
    again = false;
    if (!document.hidden) await refresh();
    if (again) continue;
    const seconds = trouble ? 2 : RANGES[view.range].every;
    await new Promise((wake) => {
      const timer = setTimeout(wake, seconds * 1000);
      wakeUp = () => { clearTimeout(timer); wake(); };
    });
  }
}

function go(change, push = true) {
  view = { ...view, ...change };
  zone = view.tz;
  if (push) history.pushState(null, '', toUrl(view));
  drawControls();
  // Numbers of another question stand under this one's title until they are replaced.
  $('figures').classList.toggle('waiting', Boolean(last) && last.key !== keyOf(view));
  again = true;
  wakeUp();
}

// --- what is shown ---------------------------------------------------------------------------------------------------

const NOTHING = { meta: { ledger_position: '–', segments: [] }, data: [], path: '/v1/clicks' };

function drawControls() {
  for (const link of document.querySelectorAll('[data-range]')) {
    const range = link.dataset.range;
    link.href = toUrl({ range });
    range === view.range ? link.setAttribute('aria-current', 'true') : link.removeAttribute('aria-current');
  }
  $('ad').value = view.ad;
  $('clear').hidden = !view.ad;
  $('clear').href = toUrl({ ad: '' });
  $('compare').checked = view.compare;
  drawZones();
  set($('chart-title'), view.ad ? `Clicks on ${view.ad}` : 'Clicks');
  set($('legend-grain'), GRAIN_WORDS[RANGES[view.range].grain]);
}

function drawZones() {
  const names = zoneOptions();
  if ($('zone').options.length !== names.length) {
    const words = (name) => (name === OWN_ZONE && name !== 'UTC' ? `${name} (yours)` : name);
    $('zone').replaceChildren(...names.map((name) => new Option(words(name), name)));
  }
  $('zone').value = zone;
}

/** The state in words: [name for the style, words, words that change with every second]. */
function standing() {
  const refused = trouble && trouble.status >= 400 && trouble.status < 500;
  if (!last) {
    if (!trouble) return ['loading', 'Loading…', ''];
    return ['stale', refused ? 'not a question that can be answered' : trouble.status === 503 ? 'starting' : 'no connection', ''];
  }
  const { meta } = last;
  const closed = meta.closed_through ? `closed through ${meta.closed_through}${zone === 'UTC' ? '' : ' UTC'}` : 'no day is closed yet';
  if (trouble) {
    const when = meta.as_of ? `numbers of ${clock(Date.parse(meta.as_of))}` : 'old numbers';
    return ['stale', `no connection · ${when} · ${closed}`, ''];
  }
  if (meta.reasons.some((reason) => reason.code === 'speed_away')) {
    return ['away', `speed layer away: closed days only · ${closed}`, ''];
  }
  const age = meta.freshness_ms === null ? null : meta.freshness_ms + (Date.now() - last.came);
  const behind = age === null ? '' : `, ${(age / 1000).toFixed(1)} s behind`;
  if (!meta.complete) return ['partial', `partial · ${closed}`, behind];
  const delayed = age !== null && age > DELAYED_AFTER_MS;
  return [delayed ? 'delayed' : 'live', `${delayed ? 'delayed' : 'live'} · ${closed} · complete`, behind];
}

function drawStanding() {
  const [state, words, behind] = standing();
  document.body.dataset.state = state;
  const [head, ...rest] = words.split('·');
  set($('standing'), [`${head.trim()}${behind}`, ...rest.map((part) => part.trim())].join(' · '));
  set($('spoken'), words.replaceAll('·', ','));
  drawNotice(state);
}

function drawNotice(state) {
  const reasons = !trouble && last ? last.meta.reasons : [];
  $('notice').hidden = !trouble && reasons.length === 0;
  if ($('notice').hidden) return;
  if (trouble) {
    const refused = trouble.status >= 400 && trouble.status < 500;
    set($('notice-title'), refused ? 'The question cannot be answered' : last ? 'These numbers are old' : 'There are no numbers yet');
    set($('notice-text'), trouble.detail);
  } else if (state === 'away') {
    set($('notice-title'), 'The speed layer is away');
    set($('notice-text'), 'Closed days are answered as always. Live periods are unknown: they are left out, not zero.');
  } else {
    set($('notice-title'), 'Something is missing from these numbers');
    set($('notice-text'), 'Incomplete periods hold at least what is shown.');
  }
  const texts = reasons.slice(0, 5).map((reason) => reason.message);
  if (reasons.length > 5) texts.push(`and ${reasons.length - 5} more`);
  $('reasons').replaceChildren(...texts.map((text) => element('li', text)));
}

/** Sum of what is known; unknown when nothing is. */
function sum(rows, field) {
  if (rows.length === 0) return '–';
  const known = rows.map((row) => row[field]).filter((value) => value !== null);
  if (known.length === 0) return 'unknown';
  const whole = known.length === rows.length && (field === 'late_pending' || rows.every((row) => row.complete));
  return (whole ? '' : '≥ ') + number.format(known.reduce((a, b) => a + b, 0));
}

function drawClicks(answer) {
  const { meta, data, path } = answer || NOTHING;
  $('figures').classList.remove('waiting');
  const split = (source) => meta.segments.filter((segment) => segment.source === source);
  const [closed, live] = [split('batch'), split('speed')];
  set($('sum'), sum(data, 'total'));
  set($('sum-closed'), sum(closed, 'total'));
  set($('sum-live'), sum(live, 'total'));
  set($('sum-late'), sum(data, 'late_pending'));
  set($('position'), meta.ledger_position);
  $('api-clicks').href = path;
  $('csv').href = `${path}${path.includes('?') ? '&' : '?'}format=csv`;
  const first = live[0];
  set($('boundary'), data.length === 0 ? '' : first && closed.length > 0
    ? `Closed up to ${stamp(first.from)} ${zone}, provisional since.`
    : first ? `All of this range is provisional; it is closed day by day, after midnight UTC.` : 'All of this range is closed.');
  drawComparison(data);
  $('legend-lack').hidden = data.every((row) => row.complete);
  const known = data.some((row) => row.total !== null);
  const empty = data.length === 0 ? 'There are no numbers to show.'
    : !known ? 'The clicks of this range are unknown at the moment.'
    : data.every((row) => !row.total) && data.every((row) => row.complete) ? 'No clicks in this range.' : '';
  set($('chart-note'), empty);
  $('chart-note').hidden = !empty;
  drawChart(data, meta.segments, earlierRows());
  if ($('numbers').open) drawPeriods(data);
}

/** The rows before, beside those of the chart; none while nothing is compared, or only what was before an earlier minute. */
function earlierRows() {
  const fits = last && before && before.key === last.key && Date.parse(before.to) === Date.parse(last.meta.from);
  return fits ? before.data.slice(0, last.data.length) : [];
}

/** How the periods that are over compare with as many before. */
function drawComparison(data) {
  const rows = earlierRows();
  // Where the clock was moved, one of the two has an hour more.
  const count = Math.min(data.length - 1, rows.length);
  const [over, earlier] = [data.slice(0, count), rows.slice(0, count)];
  // A minute has passed, and what belongs beside it is asked for at this moment.
  if (rows.length === 0 && last && before && before.key === last.key) return;
  $('compared').hidden = $('legend-before').hidden = earlier.length === 0;
  if (earlier.length === 0) return;
  set($('compared-words'), RANGES[view.range].before);
  set($('sum-before'), sum(earlier, 'total'));
  // Before the first day nothing was counted: there is nothing to compare with.
  const known = (rows) => rows.every((row) => row.total !== null && row.complete && row.source !== 'none');
  const total = (rows) => rows.reduce((all, row) => all + row.total, 0);
  const change = known(over) && known(earlier) && total(earlier) > 0 ? total(over) / total(earlier) - 1 : null;
  set($('change'), change === null ? '' : `${change < 0 ? '−' : '+'}${(100 * Math.abs(change)).toFixed(1)} %`);
}

// --- what the user does ----------------------------------------------------------------------------------------------

document.addEventListener('click', (event) => {
  const link = event.target.closest('a[data-range], a[data-ad]');
  // A new tab, a new window: the browser's business.
  if (!link || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const { range, ad } = link.dataset;
  // An ad that is shown already is let go.
  go(range ? { range } : { ad: ad === view.ad ? '' : ad });
});
$('filter').addEventListener('submit', (event) => {
  event.preventDefault();
  go({ ad: $('ad').value.trim() });
});
$('ad').addEventListener('search', () => $('ad').value === '' && view.ad && go({ ad: '' }));
$('numbers').addEventListener('toggle', () => last && $('numbers').open && drawPeriods(last.data));
$('zone').addEventListener('change', () => go({ tz: $('zone').value }));
$('compare').addEventListener('change', () => go({ compare: $('compare').checked }));
addEventListener('popstate', () => go(fromUrl(), false));
document.addEventListener('visibilitychange', () => !document.hidden && wakeUp());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
new ResizeObserver(() => {
  const { clientWidth: width, clientHeight: height } = $('chart');
  if (chart && (chart.plot.width !== width || chart.plot.height !== height)) chart.plot.setSize({ width, height });
}).observe($('chart'));
// Seconds pass without an answer, too.
setInterval(() => last && !trouble && drawStanding(), 1000);

drawControls();
follow();
