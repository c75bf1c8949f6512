'use strict';
// The tables of the page: the numbers of the chart, the days, the top ads. app.js asks and calls these.

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
    link.href = toUrl({ ad: row.ad_id === view.ad ? '' : row.ad_id });
    line.querySelector('rect').setAttribute('width', `${(100 * row.total) / Math.max(1, largest)}%`);
    set(line.lastChild, (meta.complete ? '' : '≥ ') + number.format(row.total));
    row.ad_id === view.ad ? line.setAttribute('aria-current', 'true') : line.removeAttribute('aria-current');
    if (body.children[place] !== line) body.insertBefore(line, body.children[place] || null);
  });
  for (const line of kept.values()) line.remove();
}

/** A small line beside each ad, from 0 to its own largest number. What is unknown is left out. */
function drawLines({ data }) {
  for (const line of $('ad-rows').children) {
    const rows = data.filter((row) => row.ad_id === line.dataset.ad);
    const largest = Math.max(1, ...rows.map((row) => row.total || 0));
    const step = rows.length > 1 ? 100 / (rows.length - 1) : 0;
    const points = rows.flatMap((row, n) => (row.total === null ? [] : [`${(n * step).toFixed(1)},${(19 - (18 * row.total) / largest).toFixed(1)}`]));
    line.querySelector('polyline').setAttribute('points', points.join(' '));
  }
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
