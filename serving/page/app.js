'use strict';
// The page asks the API, once a second, and shows what it says. It adds nothing up but the periods of the chart, decides
// nothing about what is closed, and never draws what is unknown as a number. What is asked is up to view.js, with which key
// to access.js.

const GRAIN_WORDS = { minute: 'this minute', hour: 'this hour', day: 'today' };
const DELAYED_AFTER_MS = 15_000;
const TABLES_EVERY_MS = 4_000;

/** The last answer about the chart: of which view it is, and when it came by this browser's clock. */
let last = null;
let trouble = null;
/** The server's time, not the browser's: the two may differ. */
let serverTime = null;
/** When that was, by this browser. */
let askedAt = 0;
/** The periods before those of the chart, while the two are compared. */
let before = null;
/** What the ads are called that were listed or shown; null of those that are not in the ads table. */
const called = new Map();
/** What the tables below the chart were last drawn for, and when. */
let tables = { key: null, at: 0, complete: null };

/** Who asks, by which clock, and which campaigns there are. */
async function meet(current) {
  const [who, all] = await Promise.all([ask('/v1/access'), askCampaigns()]);
  if (!current()) return;
  [access, campaigns, serverTime, askedAt] = [who, all, Date.parse(who.now), Date.now()];
  drawAccess();
  drawSubject();
}
/** The page is of use without them, too. */
const askCampaigns = () => ask('/v1/campaigns').catch((problem) => {
  if (!problem.detail) throw problem;
  return campaigns;
});

/** What the ad is called that is shown. It is only a name: without it the page is as right. */
async function askName() {
  const { ad } = view;
  if (!ad || called.has(ad)) return;
  const [row = null] = await ask(plainPath('/v1/names', { ad_id: ad })).then(({ data }) => data, (problem) => {
    if (![400, 403, 404].includes(problem.status)) throw problem;
    return [];
  });
  called.set(ad, row);
  drawSubject();
}

async function refresh() {
  const key = keyOf(view);
  const current = () => key === keyOf(view);
  try {
    if (serverTime === null) await meet(current);
    if (!current()) return;
    const wrong = wrongDates(view);
    if (wrong) throw { status: 400, detail: wrong };
    const asked = clicksPath(serverTime);
    const [answer] = await Promise.all([ask(asked), askName()]);
    if (!current()) return;
    serverTime = timeAfter(answer.meta);
    last = { ...answer, came: Date.now(), path: asked, key };
    trouble = null;
    drawClicks(last);
    drawStanding();
    await refreshTables(answer.meta, key, current).catch((problem) => {
      // The chart is right all the same; a server that cannot be reached is found out by the next question.
      if (!problem.detail || [401, 429].includes(problem.status)) throw problem;
      if (!current() || problem.unreachable) return;
      if (tables.key !== tablesKey(key)) clearTables('Unknown.');
      set($('ads-hint'), `cannot be told: ${problem.detail}`);
    });
    if (current()) document.body.dataset.ready = view.range;
  } catch (problem) {
    // It may be long ago that this was the server's time: the refused question must not be asked again.
    serverTime = null;
    if (!current() || problem.outdated) return;
    if (!problem.detail) throw problem;
    if (problem.status === 401 || problem.status === 403) return lock(problem);
    trouble = problem;
    // Numbers of another question must not stand under this one's title.
    if (last && last.key !== key) {
      last = before = null;
      drawClicks(null);
    }
    if (tables.key !== tablesKey(key)) clearTables('Unknown.');
    drawStanding();
  }
}

/** Free dates may be long over, which tells nothing of the time: then it passes as this browser's does. */
function timeAfter({ to }) {
  const passed = Date.now() - askedAt;
  askedAt = Date.now();
  return view.range === 'dates' ? serverTime + passed : Date.parse(to) - 1;
}

const tablesKey = (key) => `${key} ${shownTop()}`;

