// keys.mjs URL FOLDER KEY KEY2: uses the page of a server that wants keys, as people do who were given one: KEY sees one
// tenant and may read, KEY2 sees all and may operate. Whatever is not as it must be, or shows what is not theirs, ends it
// with a message; pictures stay in the folder. Prints as JSON what was downloaded with KEY, and how the page calls it:
// {"csv", "who"}.
import assert from 'node:assert/strict';
import { fits, saved, until, visit, words } from './visit.mjs';

const [url, folder, key, key2] = process.argv.slice(2);
if (!url || !folder || !key || !key2) {
  console.error('usage: keys.mjs URL FOLDER KEY KEY2');
  process.exit(2);
}
const { open, accessible, picture, errors, close } = await visit(url, folder);
/** What Chromium itself says of a question that was refused for want of a key. */
const REFUSED = /^Failed to load resource: the server responded with a status of (401|403) /;
const LOCKED = 'body[data-state=locked]';
/** Of the whole system, not of one tenant. */
const OF_ALL = /^\/v1\/(days|status|nights)$/;

/** The server's words, as it says them to whoever asks with this, or nothing; the page makes a sentence of them. */
async function reasonOf(headers) {
  const { reason } = await (await fetch(new URL('/v1/access', url), { headers })).json();
  return reason.replaceAll('`', '').slice(1);
}
const told = (page, reason) => until(page, (reason) => document.getElementById('key-reason').textContent.includes(reason), reason);
async function give(page, text) {
  await page.fill('#key', text);
  await page.press('#key', 'Enter');
}
/** What a page asks the API from now on: paths, and what they were asked with. */
function listen(page) {
  const asked = [];
  page.on('request', (request) => {
    const { pathname } = new URL(request.url());
    if (pathname.startsWith('/v1/')) asked.push({ pathname, key: request.headers().authorization });
  });
  return asked;
}
/** The key is in this tab's memory, and nowhere else. */
async function keptInTheTabAlone(page) {
  const kept = await page.evaluate(() => ({ tab: Object.values(sessionStorage), file: Object.values(localStorage).join(), cookie: document.cookie }));
  assert.deepEqual(kept, { tab: [key], file: '', cookie: '' });
  assert.deepEqual(await page.context().cookies(), []);
  assert.ok(!page.url().includes(key) && !(await page.content()).includes(key), 'the key is in the address or in the page');
  assert.equal(await page.inputValue('#key'), '');
}
const tenantsOffered = (page) => page.$$eval('#scope optgroup', (groups) => groups.map((group) => group.label));

