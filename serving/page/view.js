'use strict';
// What is looked at: a range, all ads or some of them, and what is ranked beside them. All of it stands in the address: the
// view can be shared, and the back button works.

/** `days`: how many the range has, with today; 0 for the last hour. `fine`: the grain of the small lines beside the ads. */
const RANGES = {
  hour: { grain: 'minute', fine: 'minute', every: 1, days: 0, words: 'the last hour', before: 'the hour before' },
  today: { grain: 'minute', fine: 'hour', every: 5, days: 1, words: 'today', before: 'yesterday until this time' },
  week: { grain: 'hour', fine: 'day', every: 5, days: 7, words: '7 days', before: 'the 7 days before' },
  month: { grain: 'day', fine: 'day', every: 5, days: 30, words: '30 days', before: 'the 30 days before' },
};
const shownRange = () => RANGES[view.range] || rangeOfDates(view);
const TOPS = {
  ads: { title: 'Top ads', one: 'Ad' },
  campaigns: { title: 'Top campaigns', one: 'Campaign', group: 'campaign' },
  tenants: { title: 'Top tenants', one: 'Tenant', group: 'tenant' },
};

function fromUrl() {
  const query = new URLSearchParams(location.search);
  const [range, from, to, grain, top, tz, ad] = ['range', 'from', 'to', 'grain', 'top', 'tz', 'ad'].map((name) => query.get(name));
  const dates = { range, from: from || '', to: to || '', grain: Object.hasOwn(PER_DAY, grain) ? grain : '' };
  return {
    ...(range === 'dates' ? dates : { range: Object.hasOwn(RANGES, range) ? range : 'hour', ...NO_DATES }),
    ad: ad || '',
    tenant: (!ad && query.get('tenant')) || '',
    campaign: (!ad && query.get('campaign')) || '',
    top: Object.hasOwn(TOPS, top) ? top : 'ads',
    tz: tz && isZone(tz) ? tz : 'UTC',
    compare: query.get('compare') === 'before',
  };
}
/** An ad has its tenant and campaign already: whoever chooses one lets go of the other. */
function changed(change) {
  const other = change.ad ? { tenant: '', campaign: '' } : change.tenant || change.campaign ? { ad: '' } : {};
  return { ...view, ...other, ...change };
}
function toUrl(change) {
  const { range, from, to, grain, ad, tenant, campaign, top, tz, compare } = changed(change);
  const query = new URLSearchParams();
  if (range !== 'hour') query.set('range', range);
  for (const [name, value] of Object.entries(range === 'dates' ? { from, to, grain } : {})) if (value) query.set(name, value);
  for (const [name, value] of Object.entries({ ad, tenant, campaign })) if (value) query.set(name, value);
  if (top !== 'ads') query.set('top', top);
  if (tz !== 'UTC') query.set('tz', tz);
  if (compare) query.set('compare', 'before');
  const text = query.toString();
  return text ? `?${text}` : location.pathname;
}

let view = fromUrl();
zone = view.tz;
const ALL_ADS = { ad: '', tenant: '', campaign: '' };
/** The chart's question; what is ranked beside it is another. */
const keyOf = ({ range, from, to, grain, ad, tenant, campaign, tz, compare }) =>
  [turn, range, from, to, grain, ad, tenant, campaign, tz, compare].join(' ');

/** Which ads are shown, as the API is asked for them. */
const chosen = () => ({ ad_id: view.ad, tenant: view.tenant, campaign: view.campaign });
/** Whether the ads shown are some of all: chosen, or those that the key may see. */
const isSome = () => Boolean(view.ad || view.tenant || view.campaign || (access && access.tenant));
/** The same in words. */
function chosenWords() {
  const tenant = view.tenant || (access && access.tenant) || '';
  if (view.ad) return view.ad;
  return view.campaign ? `${view.campaign}${tenant && ` (${tenant})`}` : tenant;
}

/** A question without the zone: of days of UTC. */
function plainPath(address, asked) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(asked)) if (value) query.set(name, value);
  return `${address}?${query}`;
}
/** A question about days of the zone that is shown. */
const path = (address, asked) => plainPath(address, zone === 'UTC' ? asked : { ...asked, tz: zone });

function clicksPath(now) {
  const { grain, days } = shownRange();
  const [from, to] = view.range === 'dates' ? [view.from, back(view.to, -1)] : [days && back(day(now), days - 1)];
  return path('/v1/clicks', { granularity: grain, from, to, ...chosen() });
}
/** As many days, or minutes, that end where the range begins. */
function beforePath({ from }) {
  const { grain, days } = shownRange();
  const asked = { granularity: grain, ...chosen() };
  if (days > 0) return path('/v1/clicks', { ...asked, from: back(from.slice(0, 10), days), to: from.slice(0, 10) });
  return path('/v1/clicks', { ...asked, from: new Date(Date.parse(from) - 36e5).toISOString(), to: from });
}
/** The last seven days of UTC; an eighth comes along where the zone's day is over later. */
function daysPath(now) {
  if (!isSome()) return '/v1/days?last=7';
  const from = back(new Date(now).toISOString().slice(0, 10), DAYS);
  return plainPath('/v1/clicks', { granularity: 'day', from, ...chosen() });
}
const DAYS = 7;
/** What is ranked: ads of those that are shown; campaigns beside their like, and tenants beside all others. */
function topPath({ from, to }, top) {
  const { group } = TOPS[top];
  const among = top === 'ads' ? { tenant: view.tenant, campaign: view.campaign } : top === 'campaigns' ? { tenant: view.tenant } : {};
  return path('/v1/ads', { from, to, limit: '10', group_by: group, ...among });
}
/** Of more days, ten of them would be more than the server answers. */
const LINE_DAYS_MAX = 1_000;
/** The courses of those that are ranked; those of a group may come with more than was asked for. */
function linesPath({ from, to }, top, rows) {
  const { fine, days } = shownRange();
  if (days > LINE_DAYS_MAX) return null;
  const { group } = TOPS[top];
  const listed = (name) => [...new Set(rows.map((row) => row[name]).filter(Boolean))].join(',');
  const among = !group ? { ad_id: listed('ad_id') } : { tenant: listed('tenant'), campaign: listed('campaign') };
  if (!among.ad_id && !among.tenant) return null;
  const end = view.range === 'dates' ? to : undefined;
  return path('/v1/clicks', { granularity: fine, from: days > 0 ? from.slice(0, 10) : from, to: end, group_by: group, ...among });
}