/** Less often than the chart, but at once when another question is asked or the sources come and go. */
async function refreshTables({ from, to, complete }, question, current) {
  const top = shownTop();
  const key = tablesKey(question);
  const young = Date.now() - tables.at < TABLES_EVERY_MS;
  const beside = !view.compare || (before && Date.parse(before.to) === Date.parse(from));
  if (young && beside && tables.key === key && tables.complete === complete) return;
  const still = () => current() && top === shownTop();
  const [days, ranked, earlier] = await Promise.all([
    ask(daysPath(serverTime)),
    ask(topPath({ from, to }, top)),
    view.compare ? ask(beforePath(last.meta)) : null,
  ]);
  if (!still()) return;
  tables = { key, at: Date.now(), complete };
  before = earlier && { key: question, to: earlier.meta.to, data: earlier.data };
  if (earlier) drawClicks(last);
  drawDays(days);
  drawTop(ranked, top);
  drawSubject();
  $('tables').classList.remove('waiting');
  const linesOf = linesPath({ from }, top, ranked.data);
  if (linesOf) {
    const lines = await ask(linesOf);
    if (still()) drawLines(lines, top);
  }
  // Another table of ads was loaded, perhaps with other campaigns.
  if ((ranked.meta.ads_version || 0) === (campaigns.ads_version || 0)) return;
  const all = await askCampaigns();
  if (!current()) return;
  campaigns = all;
  called.clear();
  drawSubject();
}

/** Takes off the screen what the tables say: it is of something else. */
function clearTables(words) {
  tables = { key: null, at: 0, complete: null };
  for (const id of ['day-rows', 'ad-rows']) $(id).replaceChildren();
  for (const id of ['days-empty', 'ads-empty']) {
    $(id).hidden = false;
    set($(id), words);
  }
  for (const id of ['days-hint', 'ads-hint']) set($(id), '');
  $('tables').classList.remove('waiting');
}

/** Takes everything off the screen that was answered. */
function forget() {
  delete document.body.dataset.ready;
  last = before = trouble = serverTime = null;
  campaigns = NO_CAMPAIGNS;
  called.clear();
  drawClicks(null);
  clearTables('Loading…');
  $('period-rows').replaceChildren();
  $('notice').hidden = true;
  set($('csv-said'), '');
  drawSubject();
}

let wakeUp = () => {};
let again = false;

/** One refresh after the other: a slow server is not asked again before it has answered. */
async function follow() {
  for (;;) {
    again = false;
    if (!document.hidden && !locked && Date.now() >= quietUntil) await refresh();
    if (again) continue;
    const seconds = trouble ? 2 : shownRange().every;
    await new Promise((wake) => {
      const timer = setTimeout(wake, Math.max(seconds * 1000, quietUntil - Date.now()));
      wakeUp = () => { clearTimeout(timer); wake(); };
    });
  }
}

function go(change, push = true) {
  view = changed(change);
  zone = view.tz;
  if (push) history.pushState(null, '', toUrl(view));
  drawControls();
  // Numbers of another question stand under this one's title until they are replaced.
  $('figures').classList.toggle('waiting', Boolean(last) && last.key !== keyOf(view));
  $('tables').classList.toggle('waiting', tables.key !== null && tables.key !== tablesKey(keyOf(view)));
  again = true;
  wakeUp();
}

// --- what is shown ---------------------------------------------------------------------------------------------------

const NOTHING = { meta: { ledger_position: '–', segments: [] }, data: [], path: '/v1/clicks' };

function drawControls() {
  for (const link of document.querySelectorAll('[data-range]')) {
    const range = link.dataset.range;
    link.href = toUrl(choice({ range }));
    range === view.range ? link.setAttribute('aria-current', 'true') : link.removeAttribute('aria-current');
  }
  drawDates();
  $('ad').value = view.ad;
  $('compare').checked = view.compare;
  drawZones();
  set($('legend-grain'), GRAIN_WORDS[shownRange().grain]);
  drawSubject();
}

/** Which ads are shown: in the titles, and where another choice is made. */
function drawSubject() {
  const words = chosenWords();
  set($('chart-title'), view.ad ? `Clicks on ${view.ad}` : words ? `Clicks of ${words}` : 'Clicks');
  document.title = `Twofold: ${view.ad ? 'clicks on' : words ? 'clicks of' : 'clicks'} ${words}`.trim();
  const row = called.get(view.ad);
  set($('called'), row ? [row.name, row.campaign, row.tenant].filter(Boolean).join(' · ') : '');
  $('called').hidden = !$('called').textContent;
  $('clear').href = toUrl(ALL_ADS);
  drawCampaigns();
  // Beside the choice of campaigns it would say the same again.
  $('clear').hidden = campaigns.data.length > 0 ? !view.ad : !view.ad && !view.tenant && !view.campaign;
  set($('ads-title'), TOPS[shownTop()].title);
  set($('ads-head'), TOPS[shownTop()].one);
}

