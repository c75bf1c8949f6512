'use strict';
// Days and clocks of the time zone that is shown. The server cuts the periods; this only asks for them and names them.

/** IANA name; the chart, its numbers and the top ads are in it. */
let zone = 'UTC';
const OWN_ZONE = new Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';
const clocks = new Map();

function isZone(name) {
  try {
    return Boolean(new Intl.DateTimeFormat('en', { timeZone: name }));
  } catch {
    return false;
  }
}

/** What a clock in the zone shows: `2026-03-01 12:00:00`. */
function local(ms) {
  if (!clocks.has(zone)) {
    // Sweden writes dates the way that sorts.
    clocks.set(zone, new Intl.DateTimeFormat('sv-SE', { timeZone: zone, dateStyle: 'short', timeStyle: 'medium' }));
  }
  return clocks.get(zone).format(new Date(ms));
}
const day = (ms) => local(ms).slice(0, 10);
const clock = (ms) => local(ms).slice(11, 19);
/** A day that many days before, by the calendar. */
const back = (date, days) => new Date(Date.parse(`${date}T00:00:00Z`) - days * 864e5).toISOString().slice(0, 10);
/** A time as the server writes it, which is in the zone already. */
const stamp = (text) => `${text.slice(0, 10)} ${text.slice(11, 16)}`;
/** The place of the period that is not over yet; one past the last where all are. */
function runningAt(data, now) {
  const isOver = data.length > 0 && now !== null && Date.parse(data.at(-1).period_end) <= now;
  return isOver ? data.length : data.length - 1;
}

/** The choices: UTC, the reader's own, and all others that the browser knows. */
function zoneOptions() {
  const others = Intl.supportedValuesOf ? Intl.supportedValuesOf('timeZone') : [];
  return [...new Set(['UTC', OWN_ZONE, zone, ...others])];
}
