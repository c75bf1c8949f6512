'use strict';
// The page asks the API, once a second, and shows what it says. It adds nothing up but the periods of the chart, decides
// nothing about what is closed, and never draws what is unknown as a number.

const RANGES = {
  hour: { grain: 'minute', every: 1, from: () => null, words: 'the last hour' },
  today: { grain: 'minute', every: 5, from: (now) => day(now), words: 'today' },
  week: { grain: 'hour', every: 5, from: (now) => day(now - 6 * 864e5), words: '7 days' },
  month: { grain: 'day', every: 5, from: (now) => day(now - 29 * 864e5), words: '30 days' },
};
const GRAIN_WORDS = { minute: 'this minute', hour: 'this hour', day: 'today' };
const DELAYED_AFTER_MS = 15_000;
const REQUEST_MAX_MS = 8_000;
const TABLES_EVERY_MS = 4_000;

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat('en-US');
const day = (ms) => new Date(ms).toISOString().slice(0, 10);
const clock = (ms) => new Date(ms).toISOString().slice(11, 19);
const stamp = (text) => `${text.slice(0, 10)} ${text.slice(11, 16)}`;
const shown = (value) => (value === null || value === undefined ? 'unknown' : number.format(value));

/** What the address says: the view can be shared, and the back button works. */
function fromUrl() {
  const query = new URLSearchParams(location.search);
  const range = query.get('range');
  return { range: Object.hasOwn(RANGES, range) ? range : 'hour', ad: query.get('ad') || '' };
}
function toUrl({ range, ad }) {
  const query = new URLSearchParams();
  if (range !== 'hour') query.set('range', range);
  if (ad) query.set('ad', ad);
  const text = query.toString();
  return text ? `?${text}` : location.pathname;
}

let view = fromUrl();
const keyOf = ({ range, ad }) => `${range} ${ad}`;
/** The last answer about the chart: of which view it is, and when it came by this browser's clock. */
let last = null;
let trouble = null;
/** The server's time, not the browser's: the two may differ. */
let serverTime = null;
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

function clicksPath(now) {
  const range = RANGES[view.range];
  const query = new URLSearchParams({ granularity: range.grain });
  const from = range.from(now);
  if (from) query.set('from', from);
  if (view.ad) query.set('ad_id', view.ad);
  return `/v1/clicks?${query}`;
}

async function refresh() {
  const key = keyOf(view);
  const current = () => key === keyOf(view);
  try {
    if (serverTime === null) serverTime = Date.parse((await ask('/v1/status')).now);
    const path = clicksPath(serverTime);
    const answer = await ask(path);
    if (!current()) return;
    serverTime = Date.parse(answer.meta.to) - 1;
    last = { ...answer, came: Date.now(), path, key };
    trouble = null;
    drawClicks(last);
    drawStanding();
    await refreshTables(answer.meta, key, current);
    document.body.dataset.ready = view.range;
  } catch (problem) {
    // It may be long ago that this was the server's time: the refused question must not be asked again.
    serverTime = null;
    if (!current()) return;
    if (!problem.detail) throw problem;
    trouble = problem;
    // Numbers of another question must not stand under this one's title.
    if (last && last.key !== key) {
      last = null;
      drawClicks(null);
    }
    drawStanding();
  }
}

/** Less often than the chart, but at once when another question is asked or the sources come and go. */
async function refreshTables({ from, to, complete }, key, current) {
  const young = Date.now() - tables.at < TABLES_EVERY_MS;
  if (young && tables.key === key && tables.complete === complete) return;
  const range = new URLSearchParams({ from, to, limit: '10' });
  const [days, ads] = await Promise.all([ask('/v1/days?last=7'), ask(`/v1/ads?${range}`)]);
  if (!current()) return;
  tables = { key, at: Date.now(), complete };
  drawDays(days);
  drawAds(ads);
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
  if (push) history.pushState(null, '', toUrl(view));
  drawControls();
  again = true;
  wakeUp();
}

// --- what is shown ---------------------------------------------------------------------------------------------------

const NOTHING = { meta: { ledger_position: '–' }, data: [], path: '/v1/clicks' };

function set(node, value) {
  const text = String(value);
  if (node.textContent !== text) node.textContent = text;
}

function drawControls() {
  for (const link of document.querySelectorAll('[data-range]')) {
    const range = link.dataset.range;
    link.href = toUrl({ range, ad: view.ad });
    range === view.range ? link.setAttribute('aria-current', 'true') : link.removeAttribute('aria-current');
  }
  $('ad').value = view.ad;
  $('clear').hidden = !view.ad;
  $('clear').href = toUrl({ range: view.range, ad: '' });
  set($('chart-title'), view.ad ? `Clicks on ${view.ad}` : 'Clicks');
  set($('legend-grain'), GRAIN_WORDS[RANGES[view.range].grain]);
}

