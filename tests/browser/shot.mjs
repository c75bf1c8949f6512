// shot.mjs URL OUT.png [--wait SELECTOR] [--width PIXELS]: opens a page, saves a picture of all of it, and prints as JSON
// what a person and the console saw: {"title", "text", "errors"}.
import { parseArgs } from 'node:util';
import { launch } from './chromium.mjs';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { wait: { type: 'string' }, width: { type: 'string', default: '1280' } },
});
const [url, picture] = positionals;
if (!url || !picture) {
  console.error('usage: shot.mjs URL OUT.png [--wait SELECTOR] [--width PIXELS]');
  process.exit(2);
}

const browser = await launch();
try {
  const page = await browser.newPage({ viewport: { width: Number(values.width), height: 800 } });
  page.setDefaultTimeout(20_000);
  const errors = [];
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('requestfailed', (request) => errors.push(`${request.url()}: ${request.failure()?.errorText}`));
  // Not 'networkidle': a page that polls or streams is never idle. What the page must show is for --wait to name.
  await page.goto(url, { waitUntil: 'load' });
  if (values.wait) {
    await page.waitForSelector(values.wait);
  }
  await page.screenshot({ path: picture, fullPage: true });
  const text = await page.innerText('body');
  console.log(JSON.stringify({ title: await page.title(), text, errors }));
} catch (error) {
  console.error(`${url}: ${error.message}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