function drawZones() {
  const names = zoneOptions();
  if ($('zone').options.length !== names.length) {
    const words = (name) => (name === OWN_ZONE && name !== 'UTC' ? `${name} (yours)` : name);
    $('zone').replaceChildren(...names.map((name) => new Option(words(name), name)));
  }
  $('zone').value = zone;
}

/** The question is at fault, and not the server or the moment. */
const isRefused = ({ status }) => status >= 400 && status < 500 && status !== 429;

/** The state in words: [name for the style, words, words that change with every second]. */
function standing() {
  const hurried = trouble && trouble.status === 429;
  if (!last) {
    if (!trouble) return ['loading', 'Loading…', ''];
    return ['stale', hurried ? 'asked too often' : isRefused(trouble) ? 'not a question that can be answered' : trouble.status === 503 ? 'starting' : 'no connection', ''];
  }
  const { meta } = last;
  const closed = meta.closed_through ? `closed through ${meta.closed_through}${zone === 'UTC' ? '' : ' UTC'}` : 'no day is closed yet';
  if (trouble) {
    const when = meta.as_of ? `numbers of ${clock(Date.parse(meta.as_of))}` : 'old numbers';
    return ['stale', `${hurried ? 'asked too often' : 'no connection'} · ${when} · ${closed}`, ''];
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
    set($('notice-title'), isRefused(trouble) ? 'The question cannot be answered' : last ? 'These numbers are old' : 'There are no numbers yet');
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
  const count = Math.min(runningAt(data, serverTime), rows.length);
  const [over, earlier] = [data.slice(0, count), rows.slice(0, count)];
  // A minute has passed, and what belongs beside it is asked for at this moment.
  if (rows.length === 0 && last && before && before.key === last.key) return;
  $('compared').hidden = $('legend-before').hidden = earlier.length === 0;
  if (earlier.length === 0) return;
  set($('compared-words'), shownRange().before);
  set($('sum-before'), sum(earlier, 'total'));
  // Before the first day nothing was counted: there is nothing to compare with.
  const known = (rows) => rows.every((row) => row.total !== null && row.complete && row.source !== 'none');
  const total = (rows) => rows.reduce((all, row) => all + row.total, 0);
  const change = known(over) && known(earlier) && total(earlier) > 0 ? total(over) / total(earlier) - 1 : null;
  set($('change'), change === null ? '' : `${change < 0 ? '−' : '+'}${(100 * Math.abs(change)).toFixed(1)} %`);
}

// --- what the user does ----------------------------------------------------------------------------------------------

/** What a link leads to. What is shown already is let go: a campaign to its tenant, all else to all ads. */
function choice({ range, top, ad, tenant, campaign }) {
  if (range) return range === 'dates' ? asDates() : { range, ...NO_DATES };
  if (top) return { top };
  if (ad !== undefined) return ad && ad !== view.ad ? { ad } : ALL_ADS;
  if (tenant !== view.tenant || campaign !== view.campaign) return { ...ALL_ADS, tenant, campaign };
  return campaign ? { campaign: '' } : ALL_ADS;
}

document.addEventListener('click', (event) => {
  const link = event.target.closest('a[data-range], a[data-ad], a[data-tenant], a[data-top]');
  // A new tab, a new window: the browser's business.
  if (!link || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(choice(link.dataset));
});
$('filter').addEventListener('submit', (event) => {
  event.preventDefault();
  const ad = $('ad').value.trim();
  // Nothing to let go: a campaign stays.
  if (ad || view.ad) go({ ad });
});
$('csv').addEventListener('click', async (event) => {
  if (!bearer) return;
  event.preventDefault();
  set($('csv-said'), 'Fetching…');
  try {
    await download($('csv').getAttribute('href'));
    set($('csv-said'), '');
  } catch (problem) {
    if (!problem.detail) throw problem;
    problem.status === 401 ? lock(problem) : set($('csv-said'), `Not saved: ${problem.detail}`);
  }
});
// The next one to come may see other ads.
$('sign-out').addEventListener('click', () => go(ALL_ADS));
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
