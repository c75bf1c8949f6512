// What all who use the page need: a browser whose console is listened to, axe, and pictures that stay in a folder.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { launch, tools } from './chromium.mjs';

const require = createRequire(new URL('browser/', tools));
const axe = require.resolve('axe-core/axe.min.js');

/** `errors`: what the console said, of all pages that were opened. */
export async function visit(url, folder) {
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
  return { open, accessible, picture, errors, close: () => browser.close() };
}

export const words = (page, selector) => page.innerText(selector);
export const until = (page, what, ...given) => page.waitForFunction(what, ...given);
export const titled = (page, title) => until(page, (title) => document.getElementById('chart-title').textContent === title, title);
/** Nobody has to move a page sideways. */
export async function fits(page, what) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${what} is ${wide} pixels too wide`);
}
/** Presses a link or button that saves a file: what is in it, and under which name. */
export async function saved(page, selector) {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click(selector)]);
  return { text: await readFile(await download.path(), 'utf8'), name: download.suggestedFilename() };
}