/** The state in words: [name for the style, words, words that change with every second]. */
function standing() {
  const refused = trouble && trouble.status >= 400 && trouble.status < 500;
  if (!last) {
    if (!trouble) return ['loading', 'Loading…', ''];
    return ['stale', refused ? 'not a question that can be answered' : trouble.status === 503 ? 'starting' : 'no connection', ''];
  }
  const { meta } = last;
  const closed = meta.closed_through ? `closed through ${meta.closed_through}` : 'no day is closed yet';
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

function element(name, text, className) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
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
  const closed = data.filter((row) => row.source === 'batch');
  const live = data.filter((row) => row.source === 'speed');
  set($('sum'), sum(data, 'total'));
  set($('sum-closed'), sum(closed, 'total'));
  set($('sum-live'), sum(live, 'total'));
  set($('sum-late'), sum(data, 'late_pending'));
  set($('position'), meta.ledger_position);
  $('api-clicks').href = path;
  const first = live[0];
  set($('boundary'), data.length === 0 ? '' : first && closed.length > 0
    ? `Closed up to ${stamp(first.period_start)} UTC, provisional since.`
    : first ? `All of this range is provisional; it is closed day by day, after midnight UTC.` : 'All of this range is closed.');
  $('legend-lack').hidden = data.every((row) => row.complete);
  const known = data.some((row) => row.total !== null);
  const empty = data.length === 0 ? 'There are no numbers to show.'
    : !known ? 'The clicks of this range are unknown at the moment.'
    : data.every((row) => !row.total) && data.every((row) => row.complete) ? 'No clicks in this range.' : '';
  set($('chart-note'), empty);
  $('chart-note').hidden = !empty;
  drawChart(data);
  if ($('numbers').open) drawPeriods(data);
}

function drawPeriods(data) {
  const rows = data.slice().reverse().map((row) => {
    const line = element('tr');
    const state = element('td');
    state.append(badge(row.state));
    line.append(element('td', stamp(row.period_start), 'when'), state, clicksCell(row), element('td', shown(row.late_pending), 'n'));
    return line;
  });
  $('period-rows').replaceChildren(...rows);
}

function badge(state) {
  return element('span', state, `badge ${state}`);
}

function clicksCell(row) {
  const lacks = !row.complete && row.total !== null;
  const cell = element('td', (lacks ? '≥ ' : '') + shown(row.total), row.complete ? 'n' : 'n lacking');
  if (row.adjustment) cell.title = `${number.format(row.clicks)} and ${number.format(row.adjustment)} found later`;
  return cell;
}

function drawDays({ data }) {
  $('days-empty').hidden = data.length > 0;
  set($('days-empty'), 'No day has begun yet.');
  $('day-rows').replaceChildren(...data.map((row) => {
    const line = element('tr');
    const state = element('td');
    state.append(badge(row.state));
    const live = element('td', row.source === 'batch' ? shown(row.last_live) : '–', 'n wide');
    if (row.source === 'batch' && row.last_live === null) {
      live.classList.add('soft');
      live.title = 'Live counts are kept for a while after their day has closed (24 hours, unless set otherwise); those of this day are gone, or the speed layer is away.';
    }
    if (row.unexplained) {
      live.textContent += ` (${row.unexplained > 0 ? '+' : ''}${number.format(row.unexplained)} unexplained)`;
      live.classList.add('lacking');
    } else if (row.unexplained === 0) {
      live.title = `live ${shown(row.last_live)} + late ${shown(row.late)} - far duplicates ${shown(row.far_duplicates)} = exact ${shown(row.clicks)}`;
    }
    line.append(element('td', row.day, 'when'), state, clicksCell(row), live, element('td', shown(row.late_pending), 'n'),
      element('td', row.revision === null ? '–' : String(row.revision), 'n'));
    return line;
  }));
}

/** Rows are kept as long as their ad is there, so that the keyboard's place is not lost. */
function drawAds({ data, ads_count, meta }) {
  $('ads-empty').hidden = data.length > 0;
  set($('ads-empty'), meta.complete ? 'No clicks in this range.' : 'The clicks of this range are not known.');
  const more = ads_count > data.length ? `${data.length} of ${number.format(ads_count)}, ` : '';
  set($('ads-hint'), `${more}${RANGES[view.range].words}`);
  const body = $('ad-rows');
  const kept = new Map([...body.children].map((line) => [line.dataset.ad, line]));
  const largest = data.length > 0 ? data[0].total : 1;
  data.forEach((row, place) => {
    const line = kept.get(row.ad_id) || adLine(row.ad_id);
    kept.delete(row.ad_id);
    const link = line.querySelector('a');
    link.href = toUrl({ range: view.range, ad: row.ad_id === view.ad ? '' : row.ad_id });
    line.querySelector('rect').setAttribute('width', `${(100 * row.total) / Math.max(1, largest)}%`);
    set(line.lastChild, (meta.complete ? '' : '≥ ') + number.format(row.total));
    row.ad_id === view.ad ? line.setAttribute('aria-current', 'true') : line.removeAttribute('aria-current');
    if (body.children[place] !== line) body.insertBefore(line, body.children[place] || null);
  });
  for (const line of kept.values()) line.remove();
}

const SVG = 'http://www.w3.org/2000/svg';
function adLine(ad) {
  const line = element('tr');
  line.dataset.ad = ad;
  const name = element('td', undefined, 'ad');
  const link = element('a', ad);
  link.dataset.ad = ad;
  name.append(link);
  const share = element('td', undefined, 'share');
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('aria-hidden', 'true');
  const bar = document.createElementNS(SVG, 'rect');
  bar.setAttribute('height', '8');
  bar.setAttribute('rx', '2');
  svg.append(bar);
  share.append(svg);
  line.append(name, share, element('td', '', 'n'));
  return line;
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
