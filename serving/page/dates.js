'use strict';
// A range of free days, the first and the last included, of the zone that is shown, and in which grain they are asked for.

/** The server answers with 20,000 periods at most; a day may have 25 hours. */
const DAYS_MAX = { minute: 13, hour: 731, day: Infinity };
/** So many periods are asked for every few seconds, and more of them less often. */
const OFTEN_MAX = 2_000;
const PER_DAY = { minute: 1_440, hour: 24, day: 1 };

const NO_DATES = { from: '', to: '', grain: '' };
const isDay = (text) => {
  const ms = Date.parse(`${text}T00:00:00Z`);
  return !Number.isNaN(ms) && new Date(ms).toISOString().slice(0, 10) === text;
};
const daysBetween = (from, to) => Math.round((Date.parse(to) - Date.parse(from)) / 864e5);
const today = () => day(serverTime === null ? Date.now() : serverTime);
const fittingGrain = (days) => (days === 1 ? 'minute' : days <= 14 ? 'hour' : 'day');

/** Why there can be no answer; what else may be wrong is for the server to say. */
function wrongDates({ range, from, to }) {
  if (range !== 'dates') return null;
  const odd = [from, to].find((text) => !isDay(text));
  if (odd !== undefined) return odd ? `“${odd}” is no date like ${today()}.` : 'Choose the first day and the last.';
  return from > to ? `The last day, ${to}, is before the first, ${from}: exchange the two.` : null;
}

/** What RANGES says of the others. A day that has not begun adds nothing, also not to what is compared. */
function rangeOfDates({ from, to, grain: asked }) {
  const last = to > today() && from <= today() ? today() : to;
  const days = wrongDates({ range: 'dates', from, to }) ? 1 : daysBetween(from, last) + 1;
  const grain = asked || fittingGrain(days);
  const isPast = last < today();
  return {
    grain,
    fine: days <= 2 ? 'hour' : 'day',
    every: isPast || days * PER_DAY[grain] > OFTEN_MAX ? 30 : 5,
    days,
    words: from === to ? from : `${from} to ${to}`,
    before: days === 1 ? 'the day before' : `the ${days} days before`,
  };
}

/** The days that are shown, to begin with when others are to be chosen. */
function asDates() {
  if (view.range === 'dates') return { range: 'dates' };
  const { days, grain } = RANGES[view.range];
  return { range: 'dates', from: back(today(), Math.max(days, 1) - 1), to: today(), grain };
}

// --- where they are chosen -------------------------------------------------------------------------------------------

function drawDates() {
  $('dates').hidden = view.range !== 'dates';
  if (view.range !== 'dates') return;
  $('from').value = isDay(view.from) ? view.from : '';
  $('to').value = isDay(view.to) ? view.to : '';
  $('grain').value = shownRange().grain;
  drawGrains();
}
/** Until somebody chooses a grain, it is one that fits the days. */
let isGrainChosen = false;
const given = () => ({ range: 'dates', from: $('from').value, to: $('to').value, grain: $('grain').value });

/** Only grains of which the server would answer that many days; how many, or null while a date is being typed. */
function drawGrains() {
  const { from, to } = given();
  const isTyped = from !== '' && to !== '' && !$('from').validity.rangeUnderflow && !$('to').validity.rangeUnderflow;
  $('to').setCustomValidity(isTyped && from > to ? 'The last day is before the first.' : '');
  if (!isTyped || from > to) return null;
  const days = daysBetween(from, to) + 1;
  for (const option of $('grain').options) option.disabled = days > DAYS_MAX[option.value];
  return days;
}
function goToDates() {
  if (toUrl(given()) !== toUrl(view)) go(given());
}

// The day may have changed since the form was drawn.
$('dates').addEventListener('focusin', () => { $('from').max = $('to').max = today(); });
$('dates').addEventListener('input', (event) => {
  if (event.target === $('grain')) isGrainChosen = true;
  const days = drawGrains();
  if (days !== null && (!isGrainChosen || days > DAYS_MAX[$('grain').value])) $('grain').value = fittingGrain(days);
});
$('grain').addEventListener('change', () => $('dates').reportValidity() && goToDates());
$('dates').addEventListener('submit', (event) => {
  event.preventDefault();
  goToDates();
});
