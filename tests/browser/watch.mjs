// watch.mjs URL FOLDER: opens the page once and looks at it while the system lives on: the number grows, a day closes and
// changes its look, the speed layer goes away and comes back, and nothing is ever loaded again. Each thing that is seen leaves
// a picture of its name in the folder, at once, so that whoever moves the world on knows that it was seen.
import assert from 'node:assert/strict';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { launch } from './chromium.mjs';

const [url, folder] = process.argv.slice(2);
if (!url || !folder) {
  console.error('usage: watch.mjs URL FOLDER');
  process.exit(2);
}
const browser = await launch();
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  page.setDefaultTimeout(400_000);
  const errors = [];
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(String(error)));
  /** Under its name only when it is whole: somebody waits for it. */
  const seen = async (name) => {
    await page.screenshot({ path: join(folder, `${name}.part.png`), fullPage: true });
    await rename(join(folder, `${name}.part.png`), join(folder, `${name}.png`));
  };
  await page.goto(new URL('/?range=week', url).href, { waitUntil: 'load' });
  await page.evaluate(() => {
    globalThis.isTheSamePage = true;
    globalThis.clicksShown = () => Number(document.getElementById('sum').textContent.replaceAll(/\D/g, ''));
  });

  await page.waitForFunction(() => clicksShown() > 0);
  const before = await page.evaluate(() => clicksShown());
  await page.waitForFunction((before) => clicksShown() > before, before);
  assert.match(await page.innerText('#boundary'), /^All of this range is provisional/);
  assert.equal(await page.locator('#day-rows .badge.closed').count(), 0, 'no day is closed yet');
  await seen('grown');

  await page.waitForSelector('#day-rows .badge.closed');
  await page.waitForFunction(() => document.getElementById('boundary').textContent.startsWith('Closed up to'));
  await page.waitForFunction(() => /\d/.test(document.getElementById('sum-closed').textContent));
  await seen('closed');

  await page.waitForSelector('body[data-state=away]');
  assert.equal(await page.innerText('#notice-title'), 'The speed layer is away');
  assert.match(await page.innerText('#day-rows'), /unknown/);
  await seen('away');

  await page.waitForSelector('body[data-state=live]');
  assert.equal(await page.isVisible('#notice'), false);
  await seen('back');
  assert.ok(await page.evaluate(() => globalThis.isTheSamePage), 'the page was loaded again');
  assert.deepEqual(errors, [], 'what the console says');
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await browser.close();
}
