// walk.mjs URL FOLDER: uses the page as people do: picks a time zone, compares, downloads, goes back, by mouse and by
// keyboard, on a desk and on a phone, in light and dark. Whatever is not as it must be ends it with a message; pictures of
// every stage stay in the folder. Prints as JSON what it downloaded, and the bytes and milliseconds until the first chart:
// {"csv", "href", "bytes", "chart"}.
import assert from 'node:assert/strict';
import { fits, saved, titled, until, visit, words } from './visit.mjs';

/** Transferred until the first chart is there, the answers included. */
const BYTES_MAX = 150_000;

const [url, folder] = process.argv.slice(2);
if (!url || !folder) {
  console.error('usage: walk.mjs URL FOLDER');
  process.exit(2);
}
const { open, accessible, picture, errors, close } = await visit(url, folder);

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
  await page.waitForSelector('#period-rows tr');
  const hours = await page.locator('#period-rows tr td:first-child').allInnerTexts();
  assert.ok(hours.length > 24 && hours.every((hour) => hour.endsWith(':00')), `hours of that zone: ${hours.slice(0, 3)}`);
  const course = page.locator('#ad-rows polyline').first();
  await until(page, () => document.querySelector('#ad-rows polyline')?.getAttribute('points')?.includes(' '));
  assert.ok((await course.getAttribute('points')).split(' ').length > 1);
  await accessible(page, 'a week of another zone');
  await picture(page, 'zone');

  const { text: csv, name } = await saved(page, '#csv');
  assert.match(name, /^clicks_.*position-\d+\.csv$/);
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

  // --- free dates ------------------------------------------------------------------------------------------------------
  const dates = await open('/?range=week');
  await dates.click('a[data-range=dates]');
  await dates.waitForSelector('body[data-ready=dates]');
  const today = await dates.inputValue('#to');
  const cells = dates.locator('#day-rows tr', { hasText: 'closed' }).first().locator('td');
  const [closed, , exact] = await cells.allInnerTexts();
  await dates.fill('#from', closed);
  await dates.fill('#to', closed);
  await dates.selectOption('#grain', 'hour');
  await until(dates, (exact) => document.getElementById('sum-closed').textContent === exact, exact);
  assert.match(dates.url(), new RegExp(`range=dates&from=${closed}&to=${closed}&grain=hour`));
  await dates.click('#numbers summary');
  await dates.waitForSelector('#period-rows tr');
  assert.match(await dates.getAttribute('#period-rows td.wide', 'title'), /live said/);
  await accessible(dates, 'a day by its date');
  await picture(dates, 'dates');
  await dates.fill('#from', today);
  await dates.click('#dates button');
  assert.match(await dates.$eval('#to', (input) => input.validationMessage), /before the first/);
  assert.match(dates.url(), new RegExp(`from=${closed}`));
  await dates.goBack();
  await until(dates, (today) => document.getElementById('to').value === today, today);
  const turned = await open(`/?range=dates&from=${today}&to=${closed}`, { viewport: { width: 390, height: 800 } }, 'body[data-state=stale]');
  assert.match(await words(turned, '#notice-text'), /is before the first/);
  await fits(turned, 'the page with dates on a phone');
  await accessible(turned, 'dates that are the wrong way round');
  await picture(turned, 'dates-phone');

  // --- campaigns, by the names that the page itself offers ------------------------------------------------------------
  const some = await open('/?range=week');
  const clicks = async () => Number((await words(some, '#sum')).replaceAll(/\D/g, ''));
  const all = await clicks();
  const [tenant, campaign] = (await some.getAttribute('#scope optgroup option:nth-child(2)', 'value')).split(' ');
  await some.selectOption('#scope', tenant);
  await titled(some, `Clicks of ${tenant}`);
  await some.selectOption('#scope', `${tenant} ${campaign}`);
  await titled(some, `Clicks of ${campaign} (${tenant})`);
  await until(some, (campaign) => document.getElementById('days-hint').textContent.startsWith(campaign), campaign);
  assert.ok((await clicks()) > 0 && (await clicks()) < all, `${await clicks()} clicks of ${campaign}, ${all} of all`);
  for (const asked of [some.url(), new URL(await some.getAttribute('#csv', 'href'), url).href]) {
    const query = new URL(asked).searchParams;
    assert.deepEqual([query.get('tenant'), query.get('campaign')], [tenant, campaign], asked);
  }
  await accessible(some, 'a campaign');
  await picture(some, 'campaign');
  await some.goBack();
  await titled(some, `Clicks of ${tenant}`);
  assert.equal(await some.inputValue('#scope'), tenant);
  await some.goBack();
  await titled(some, 'Clicks');

  await some.click('[data-top=campaigns]');
  await until(some, () => document.getElementById('ads-title').textContent === 'Top campaigns');
  const unlisted = some.locator('#ad-rows tr', { hasText: 'not in the ads table' });
  await unlisted.waitFor();
  assert.equal(await unlisted.locator('a[href]').count(), 0, 'ads that are in no campaign are no campaign');
  await accessible(some, 'campaigns');
  await picture(some, 'campaigns');
  const first = some.locator('#ad-rows a[href]').first();
  const chosen = await first.innerText();
  await first.click();
  await until(some, (name) => document.getElementById('chart-title').textContent.startsWith(`Clicks of ${name} (`), chosen);
  assert.equal(new URL(some.url()).searchParams.get('campaign'), chosen);
  await some.waitForSelector('#ad-rows tr[aria-current]');
  await unlisted.waitFor({ state: 'detached' });

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
  await titled(keys, 'Clicks on ad-17');
  assert.match(keys.url(), /ad=ad-17/);

  // --- a phone, and the dark -------------------------------------------------------------------------------------------
  for (const colorScheme of ['light', 'dark']) {
    const phone = await open('/?range=week&compare=before&tz=Europe/Berlin', { viewport: { width: 390, height: 800 }, colorScheme });
    await phone.waitForSelector('#compared:not([hidden])');
    await fits(phone, 'the page on a phone');
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
    await fits(status, "the operators' page");
    await accessible(status, `the operators' page, ${width} pixels, ${colorScheme}`);
    await picture(status, `status-${width}`);
  }
  assert.deepEqual(errors, [], 'what the console says');
  console.log(JSON.stringify({ csv, href, bytes, chart }));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await close();
}
