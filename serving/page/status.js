'use strict';
// Where everything stands, for whoever has to mend it. The page asks the API every five seconds, one question after the
// other, and says what is wrong, worst first. Numbers that could not be asked for again stay, and are called old.

const EVERY_MS = 5_000;
/** Numbers of that age are old, whatever the reason: a slow server, or a page that nobody looked at. */
const OLD_AFTER_MS = 20_000;
const LAG_MAX_MS = 30_000;
/** An hour's records are stored when the hour is over, if not before. */
const ARCHIVE_LAG_MAX_MS = 2 * 3_600_000;
const OVERDUE_AFTER_MS = 2 * 3_600_000;

/** In the order of asking. `body`: the last answer; `at`: when it came, by this browser; `trouble`: why no other came since. */
const part = (path) => ({ path, body: null, at: 0, trouble: null });
const parts = { status: part('/v1/status'), nights: part('/v1/nights?last=14'), days: part('/v1/days?last=14') };
/** By how much the server's clock is ahead of this browser's. */
let ahead = 0;
/** The page itself failed: what it shows is not to be trusted. */
let broken = null;

const signed = (value) => (value > 0 ? '+' : '') + shown(value);
const moment = (text) => (text ? local(Date.parse(text)) : 'unknown');
/** In the unit that says most. */
const age = (ms) => (!isKnown(ms) ? 'unknown' : ms < 120_000 ? `${Math.round(ms / 1000)} s` : ms < 7_200_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 3_600_000)} h`);
const seconds = (ms) => (isKnown(ms) ? `${number.format(Math.round(ms / 100) / 10)} s` : 'unknown');
const clockOf = (part) => clock(part.at + ahead);
const isOld = (part) => part.trouble !== null || Date.now() - part.at > OLD_AFTER_MS;

/** Why there is no answer: `head` in short, and `detail` without a full stop. */
function told({ status, slow, unreachable, detail }) {
  if (unreachable) {
    const why = slow ? `no answer within ${REQUEST_MAX_MS / 1000} s` : 'there is no connection';
    return { head: 'the server cannot be reached', detail: why, unreachable };
  }
  const heads = { 429: 'the server was asked too often', 503: 'the server is not ready' };
  return { head: heads[status] || `the server answered ${status}`, detail: detail.replace(/\.$/, '') };
}

/** Asks for one part. What is unreachable for the first question is so for all: each other would only wait for as long. */
async function renew(part) {
  const { trouble } = parts.status;
  try {
    if (part !== parts.status && trouble && trouble.unreachable) throw trouble;
    part.body = await ask(part.path);
    [part.at, part.trouble] = [Date.now(), null];
    if (part.body.now) ahead = Date.parse(part.body.now) - part.at;
  } catch (problem) {
    if (!problem.detail) throw problem;
    if (problem.outdated) return;
    if (problem.status === 401 || problem.status === 403) return lock(problem);
    part.trouble = problem.head ? problem : told(problem);
  }
}

/** Whose key it is; nothing depends on it, so it is asked again with the next question. */
async function meet() {
  try {
    access = await ask('/v1/access');
    drawAccess();
  } catch (problem) {
    if (!problem.detail) throw problem;
    if (problem.status === 401 && !problem.outdated) lock(problem);
  }
}

async function refresh() {
  try {
    if (bearer && !access) await meet();
    for (const part of Object.values(parts)) if (!locked && Date.now() >= quietUntil) await renew(part);
    if (locked) return;
    draw();
    broken = null;
    drawStanding();
    if (parts.status.body) document.body.dataset.ready = 'true';
  } catch (error) {
    // "All is well" must not stay over numbers that are not drawn any more.
    broken = error;
    drawStanding();
  }
}

/** Takes everything off the screen that was answered. */
function forget() {
  delete document.body.dataset.ready;
  for (const part of Object.values(parts)) Object.assign(part, { body: null, at: 0, trouble: null });
  broken = null;
  draw();
  for (const id of ['position', 'last-night', 'next-night', 'next-due', 'read-at', 'release']) set($(id), 'unknown');
  for (const id of ['partitions-hint', 'status-old', 'nights-old', 'days-old']) set($(id), '');
  $('wrongs').replaceChildren();
  $('notice').hidden = true;
}

let wakeUp = () => {};
async function follow() {
  for (;;) {
    if (!document.hidden && !locked) await refresh();
    await new Promise((wake) => {
      const timer = setTimeout(wake, Math.max(EVERY_MS, quietUntil - Date.now()));
      wakeUp = () => { clearTimeout(timer); wake(); };
    });
  }
}

// --- what is wrong ---------------------------------------------------------------------------------------------------

/** How the API says that nobody has begun to count a partition. */
const NO_GENERATION = 'no generation is live';
const CHECK = '`twofold check` says what to mend.';
const STARTED = 'See that `twofold speed` (or `twofold up`) runs; `twofold speed status` says more.';
const ARCHIVES = 'Nights wait for it. See that `twofold archive` (or `twofold up`) runs; `twofold batch status` says more.';
const ENDS = 'This ends by itself; `twofold speed status` says how far it is.';

/** Worst first. `head`: in short, the same from one second to the next; `text`: in full; `mend`: what to do, if known. */
function wrongs() {
  if (broken) return [{ head: 'this page failed', text: `This page failed: ${broken}.`, mend: 'Load it again.' }];
  const { status, days } = parts;
  return [
    ...wrongAnswers(),
    ...(status.body ? [...wrongLedger(status.body), ...wrongPartitions(status.body.partitions), ...wrongNights(status.body)] : []),
    ...(parts.nights.body ? wrongDrift(parts.nights.body) : []),
    ...(days.body ? wrongDays(days.body) : []),
  ];
}

function wrongAnswers() {
  const { trouble } = parts.status;
  const mend = trouble && trouble.unreachable ? 'See that `twofold serve` (or `twofold up`) runs.' : CHECK;
  if (trouble) return [{ head: trouble.head, text: `${capital(trouble.head)}: ${trouble.detail}.`, mend }];
  return ['nights', 'days'].filter((name) => parts[name].trouble).map((name) => {
    const head = `no answer about ${name}`;
    return { head, text: `${capital(head)}: ${parts[name].trouble.detail}.`, mend };
  });
}

function wrongLedger({ ledger }) {
  if (!ledger.trouble) return [];
  const text = `The ledger cannot be read since ${moment(ledger.read_at)}: ${ledger.trouble}.`;
  return [{ head: 'the ledger cannot be read', text, mend: CHECK }];
}

function wrongPartitions(all) {
  if (all.length === 0) {
    return [{ head: 'there is no topic', text: 'The ledger knows no topic, so nothing is counted.', mend: '`twofold topic create` records one.' }];
  }
  // One line says it better than one for each of them.
  if (all.every((row) => row.trouble && row.trouble !== NO_GENERATION)) {
    const head = 'the speed store is away';
    return [{ head, text: `${capital(head)}, so nothing is known of any partition: ${all[0].trouble}.`, mend: CHECK }];
  }
  const name = naming(all);
  /** Those of which the same is to be said, in one line. */
  const line = (rows, what, mend, why = '', each = () => '') => {
    if (rows.length === 0) return [];
    const [who, are] = rows.length === 1 ? [`partition ${name(rows[0])}`, 'is'] : [`${rows.length} partitions`, 'are'];
    const names = rows.map((row) => name(row) + each(row)).join(', ');
    return [{ head: `${who} ${are} ${what}`, text: `Partition${rows.length === 1 ? '' : 's'} ${names} ${are} ${what}${why}.`, mend }];
  };
  // A life that is over is counted no further: it neither lags nor lacks a generation.
  const live = (is) => all.filter((row) => row.live && is(row.live));
  const open = (is) => live(is).filter((row) => !row.ended);
  const stored = (is) => all.filter((row) => row.archive && !row.ended && is(row.archive));
  const away = (trouble) => line(all.filter((row) => row.trouble === trouble && !row.ended), 'away', trouble === NO_GENERATION ? STARTED : CHECK, `: ${trouble}`);
  return [
    ...[...new Set(all.filter((row) => !row.ended).map((row) => row.trouble))].filter(Boolean).flatMap(away),
    ...line(live((it) => it.rebuilding), 'rebuilding', ENDS, ': counted anew'),
    ...line(live((it) => it.in_doubt), 'in doubt', ENDS, ': another generation is counted to take its place'),
    ...line(open((it) => it.lag_ms > LAG_MAX_MS), 'behind', STARTED, '', (row) => ` (${seconds(row.live.lag_ms)})`),
    ...line(open((it) => !it.append_time), 'not counted yet', STARTED),
    ...line(stored((it) => it.lag_ms > ARCHIVE_LAG_MAX_MS), 'archived late', ARCHIVES, '', (row) => ` (${age(row.archive.lag_ms)} behind)`),
    ...[...new Set(stored((it) => it.trouble).map((row) => row.archive.trouble))].flatMap((trouble) => (
      line(stored((it) => it.trouble === trouble), 'archived to an unknown point', CHECK, `: ${trouble}`))),
    ...line(live((it) => it.lost > 0), 'lacking records', 'Nights count what was archived of them.', ': they fell off the log before they were counted', (row) => ` (${shown(row.live.lost)})`),
    ...line(live((it) => it.drift_from), 'counting duplicates perhaps', 'Nights count exactly.', ': not all sightings are remembered', (row) => ` (since ${moment(row.live.drift_from)})`),
  ];
}

function wrongNights({ now, ledger }) {
  const lines = ledger.withheld.map(({ day, objections }) => ({
    head: `the day ${day} is withheld`,
    text: `The day ${day} is withheld: ${objections}.`,
    mend: `See \`twofold period status --date ${day}\`; to accept it, \`twofold batch run --date ${day} --accept "REASON" --actor NAME\`.`,
  }));
  if (Date.parse(now) - Date.parse(ledger.next_due) <= OVERDUE_AFTER_MS) return lines;
  const head = `the night of ${ledger.next_night} is overdue`;
  const text = `${capital(head)}: it was due at ${moment(ledger.next_due)} and is not published.`;
  return [...lines, { head, text, mend: 'Run `twofold batch run --catch-up`; `twofold batch status` says what it waits for.' }];
}

