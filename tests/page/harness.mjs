// What do the checks of the page share? Workers of their own, a browser, and visits that fail on whatever goes wrong beside what is checked:
// errors in the console, breaches of the content security policy, dialogs, requests to anywhere else.
//
// The environment says where things are: PAGE_WORKER (the program), PAGE_MODEL (a GGUF file), PAGE_NODE_MODULES, PAGE_CHROMIUM, and PAGE_SHOTS,
// a folder for pictures, where they are wanted.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

const { PAGE_WORKER, PAGE_MODEL, PAGE_NODE_MODULES, PAGE_CHROMIUM, PAGE_SHOTS } = process.env;
const { resolve } = createRequire(`${PAGE_NODE_MODULES}/`);
const { chromium } = (await import(resolve('playwright-core'))).default;
const AXE = await readFile(resolve('axe-core/axe.min.js'), 'utf8');

export const CHAT = '**/v1/chat/completions';
export const WIDE = { width: 1280, height: 800 };
export const PHONE = { viewport: { width: 375, height: 667 }, hasTouch: true, isMobile: true };
/** What the model writes on and on about. */
export const LONG = 'Write a very long story about a lighthouse keeper.';

const running = new Set();
process.on('exit', () => { for (const each of running) each.child.kill('SIGKILL'); });

/** A `worker-orcd serve` on a free port (or `port`, where another one was). */
export class Server {
  #log = [];

  static async start(options = [], { port = 0, isReady = true } = {}) {
    const started = new Server();
    // One thread leaves the browser a core, and a stream time to be stopped.
    const words = ['serve', '--device', 'cpu', '--threads', '1', '--port', String(port), '--served-model-name', 'smollm2', '--model', PAGE_MODEL];
    // Settings of whoever runs this must not become the server's.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('WORKER_ORCD')));
    const child = spawn(PAGE_WORKER, [...words, ...options], { env, stdio: ['ignore', 'ignore', 'pipe'] });
    started.child = child;
    running.add(started);
    started.ended = once(child, 'exit').then(([code]) => { running.delete(started); return code; });
    const listening = new Promise((resolve) => {
      createInterface({ input: child.stderr }).on('line', (line) => {
        started.#log.push(line);
        const found = /listening on (http:\S+)/.exec(line);
        if (found) resolve(found[1]);
      });
    });
    const gone = started.ended.then((code) => { throw new Error(`the server ended with ${code}:\n${started.#log.join('\n')}`); });
    gone.catch(() => {}); // Whoever waits for it hears of it; in the end nobody does.
    started.url = `${await Promise.race([listening, gone])}/`;
    if (isReady) await Promise.race([until('the server is ready', async () => (await started.health()).status === 'healthy'), gone]);
    return started;
  }

  get port() {
    return Number(new URL(this.url).port);
  }

  async health() {
    return (await fetch(`${this.url}health`)).json();
  }

  /** The value of a metric that has one. */
  async metric(name) {
    const text = await (await fetch(`${this.url}metrics`)).text();
    return Number(new RegExp(`^${name}(?:{.*})? (\\S+)$`, 'm').exec(text)[1]);
  }