try {
  // --- which tenants there are: whoever sees all of them can tell ------------------------------------------------------
  const operator = await open('/', {}, LOCKED);
  await give(operator, key2);
  await operator.waitForSelector('body[data-state=live][data-ready]');
  await operator.waitForSelector('#scope optgroup', { state: 'attached' });
  const tenants = await tenantsOffered(operator);

  // --- without a key ---------------------------------------------------------------------------------------------------
  const page = await open('/?range=week', {}, LOCKED);
  assert.equal(await words(page, '#locked-title'), 'This page needs a key');
  const needed = await reasonOf({});
  await told(page, needed);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'key');
  assert.equal(await page.isVisible('#chart'), false);
  await accessible(page, 'without a key');
  await picture(page, 'locked');
  const asked = listen(page);
  const wrong = `${key.slice(0, -4)}${key.endsWith('0000') ? '1111' : '0000'}`;
  await give(page, wrong);
  const unknown = await reasonOf({ Authorization: `Bearer ${wrong}` });
  assert.notEqual(unknown, needed);
  await told(page, unknown);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.ok(await page.isVisible('#key-form'));
  await accessible(page, 'a wrong key');
  await picture(page, 'wrong');

  // --- with the key of a tenant ----------------------------------------------------------------------------------------
  asked.length = 0;
  await give(page, key);
  await page.waitForSelector('body[data-state=live][data-ready=week]');
  await page.waitForSelector('#ad-rows tr');
  assert.equal(await page.isVisible('#key-form'), false);
  await keptInTheTabAlone(page);
  const who = `${await words(page, '#who-key')} · ${await words(page, '#who-tenant')}`;
  const [own, ...more] = await tenantsOffered(page);
  const others = tenants.filter((tenant) => tenant !== own);
  assert.ok(more.length === 0 && others.length > 0, `${own} of ${tenants}`);
  assert.ok(who.includes(own), who);
  await accessible(page, 'with a key');
  await picture(page, 'open');
  const { text: csv, name } = await saved(page, '#csv');
  assert.match(name, /^clicks_.*position-\d+\.csv$/);
  const seen = [csv, await page.content()];
  const look = async (selector) => {
    await page.click(selector);
    await page.waitForSelector('#tables:not(.waiting)');
    seen.push(await page.content());
  };
  await look('[data-top=campaigns]');
  await look('[data-top=ads]');
  assert.equal(await page.isVisible('[data-top=tenants]'), false, 'tenants are ranked for one that sees only itself');
  await look('#ad-rows a[data-ad]');
  await look('#clear');
  for (const other of others) assert.ok(!new RegExp(`\\b${other}\\b`).test(seen.join()), `${own} is told of ${other}`);
  assert.deepEqual(asked.filter((each) => OF_ALL.test(each.pathname)), [], 'questions about all tenants');
  assert.deepEqual(asked.filter((each) => each.key !== `Bearer ${key}`), [], 'questions without the key');
  await page.reload();
  await page.waitForSelector('body[data-state=live][data-ready]');
  await keptInTheTabAlone(page);

  // --- the operators' page ---------------------------------------------------------------------------------------------
  await page.goto(new URL('/status', url).href);
  await page.waitForSelector(LOCKED);
  assert.equal(await words(page, '#locked-title'), 'This page is not for this key');
  assert.match(await words(page, '#who'), new RegExp(own));
  assert.equal(await page.locator('#partition-rows tr').count(), 0);
  await accessible(page, "the operators' page, refused");
  await picture(page, 'refused');
  await give(page, key2);
  await page.waitForSelector('body[data-ready]:not([data-state=locked])');
  await page.waitForSelector('#partition-rows tr');
  await accessible(page, "the operators' page");
  await picture(page, 'status');

  // --- signing out -----------------------------------------------------------------------------------------------------
  const leaver = await open(`/?tenant=${own}`, { viewport: { width: 390, height: 800 }, colorScheme: 'dark' }, LOCKED);
  await fits(leaver, 'the form on a phone');
  await accessible(leaver, 'the form on a phone in the dark');
  await picture(leaver, 'locked-phone');
  await give(leaver, key);
  await leaver.waitForSelector('body[data-state=live][data-ready]');
  await leaver.waitForSelector('#ad-rows tr');
  await fits(leaver, 'the page with a key on a phone');
  await accessible(leaver, 'the page with a key on a phone in the dark');
  await picture(leaver, 'open-phone');
  await leaver.click('#sign-out');
  await leaver.waitForSelector(LOCKED);
  const left = () => leaver.evaluate(() => ({
    rows: document.querySelectorAll('#ad-rows tr, #day-rows tr, #period-rows tr').length,
    sum: document.getElementById('sum').textContent,
    kept: sessionStorage.length,
    who: document.getElementById('who').hidden,
    scope: [...document.getElementById('scope').options].map((option) => option.text),
  }));
  const nothing = { rows: 0, sum: '–', kept: 0, who: true, scope: ['All ads'] };
  assert.deepEqual(await left(), nothing);
  assert.ok(!leaver.url().includes(own), leaver.url());
  await leaver.goBack();
  await leaver.waitForSelector(LOCKED);
  assert.deepEqual({ ...(await left()), scope: nothing.scope }, nothing, 'the way back leads to numbers');

  assert.deepEqual(errors.filter((error) => !REFUSED.test(error)), [], 'what the console says');
  console.log(JSON.stringify({ csv, who }));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await close();
}
