'use strict';
// With which key the page asks, and what it shows while it may not ask. The key stays in this tab until it is closed: it is
// never in the address, in a cookie or in a file. Each page has forget(), which takes all that was answered off the screen,
// and wakeUp(), which asks anew.

const KEPT_AS = 'twofold-key';
/** A file takes longer than an answer to be looked at. */
const DOWNLOAD_MAX_MS = 60_000;

/** The key, as it is sent; none where none is needed, or none was given yet. */
let bearer = kept();
/** Who asks, by the server: the name of the key, its tenant, what it may. */
let access = null;
/** Another one with each key: what was answered to another key is not shown. */
let turn = 0;
/** Nothing is asked until somebody gives a key. */
let locked = false;
/** The server does not want to be asked before, by this browser's clock. */
let quietUntil = 0;

function kept() {
  try {
    return sessionStorage.getItem(KEPT_AS);
  } catch {
    return null;
  }
}
function take(text) {
  bearer = text;
  turn += 1;
  try {
    text ? sessionStorage.setItem(KEPT_AS, text) : sessionStorage.removeItem(KEPT_AS);
  } catch {
    // A browser that keeps nothing: the key lasts as long as the page.
  }
}

/** What is not answered is thrown: `detail` in a sentence, and of a refusal its `status`, and why and how to mend it. */
async function send(path, { key = bearer, ms = REQUEST_MAX_MS } = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let answer;
  try {
    answer = await fetch(path, { headers, signal: AbortSignal.timeout(ms), cache: 'no-store' });
  } catch (error) {
    throw { unreachable: true, slow: error.name === 'TimeoutError', detail: 'The server cannot be reached.' };
  }
  if (answer.ok) return answer;
  const { status } = answer;
  const problem = (await answer.json().catch(() => null)) || {};
  if (status === 429) quietUntil = Date.now() + 1_000 * (Number(answer.headers.get('retry-after')) || 2);
  throw { detail: `The server answered ${status}.`, ...problem, status };
}

async function ask(path) {
  const asked = turn;
  const answer = await send(path).catch((problem) => {
    throw asked === turn ? problem : { ...problem, outdated: true };
  });
  const body = await answer.json().catch(() => null);
  if (asked !== turn) throw { outdated: true, detail: 'This was asked with another key.' };
  if (body) return body;
  throw { status: answer.status, detail: `The server answered ${answer.status}.` };
}

/** Saves what a link leads to: the browser itself would ask without the key. */
async function download(path) {
  const asked = turn;
  const answer = await send(path, { ms: DOWNLOAD_MAX_MS });
  const bytes = await answer.blob().catch(() => Promise.reject({ detail: 'The connection broke off.' }));
  if (asked !== turn) return;
  const link = element('a');
  link.href = URL.createObjectURL(bytes);
  link.download = /filename="([^"]+)"/.exec(answer.headers.get('content-disposition'))?.[1] || 'clicks.csv';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), DOWNLOAD_MAX_MS);
}

// --- without a key ---------------------------------------------------------------------------------------------------

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;

/** 401: the key, if there is one, opens nothing any more, and goes. 403: it is a key for something else. */
function lock({ status, reason, detail }) {
  const isGone = status === 401;
  if (isGone) {
    take(null);
    access = null;
  }
  locked = true;
  forget();
  document.body.dataset.state = 'locked';
  const words = isGone ? 'This page needs a key' : 'This page is not for this key';
  set($('standing'), isGone ? 'a key is needed' : 'the key does not open this page');
  set($('spoken'), words);
  set($('locked-title'), words);
  say(sentence(reason || detail));
  $('locked-else').hidden = isGone;
  $('locked').hidden = false;
  drawAccess();
  if (document.activeElement === document.body) $('key').focus();
}

const say = (text) => setCoded($('key-reason'), text);

async function tryKey(text) {
  // What cannot stand in a header is not sent at all.
  if (!/^[\x21-\x7e]+$/.test(text)) return say('This is not written like a key; one begins with tfk_.');
  say('Asking whether the server knows it…');
  $('key-open').disabled = true;
  try {
    access = await (await send('/v1/access', { key: text })).json();
    take(text);
    unlock();
  } catch (problem) {
    if (!problem.detail) throw problem;
    const { status, reason, detail } = problem;
    say(status === 429 ? `${sentence(reason || detail)} Try again in a moment.` : sentence(reason || detail));
    $('key').select();
  } finally {
    $('key-open').disabled = false;
  }
}

function unlock() {
  locked = false;
  $('key').value = '';
  $('locked').hidden = true;
  document.body.dataset.state = 'loading';
  set($('standing'), 'Loading…');
  drawAccess();
  $('sign-out').focus();
  wakeUp();
}

/** Whose key is in use, and only the links that it opens. */
function drawAccess() {
  const { key, tenant = null, scopes = [] } = access || {};
  $('who').hidden = !bearer;
  const ends = key && key.expires_at ? ` · until ${key.expires_at.slice(0, 10)}` : '';
  set($('who-key'), key ? key.name : 'a key');
  $('who-key').title = key ? key.name : '';
  set($('who-tenant'), key ? `${tenant || 'all tenants'}${ends}` : '');
  const has = { key: Boolean(bearer) || locked, all: !tenant, operate: !tenant && (!access || scopes.includes('operate')) };
  for (const node of document.querySelectorAll('[data-needs]')) node.hidden = !has[node.dataset.needs];
}

$('key-form').addEventListener('submit', (event) => {
  event.preventDefault();
  tryKey($('key').value.trim());
});
$('sign-out').addEventListener('click', () => {
  take(null);
  access = null;
  locked = false;
  $('locked').hidden = true;
  document.body.dataset.state = 'loading';
  set($('standing'), 'Loading…');
  forget();
  drawAccess();
  wakeUp();
});
// The way back must not lead to numbers of a key that was signed out meanwhile.
addEventListener('pageshow', (event) => {
  if (!event.persisted || kept() === bearer) return;
  forget();
  location.reload();
});
