// Browser and driver lie where tests/setup put them, so that nothing is installed into the source tree.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

export const tools = new URL('../../target/tools/', import.meta.url);

export function launch() {
  const require = createRequire(new URL('browser/', tools));
  const { chromium } = require('playwright-core');
  return chromium.launch({
    executablePath: fileURLToPath(new URL('chromium', tools)),
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}
