'use strict';
// The chart: closed periods solid, provisional ones dashed, the running one a hollow mark, what is unknown a gap, and
// whatever is incomplete hatched. Shares its helpers with app.js, which calls drawChart.

let chart = null;
let charted = [];
let segments = [];
let earlier = [];

const isOpen = (row) => row.source === 'speed' || row.source === 'mixed';

/** `before`: the rows that these are compared with, in the same order; none when nothing is. */
function drawChart(data, parts, before) {
  [charted, segments, earlier] = [data, parts, before];
  const running = runningAt(data, serverTime);
  const times = data.map((row) => Date.parse(row.period_start) / 1000);
  const closed = data.map((row) => (row.source === 'batch' ? row.total : null));
  // The provisional line begins at the last closed point, so that the two meet.
  const live = data.map((row, n) => {
    const meets = row.source === 'batch' && n + 1 < running && isOpen(data[n + 1]);
    return (isOpen(row) && n < running) || meets ? row.total : null;
  });
  const now = data.map((row, n) => (n === running && isOpen(row) ? row.total : null));
  const then = data.map((row, n) => (earlier[n] ? earlier[n].total : null));
  const series = [times, closed, live, now, then];
  const { grain } = shownRange();
  const look = [grain, zone, lengthOf(times), isFew(grain, data)].join(' ');
  if (chart && chart.look === look) {
    chart.plot.setData(series);
  } else {
    if (chart) chart.plot.destroy();
    chart = { look, plot: new uPlot(options(grain, lengthOf(times), isFew(grain, data)), series, $('chart')) };
  }
}

/** What has to be told apart below the chart: the hours of one day, days, or years as well. */
const lengthOf = (times) => {
  const days = (times.at(-1) - times[0]) / 86_400 || 0;
  return days > 300 ? 'years' : days > 1.5 ? 'days' : 'day';
};
/** A single period stands in the middle; uPlot would put years beside it. */
function rangeOfOne() {
  if (charted.length !== 1) return null;
  const at = Date.parse(charted[0].period_start) / 1000;
  return [at - 43_200, at + 43_200];
}
/** Each is marked, as long as the marks do not touch. */
const isFew = (grain, data) => grain === 'day' && data.length <= 62;

function options(grain, length, few) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const font = '12px system-ui, sans-serif';
  const axis = { stroke: colour('soft'), grid: { stroke: colour('line'), width: 1 }, ticks: { show: false }, font };
  return {
    width: $('chart').clientWidth,
    height: $('chart').clientHeight,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), zone === 'UTC' ? 'Etc/UTC' : zone),
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    legend: { show: false },
    scales: { x: { time: true, range: (_, low, high) => rangeOfOne() || [low, high] }, y: { range: (_, low, high) => [0, Math.max(4, (high || 0) * 1.2)] } },
    axes: [
      { ...axis, space: length === 'years' ? 90 : 70, size: 32, values: (_, ticks) => ticks.map((t, n) => tick(t, ticks[n - 1], grain, length)) },
      { ...axis, size: 58, values: (_, ticks) => ticks.map((t) => (Number.isInteger(t) ? number.format(t) : '')) },
    ],
    series: [
      {},
      { label: 'closed', stroke: colour('closed'), width: 2, fill: colour('closed-fill'), points: { show: few, size: 6, fill: colour('closed') } },
      { label: 'provisional', stroke: colour('live'), width: 2, dash: [6, 4], fill: colour('live-fill'), points: { show: few, size: 6, fill: colour('card') } },
      { label: 'running', stroke: colour('live'), paths: () => null, points: { show: true, size: 9, width: 2, fill: colour('card') } },
      { label: 'before', stroke: colour('soft'), width: 1.5, dash: [1, 3], points: { show: false } },
    ],
    hooks: { drawClear: [(plot) => drawLacks(plot, colour)], draw: [(plot) => drawBoundary(plot, colour, font)], setCursor: [drawTip] },
  };
}

/** Hours and minutes, and the day where a new one begins. */
function tick(seconds, before, grain, length) {
  const text = local(seconds * 1000);
  if (length === 'years') return text.slice(0, 10);
  if (grain === 'day') return text.slice(11, 16) === '00:00' ? text.slice(5, 10) : '';
  const newDay = before === undefined ? length === 'days' : day(before * 1000) !== text.slice(0, 10);
  return newDay || (grain === 'hour' && text.slice(11, 16) === '00:00') ? text.slice(5, 10) : text.slice(11, 16);
}

/** Periods that are incomplete are hatched, whatever their number is. */
function drawLacks({ ctx, bbox, valToPos }, colour) {
  const lacking = charted.filter((row) => !row.complete);
  if (lacking.length === 0) return;
  ctx.save();
  ctx.beginPath();
  for (const row of lacking) {
    const left = valToPos(Date.parse(row.period_start) / 1000, 'x', true);
    const right = Math.min(bbox.left + bbox.width, valToPos(Date.parse(row.period_end) / 1000, 'x', true));
    ctx.rect(left, bbox.top, Math.max(2, right - left), bbox.height);
  }
  ctx.clip();
  ctx.strokeStyle = colour('lack');
  ctx.globalAlpha = 0.45;
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  for (let x = bbox.left - bbox.height; x < bbox.left + bbox.width; x += 9 * devicePixelRatio) {
    ctx.moveTo(x, bbox.top + bbox.height);
    ctx.lineTo(x + bbox.height, bbox.top);
  }
  ctx.stroke();
  ctx.restore();
}

/** Where the closed part ends. */
function drawBoundary({ ctx, bbox, valToPos }, colour, font) {
  const at = segments.findIndex((part, n) => n > 0 && part.source === 'speed' && segments[n - 1].source === 'batch');
  if (at < 0) return;
  const ratio = devicePixelRatio;
  const x = Math.round(valToPos(Date.parse(segments[at].from) / 1000, 'x', true));
  ctx.save();
  ctx.strokeStyle = colour('soft');
  ctx.fillStyle = colour('soft');
  ctx.lineWidth = ratio;
  ctx.setLineDash([2 * ratio, 3 * ratio]);
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.font = font.replace('12px', `${12 * ratio}px`);
  ctx.textBaseline = 'top';
  ctx.textAlign = 'right';
  if (x - bbox.left > 70 * ratio) ctx.fillText('closed', x - 6 * ratio, bbox.top + 2 * ratio);
  ctx.textAlign = 'left';
  if (bbox.left + bbox.width - x > 90 * ratio) ctx.fillText('provisional', x + 6 * ratio, bbox.top + 2 * ratio);
  ctx.restore();
}

function drawTip(plot) {
  let tip = plot.over.querySelector('.tip');
  if (!tip) plot.over.append((tip = element('div', '', 'tip')));
  const row = charted[plot.cursor.idx];
  tip.hidden = !row || plot.cursor.left < 0;
  if (tip.hidden) return;
  const lacks = row.complete ? '' : row.total === null ? '' : 'at least ';
  const then = earlier[plot.cursor.idx];
  const compared = then ? ` · before ${shown(then.total)}` : '';
  const why = cameAbout(row);
  set(tip, `${stamp(row.period_start)} · ${lacks}${shown(row.total)} · ${row.state}${why && ` · ${why}`}${compared}`);
  const left = plot.cursor.left;
  const width = tip.offsetWidth;
  tip.style.left = `${left + width + 14 > plot.over.clientWidth ? Math.max(0, left - width - 10) : left + 10}px`;
}

function redraw() {
  if (!chart) return;
  chart.plot.destroy();
  chart = null;
  drawChart(charted, segments, earlier);
}
