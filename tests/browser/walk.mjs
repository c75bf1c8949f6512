// walk.mjs URL FOLDER: uses the page as people do: picks a time zone, compares, downloads, goes back, by mouse and by
// keyboard, on a desk and on a phone, in light and dark. Whatever is not as it must be ends it with a message; pictures of
// every stage stay in the folder. Prints as JSON what it downloaded, and the bytes and milliseconds until the first chart:
// {"csv", "href", "bytes", "chart"}.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { launch, tools } from './chromium.mjs';

/** Transferred until the first chart is there, the answers included. */
const BYTES_MAX = 150_000;
const require = createRequire(new URL('browser/', tools));
const axe = require.resolve('axe-core/axe.min.js');

const [url, folder] = process.argv.slice(2);
if (!url || !folder) {
  console.error('usage: walk.mjs URL FOLDER');
  process.exit(2);
}
const browser = await launch();
const errors = [];

async function open(address, options = {}, ready = 'body[data-state=live][data-ready]') {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true, timezoneId: 'America/New_York', ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(String(error)));
  await page.goto(new URL(address, url).href, { waitUntil: 'load' });
  await page.waitForSelector(ready);
  return page;
}

/** Nothing that a tool can find keeps anybody from using it. */
async function accessible(page, stage) {
  // From outside: the page's own policy forbids programs of others.
  await page.evaluate(`${await readFile(axe, 'utf8')}; 0`);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' | ')}`);
  assert.deepEqual(told, [], `${stage}: what axe finds`);
}
const picture = (page, name) => page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
const words = (page, selector) => page.innerText(selector);
const until = (page, what, ...given) => page.waitForFunction(what, ...given);

try {
  // --- a desk, by mouse ------------------------------------------------------------------------------------------------
  const page = await open('/');
  const { bytes, chart } = await page.evaluate(() => {
    const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
    return { bytes: entries.reduce((sum, entry) => sum + entry.transferSize, 0), chart: Math.round(performance.now()) };
  });
  assert.ok(bytes > 10_000 && bytes <= BYTES_MAX, `${bytes} bytes until the first chart`);
  await accessible(page, 'the last hour');
  await picture(page, 'hour');
  await page.click('a[data-range=week]');
  await page.waitForSelector('body[data-ready=week]');
  assert.match(page.url(), /range=week/);

  assert.equal(await page.inputValue('#zone'), 'UTC');
  assert.match(await words(page, '#zone'), /America\/New_York \(yours\)/);
  await page.selectOption('#zone', 'Australia/Adelaide');
  await until(page, () => document.getElementById('boundary').textContent.includes('Australia/Adelaide'));
  assert.match(page.url(), /tz=Australia%2FAdelaide/);
  // Midnight in UTC, where the closed part ends, is half past ten there.
  assert.match(await words(page, '#boundary'), /10:30 Australia\/Adelaide/);
  await page.click('#numbers summary');
  const hours = await page.locator('#period-rows tr td:first-child').allInnerTexts();
  assert.ok(hours.length > 24 && hours.every((hour) => hour.endsWith(':00')), `hours of that zone: ${hours.slice(0, 3)}`);
  const course = page.locator('#ad-rows polyline').first();
  await until(page, () => document.querySelector('#ad-rows polyline')?.getAttribute('points')?.includes(' '));
  assert.ok((await course.getAttribute('points')).split(' ').length > 1);
  await accessible(page, 'a week of another zone');
  await picture(page, 'zone');

  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#csv')]);
  const csv = await readFile(await download.path(), 'utf8');
  assert.match(download.suggestedFilename(), /^clicks_.*position-\d+\.csv$/);
  const href = await page.getAttribute('#csv', 'href');

  await page.goBack();
  await until(page, () => document.getElementById('boundary').textContent.includes(' UTC'));
  assert.equal(await page.inputValue('#zone'), 'UTC');
  await page.goto(new URL('/?range=today', url).href);
  await page.waitForSelector('body[data-ready=today]');
  assert.equal(await page.isVisible('#compared'), false);
  await page.check('#compare');
  await page.waitForSelector('#compared:not([hidden])');
  assert.match(await words(page, '#compared'), /yesterday/);
  assert.match(await words(page, '#compared'), /\d/);
  assert.match(page.url(), /compare=before/);
  await accessible(page, 'compared');
  await picture(page, 'compared');
  await page.uncheck('#compare');
  await page.waitForSelector('#compared', { state: 'hidden' });

  // A month of a zone whose days begin half an hour off: the top ads are there as well.
  const month = await open('/?range=month&tz=Asia/Kolkata');
  await month.waitForSelector('#ad-rows tr');
  assert.match(await words(month, '#boundary'), /05:30 Asia\/Kolkata/);

  // --- by keyboard alone -----------------------------------------------------------------------------------------------
  const keys = await open('/');
  const focused = () => keys.evaluate(() => document.activeElement.id || document.activeElement.dataset.range || document.activeElement.textContent);
  const reach = async (name) => {
    for (let n = 0; n < 40; n += 1) {
      await keys.keyboard.press('Tab');
      if ((await focused()) === name) return;
    }
    assert.fail(`no way to ${name} by Tab`);
  };
  await keys.keyboard.press('Tab');
  assert.equal(await focused(), 'Skip to the numbers');
  await reach('zone');
  await reach('today');
  await keys.keyboard.press('Enter');
  await keys.waitForSelector('body[data-ready=today]');
  await reach('compare');
  await keys.keyboard.press('Space');
  await keys.waitForSelector('#compared:not([hidden])');
  await reach('ad');
  await keys.keyboard.type('ad-17');
  await keys.keyboard.press('Enter');
  await until(keys, () => document.getElementById('chart-title').textContent === 'Clicks on ad-17');
  assert.match(keys.url(), /ad=ad-17/);

  // --- a phone, and the dark -------------------------------------------------------------------------------------------
  for (const colorScheme of ['light', 'dark']) {
    const phone = await open('/?range=week&compare=before&tz=Europe/Berlin', { viewport: { width: 390, height: 800 }, colorScheme });
    await phone.waitForSelector('#compared:not([hidden])');
    const wide = await phone.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${wide} pixels too wide for a phone`);
    await accessible(phone, `a phone, ${colorScheme}`);
    await picture(phone, `phone-${colorScheme}`);
  }
  const dark = await open('/?range=week&compare=before', { colorScheme: 'dark' });
  await accessible(dark, 'a desk in the dark');
  await picture(dark, 'dark');
  // --- the operators' page ---------------------------------------------------------------------------------------------
  for (const [width, colorScheme] of [[1280, 'light'], [390, 'dark']]) {
    const status = await open('/status', { viewport: { width, height: 900 }, colorScheme }, 'body[data-state=well][data-ready]');
    assert.match(await words(status, '#standing'), /all is well/);
    assert.ok((await status.locator('#partition-rows tr').count()) > 0 && (await status.locator('#night-rows tr').count()) > 0);
    const wide = await status.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `the operators' page is ${wide} pixels too wide`);
    await accessible(status, `the operators' page, ${width} pixels, ${colorScheme}`);
    await picture(status, `status-${width}`);
  }
  assert.deepEqual(errors, [], 'what the console says');
  console.log(JSON.stringify({ csv, href, bytes, chart }));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await browser.close();
}
