'use strict';
// The tables of the page: the numbers of the chart, the days, the top ads or campaigns. app.js asks and calls these.

/** More rows than anybody reads would make the page slow. */
const PERIODS_MAX = 2_000;

function drawPeriods(data) {
  $('periods-more').hidden = data.length <= PERIODS_MAX;
  set($('periods-more'), `The last ${number.format(PERIODS_MAX)} of ${number.format(data.length)}; all of them are in the CSV file.`);
  const rows = data.slice(-PERIODS_MAX).reverse().map((row) => {
    const line = element('tr');
    const state = element('td');
    state.append(badge(row.state));
    line.append(element('td', stamp(row.period_start), 'when'), state, clicksCell(row), liveCell(row), element('td', shown(row.late_pending), 'n'));
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

/** What made another number of the one that was seen live, in signs and words; nothing where that is not known. */
function stepsOf(row) {
  if (!isKnown(row.last_live) || !isKnown(row.late)) return [];
  const removed = row.removed === undefined ? row.far_duplicates : row.removed;
  return [
    row.late > 0 && `+ ${number.format(row.late)} late`,
    removed > 0 && `− ${number.format(removed)} ${removed === 1 ? 'duplicate' : 'duplicates'}`,
    // The batch counts what it was told, also what the live view never saw.
    removed < 0 && `+ ${number.format(-removed)} not seen live`,
    row.unexplained && `${row.unexplained > 0 ? '−' : '+'} ${number.format(Math.abs(row.unexplained))} unexplained`,
  ].filter(Boolean);
}
/** Why a closed number is another than the one that was seen live, or that it is the same. */
function cameAbout(row) {
  if (row.source === 'speed' || !isKnown(row.last_live)) return '';
  const steps = stepsOf(row);
  const found = row.adjustment ? `, and ${number.format(row.adjustment)} found later` : '';
  const said = steps.length > 0 ? [shown(row.last_live), ...steps].join(', ') : '';
  if (said) return `live said ${said} = ${shown(row.clicks)}${found}`;
  return row.last_live === row.clicks ? `live said the same${found}` : `live said ${shown(row.last_live)}${found}`;
}
/** What was seen live, and below it what became of that. */
function liveCell(row) {
  const cell = element('td', row.source === 'batch' ? shown(row.last_live) : '–', 'n wide');
  if (row.source !== 'batch') return cell;
  if (row.last_live === null) {
    cell.classList.add('soft');
    cell.title = 'Live counts are kept for a while after their day has closed (24 hours, unless set otherwise); those of this day are gone, or the speed layer is away.';
    return cell;
  }
  cell.title = cameAbout(row);
  const steps = stepsOf(row);
  if (steps.length > 0) cell.append(element('span', steps.join(' '), 'steps'));
  if (row.unexplained) cell.classList.add('lacking');
  return cell;
}

/** Days as they are told of all ads; of some they are the periods of a chart: the last first, and without those before all clicks. */
function daysOf({ data }) {
  if (data.every((row) => row.day)) return data;
  const begun = data.filter((row) => row.source !== 'none').slice(-DAYS).reverse();
  return begun.map((row) => ({ ...row, day: row.period_start.slice(0, 10) }));
}

function drawDays(answer) {
  const data = daysOf(answer);
  $('days-empty').hidden = data.length > 0;
  set($('days-empty'), 'No day has begun yet.');
  set($('days-hint'), `${chosenWords() || 'all ads'}, days of UTC`);
  $('day-rows').replaceChildren(...data.map((row) => {
    const line = element('tr');
    const state = element('td');
    state.append(badge(row.state));
    line.append(element('td', row.day, 'when'), state, clicksCell(row), liveCell(row), element('td', shown(row.late_pending), 'n'),
      element('td', row.revision === null ? '–' : String(row.revision), 'n'));
    return line;
  }));
}

/** What is ranked in a row, which is what its line is kept by. A group of none is that of ads which the table does not know. */
const rankedOf = (row, top) => (top === 'ads' ? row.ad_id : top === 'campaigns' ? choiceOf(row) : row.tenant) || '';
const isShown = (row, top) => (top === 'ads' ? row.ad_id === view.ad
  : row.tenant === view.tenant && (top === 'campaigns' ? row.campaign === view.campaign : !view.campaign));

/** What stands in a row: its name in large and, in small, whose it is. A name of nothing but spaces is none. */
function namesOf(row, top) {
  const tenant = tenants().length > 1 ? row.tenant : null;
  if (top === 'tenants') return [row.tenant, ''];
  if (top === 'campaigns') return [row.campaign, tenant || ''];
  const name = row.name && row.name.trim();
  return [name || row.ad_id, [name && row.ad_id, row.campaign, tenant].filter(Boolean).join(' · ')];
}

/** Rows are kept as long as what they rank is there, so that the keyboard's place is not lost. */
function drawTop({ data, count, meta }, top) {
  $('ads-empty').hidden = data.length > 0;
  set($('ads-empty'), meta.complete ? 'No clicks in this range.' : 'The clicks of this range are not known.');
  const more = count > data.length ? `${data.length} of ${number.format(count)}, ` : '';
  const among = top === 'ads' && view.campaign ? `${chosenWords()}, ` : top !== 'tenants' && view.tenant ? `${view.tenant}, ` : '';
  set($('ads-hint'), `${more}${among}${shownRange().words}`);
  const body = $('ad-rows');
  const kept = new Map([...body.children].map((line) => [line.dataset.row, line]));
  const largest = data.length > 0 ? data[0].total : 1;
  data.forEach((row, place) => {
    const ranked = `${top} ${rankedOf(row, top)}`;
    const line = kept.get(ranked) || topLine(ranked);
    kept.delete(ranked);
    drawName(line, row, top);
    line.querySelector('rect').setAttribute('width', `${(100 * row.total) / Math.max(1, largest)}%`);
    set(line.lastChild, (meta.complete ? '' : '≥ ') + number.format(row.total));
    isShown(row, top) ? line.setAttribute('aria-current', 'true') : line.removeAttribute('aria-current');
    if (body.children[place] !== line) body.insertBefore(line, body.children[place] || null);
  });
  for (const line of kept.values()) line.remove();
}

function drawName(line, row, top) {
  const link = line.querySelector('.name');
  const [name, small] = namesOf(row, top);
  // Ads that the table does not know have nothing in common that could be asked for.
  const isNone = top !== 'ads' && row.tenant === null;
  set(link, isNone ? 'not in the ads table' : name);
  link.title = isNone ? 'Ads that were clicked, but are not in the ads table' : name;
  link.classList.toggle('soft', isNone);
  set(line.querySelector('.whose'), isNone ? '' : small);
  line.querySelector('.whose').title = small;
  if (isNone) return;
  if (top === 'ads') {
    called.set(row.ad_id, row);
    link.dataset.ad = row.ad_id;
  } else {
    Object.assign(link.dataset, { tenant: row.tenant, campaign: row.campaign || '' });
  }
  link.href = toUrl(choice(link.dataset));
}

/** A small line beside each row, from 0 to its own largest number. What is unknown is left out. */
function drawLines({ data }, top) {
  for (const line of $('ad-rows').children) {
    const rows = data.filter((row) => `${top} ${rankedOf(row, top)}` === line.dataset.row);
    const largest = Math.max(1, ...rows.map((row) => row.total || 0));
    const step = rows.length > 1 ? 100 / (rows.length - 1) : 0;
    const points = rows.flatMap((row, n) => (row.total === null ? [] : [`${(n * step).toFixed(1)},${(19 - (18 * row.total) / largest).toFixed(1)}`]));
    line.querySelector('polyline').setAttribute('points', points.join(' '));
  }
}

const SVG = 'http://www.w3.org/2000/svg';
function topLine(ranked) {
  const line = element('tr');
  line.dataset.row = ranked;
  const name = element('td', undefined, 'ad');
  const link = element('a', undefined, 'name');
  // Names are in any script; each is read in its own direction, and turns nothing around it.
  link.dir = 'auto';
  name.append(link, element('span', undefined, 'whose'));
  const share = element('td', undefined, 'share');
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('aria-hidden', 'true');
  const bar = document.createElementNS(SVG, 'rect');
  bar.setAttribute('height', '8');
  bar.setAttribute('rx', '2');
  svg.append(bar);
  share.append(svg);
  const course = element('td', undefined, 'course');
  const small = document.createElementNS(SVG, 'svg');
  small.setAttribute('aria-hidden', 'true');
  small.setAttribute('viewBox', '0 0 100 20');
  small.setAttribute('preserveAspectRatio', 'none');
  small.append(document.createElementNS(SVG, 'polyline'));
  course.append(small);
  line.append(name, share, course, element('td', '', 'n'));
  return line;
}