  /** The answer of the API, which the page must show. */
  async answer(body) {
    const response = await fetch(`${this.url}v1/chat/completions`, {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ ...body, stream: false, stream_options: undefined }),
    });
    return (await response.json()).choices[0].message.content;
  }

  idle() {
    return until('nobody runs', async () => (await this.health()).n_running === 0);
  }

  terminate() {
    this.child.kill('SIGTERM');
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

export async function until(what, isSo, seconds = 20) {
  for (const end = performance.now() + seconds * 1000; !(await isSo()); await sleep(50)) {
    assert.ok(performance.now() < end, `after ${seconds} s it is still not so that ${what}`);
  }
}

if (PAGE_SHOTS) await mkdir(PAGE_SHOTS, { recursive: true });
// Without these Chromium asks its makers for updates, which has no place in a test.
const QUIET = ['--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic', '--no-first-run'];
// Not in a hook `before`: where other tests have begun by then, nobody waits for it.
const [started, browser] = await Promise.all([
  Server.start(),
  chromium.launch({ executablePath: PAGE_CHROMIUM, args: [...QUIET, '--disable-gpu'], env: { ...process.env, no_proxy: '127.0.0.1' } }),
]);
/** The worker of all checks that need none of their own. */
export const server = started;

after(async () => {
  await browser.close();
  await Promise.all([...running].map((each) => each.kill()));
});

/**
 * A check: a fresh browser profile on the page of the server that `at()` gives, and `body(page, server)`. `expected` matches what belongs to it of what
 * is watched for; `sampling` is what the settings say; `prepare(page)` comes before the page is opened; `shot` names a picture of how it ends. The rest are
 * Playwright's options of a context.
 */
export function check(name, options, body) {
  if (!body) [options, body] = [{}, options];
  test(name, async () => {
    const { at: serving = () => server, expected = /$^/, prepare = async () => {}, sampling, shot, ...rest } = options;
    const at = await serving();
    const context = await browser.newContext({ viewport: WIDE, ...rest });
    context.setDefaultTimeout(20_000);
    const page = await context.newPage();
    const wrong = watch(page, new URL(at.url).origin, expected);
    if (sampling) {
      await context.addInitScript((text) => { if (location.protocol === 'http:') localStorage.setItem('worker-orcd.settings', text); }, JSON.stringify({ sampling }));
    }
    await prepare(page);
    await page.goto(at.url);
    try {
      await body(page, at);
      const words = await page.evaluate(() => document.body.innerText);
      const strange = at.url + 'docs' === page.url().split('#')[0] ? /\bundefined\b|\[object/ : /\b(null|undefined|NaN)\b|\[object/; // The reference speaks of null.
      assert.doesNotMatch(words, strange, 'values that nobody meant to show');
      if (shot) await picture(page, shot);
    } finally {
      await context.close();
    }
    assert.deepEqual(wrong, []);
  });
}

/** Collects what must not happen on a page. */
export function watch(page, origin, expected) {
  const wrong = [];
  const note = (what) => { if (!expected.test(what)) wrong.push(what); };
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) note(`console: ${message.text()}`); });
  page.on('pageerror', (error) => note(`error: ${error}`));
  page.on('dialog', (dialog) => { note(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('popup', (popup) => note(`window: ${popup.url()}`));
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(`${origin}/`) && !url.startsWith('data:')) note(`request: ${url}`);
  });
  return wrong;
}

export async function picture(page, name) {
  if (PAGE_SHOTS) await page.screenshot({ path: `${PAGE_SHOTS}/${name.replaceAll(/\W+/g, '-')}.png` });
}

/** What axe-core has against the page as it is now, by all rules or those named. */
export async function accessibility(page, runOnly) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate((runOnly) => globalThis.axe.run(document, { resultTypes: ['violations'], ...(runOnly && { runOnly }) }), runOnly);
  return violations.map(({ id, impact, nodes }) => `${id} (${impact}): ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('\n')}`);
}

export const ready = (page) => page.waitForSelector('body[data-state=ready]');
export const say = async (page, text) => { await page.fill('#ask', text); await page.press('#ask', 'Enter'); };
export const idle = (page) => page.waitForSelector('#send:not(.busy)', { timeout: 60_000 });
export const lastAnswer = (page) => page.locator('.answer').last();
export const text = (page) => lastAnswer(page).locator('.prose').innerText();
export const begun = (page, length = 20) =>
  page.waitForFunction((length) => [...document.querySelectorAll('.answer .prose')].at(-1)?.textContent.length > length, length);
/** The last answer as it is kept: what came, before Markdown became nodes. */
export const kept = (page) => page.evaluate(() => {
  const name = Object.keys(localStorage).filter((key) => key.startsWith('worker-orcd.chat.'));
  return name.map((key) => JSON.parse(localStorage[key])).sort((a, b) => b.updated - a.updated)[0].messages.at(-1).content;
});

/** Answers in a server's place: what no healthy server says on demand. */
export const sse = (...events) => ({ contentType: 'text/event-stream', body: events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('') });
export const delta = (content) => ({ choices: [{ index: 0, delta: { content }, finish_reason: null }] });
export const end = { choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] };
export const whole = (content) => sse(delta(content), end);