function wrongDrift({ data }) {
  return data.filter((row) => row.drift === 'different').map(({ night, drift_detail: detail }) => ({
    head: `the layers differed at the night of ${night}`,
    text: `At the night of ${night} the live view had counted something else: ${detail}.`,
    mend: `\`twofold audit --date ${night}\` counts the day again.`,
  }));
}

function wrongDays({ meta, data }) {
  // A table that cannot be read, a day that lost clicks for ever: whatever is said of a day, and not of the speed layer.
  const told = meta.reasons.filter((reason) => reason.day).map(({ day, message }) => ({
    head: `something is missing of ${day}`, text: `${capital(message)}.`, mend: `\`twofold period status --date ${day}\` says more.`,
  }));
  return told.concat(data.filter((row) => row.unexplained).map(({ day, unexplained }) => ({
    head: `${day} has an unexplained difference`,
    text: `The two layers disagree about ${day}: ${signed(unexplained)} unexplained.`,
    mend: `\`twofold audit --date ${day}\` counts the day again.`,
  })));
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

// --- what is shown ---------------------------------------------------------------------------------------------------

/** Every second: numbers get old without an answer, too. */
function drawStanding() {
  if (locked) return;
  const all = Object.entries(parts);
  if (!broken && all.some(([, part]) => part.at === 0 && !part.trouble)) return;
  const old = all.map(([, part]) => part).find(isOld);
  const wrong = wrongs();
  const state = old || broken ? 'stale' : wrong.length > 0 ? 'wrong' : 'well';
  const rest = wrong.length > 1 ? ` · and ${wrong.length - 1} more` : '';
  const words = wrong.length > 0 ? wrong[0].head + rest : old ? 'asking again' : 'all is well';
  document.body.dataset.state = state;
  set($('standing'), words + (old && old.at ? ` · numbers of ${clockOf(old)}, ${Math.round((Date.now() - old.at) / 1000)} s old` : ''));
  set($('spoken'), words.replaceAll(' ·', ','));
  for (const [name, part] of all) set($(`${name}-old`), part.at && isOld(part) ? `old: of ${clockOf(part)}` : '');
  $('notice').hidden = state === 'well';
  set($('notice-title'), !old || broken ? 'What is wrong' : old.at ? 'These numbers are old' : 'There are no numbers yet');
  set($('notice-text'), old && old.at ? `The last answer came at ${clockOf(old)}; what it says may have changed since.` : '');
  drawWrongs(wrong.map(({ text, mend }) => `${text} ${mend}`));
}

/** Changes only the lines that changed: a command that is about to be copied stays selected. */
function drawWrongs(lines) {
  fit($('wrongs'), lines.length, 'li').forEach((item, n) => {
    if (item.dataset.line === lines[n]) return;
    item.dataset.line = lines[n];
    setCoded(item, lines[n]);
  });
}

function draw() {
  const { status, nights, days } = parts;
  if (status.body) drawLedger(status.body);
  drawTable('partition', status, status.body && status.body.partitions, partitionCells, 'There is no partition yet.');
  drawTable('night', nights, nights.body && nights.body.data, nightCells, 'No night is published yet.');
  drawTable('day', days, days.body && days.body.data, dayCells, 'No day has begun yet.');
}

function drawLedger({ ledger, release, partitions }) {
  set($('position'), shown(ledger.position));
  set($('last-night'), ledger.last_night || 'no day yet');
  set($('next-night'), ledger.next_night);
  set($('next-due'), moment(ledger.next_due));
  set($('read-at'), moment(ledger.read_at));
  set($('release'), release);
  set($('partitions-hint'), prefix(partitions) && `of ${prefix(partitions).slice(0, -1)}`);
}

/** A cell: its text, its class, that of its badge. */
function drawTable(name, { trouble }, rows, cellsOf, none) {
  $(`${name}s-empty`).hidden = Boolean(rows && rows.length > 0);
  set($(`${name}s-empty`), rows ? none : trouble ? 'Unknown.' : 'Loading…');
  fit($(`${name}-rows`), rows ? rows.length : 0, 'tr').forEach((line, n) => {
    cellsOf(rows[n], rows).forEach(([text, look = '', badge], place) => {
      const cell = line.children[place] || line.appendChild(document.createElement(place === 0 ? 'th' : 'td'));
      if (place === 0) cell.scope = 'row';
      cell.className = text === 'unknown' && !look.includes('lacking') ? `${look} soft` : look;
      if (badge !== undefined && !cell.firstElementChild) cell.append(document.createElement('span'));
      if (badge !== undefined) cell.firstElementChild.className = `badge ${badge}`;
      set(badge === undefined ? cell : cell.firstElementChild, text);
    });
  });
}

/** The node's children, made as many: those that are there stay, so that what is selected stays selected. */
function fit(node, count, name) {
  while (node.children.length > count) node.lastElementChild.remove();
  while (node.children.length < count) node.append(document.createElement(name));
  return [...node.children];
}

/** What the names of all partitions begin with: a region and a topic id. */
function prefix(rows) {
  const starts = new Set(rows.map(({ partition }) => partition.slice(0, partition.lastIndexOf('/') + 1)));
  return starts.size === 1 ? [...starts][0] : '';
}
const naming = (rows) => ({ partition }) => partition.slice(prefix(rows).length);

function partitionCells(row, rows) {
  const live = row.live || {};
  const [state, badge] = !row.live ? ['away', 'trouble'] : live.rebuilding ? ['rebuilding', 'trouble'] : live.in_doubt ? ['in doubt', 'trouble'] : row.ended ? ['ended', 'closed'] : ['live', 'good'];
  const archive = row.archive || {};
  const late = !row.ended && (archive.trouble || archive.lag_ms > ARCHIVE_LAG_MAX_MS);
  const again = row.live ? `${shown(live.rollbacks)} + ${shown(live.rebuilds)}` : 'unknown';
  return [
    [naming(rows)(row), 'ad'], [state, '', badge],
    [seconds(live.lag_ms), row.live && !row.ended && !(live.lag_ms <= LAG_MAX_MS && live.append_time) ? 'n lacking' : 'n'],
    [moment(live.append_time), 'when wide'], [shown(live.next_offset), 'n wide'], [shown(live.counted), 'n'],
    [shown(live.late), 'n wide'], [shown(live.duplicate), 'n wide'], [shown(live.rejected), 'n wide'],
    [archive.next_offset === 0 ? 'nothing' : age(archive.lag_ms), late ? 'n lacking' : 'n'],
    [live.lost === 0 ? '–' : shown(live.lost), live.lost ? 'n lacking' : 'n'], [again === '0 + 0' ? '–' : again, 'n wide'],
  ];
}

const NIGHT_BADGES = { published: 'closed', accepted: 'adjusted', recounted: 'reopened', withheld: 'trouble' };
function nightCells(row) {
  const drift = (row.drift || 'unknown').replace('_', ' ') + (row.drift_detail ? ` (${row.drift_detail})` : '');
  // Why a night is withheld stands at the top of the page.
  const why = row.state !== 'withheld' && row.objections.length > 0 ? `; objections: ${row.objections.join('; ')}` : '';
  return [
    [row.night, 'when'], [row.state, '', NIGHT_BADGES[row.state] || ''], [moment(row.published_at), 'when wide'],
    [seconds(isKnown(row.seconds) ? 1_000 * row.seconds : null), 'n wide'], [shown(row.rows), 'n wide'], [shown(row.counted), 'n'],
    [shown(row.duplicates), 'n wide'], [shown(row.rejected), 'n wide'], [shown(row.objects), 'n wide'],
    [drift + why, row.drift === 'different' ? 'said lacking' : 'said'],
  ];
}

/** Of a day that is still open only the live view speaks. */
function dayCells(row) {
  const open = row.state === 'live';
  const closed = (value) => (open ? 'not yet' : shown(value));
  const live = open ? (row.complete || !isKnown(row.clicks) ? '' : '≥ ') + shown(row.clicks) : shown(row.last_live);
  return [
    [row.day, 'when'], [row.state, '', row.state], [closed(row.clicks) + (row.adjustment ? ` (+${shown(row.adjustment)} later)` : ''), 'n'],
    [live, 'n wide'], [closed(row.late), 'n wide'], [closed(row.far_duplicates), 'n wide'],
    [row.unexplained ? signed(row.unexplained) : closed(row.unexplained), row.unexplained ? 'n lacking' : 'n'],
  ];
}

document.addEventListener('visibilitychange', () => !document.hidden && wakeUp());
setInterval(drawStanding, 1_000);
follow();
