// What does the page say when the server refuses, breaks off, drains or is gone, and does it find its way back?

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { CHAT, LONG, Server, accessibility, begun, check, delta, idle, lastAnswer, picture, ready, say, sse, text, until, whole } from './harness.mjs';

const KEY = 'a key that nobody guesses'.replaceAll(' ', '-');
const SAMPLING = { temperature: 0, max_tokens: 12 };
const banner = (page) => page.locator('#banner');
const problem = (page) => lastAnswer(page).locator('.problem');

const folder = await mkdtemp(join(tmpdir(), 'page-'));
await writeFile(join(folder, 'keys'), `me:${KEY}\n`);
const locked = await Server.start(['--api-key-file', join(folder, 'keys')]);
after(() => rm(folder, { recursive: true, force: true }));

check('a server with keys: the page asks for one, says that it is wrong, and goes on with the right one', { at: () => locked, expected: /401/, sampling: SAMPLING }, async (page) => {
  await page.waitForSelector('#empty .key');
  await picture(page, 'key asked');
  assert.match(await page.innerText('#empty'), /asks for an API key/);
  await say(page, 'Hello');
  await problem(page).getByLabel('API key').fill('wrong');
  await page.press('.problem [type=password]', 'Enter');
  await page.waitForSelector('.problem >> text=/key/');
  await until('the new question has the focus', () => page.evaluate(() => document.activeElement.type === 'password'));
  await picture(page, 'key wrong');
  await page.keyboard.type(KEY);
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('.answer .stats')?.textContent.includes('prompt'));
  assert.equal(await page.locator('.problem:visible').count(), 0);
  await until('figures come', async () => /\d/.test(await page.innerText('#rate')), 10);
  assert.equal(await page.evaluate(() => localStorage.getItem('worker-orcd.key')), null);
  await page.click('#tune');
  await page.click('#forget');
  assert.equal(await page.evaluate(() => sessionStorage.getItem('worker-orcd.key')), null);
});

check('a key given before the first message is used, and kept where its owner wants it', { at: () => locked, expected: /401/, sampling: SAMPLING }, async (page) => {
  await page.waitForSelector('#empty .key');
  await until('the question has the focus', () => page.evaluate(() => document.activeElement.type === 'password'));
  await page.keyboard.type('wrong');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#empty >> text=does not accept this API key');
  await page.fill('#empty [type=password]', KEY);
  await page.check('#empty [type=checkbox]');
  await page.click('#empty .key button');
  await page.waitForSelector('#empty .key', { state: 'detached' });
  await until('figures come', async () => /\d/.test(await page.innerText('#rate')), 10);
  await say(page, 'Hello');
  await page.waitForFunction(() => document.querySelector('.answer .stats')?.textContent.includes('prompt'));
  assert.equal(await page.evaluate(() => localStorage.getItem('worker-orcd.key')), KEY);
});

check('the reference of a server with keys asks for one', { at: () => locked, expected: /401/ }, async (page) => {
  await page.goto(`${locked.url}docs`);
  await page.fill('[type=password]', KEY);
  await page.keyboard.press('Enter');
  await page.waitForSelector('#post-v1-chat-completions');
  assert.equal(await page.locator('.key').count(), 0);
});

check('a prompt longer than the context: the page says what the API says', { at: () => Server.start(['--ctx', '64']), expected: /400/ }, async (page, small) => {
  await ready(page);
  const content = 'word '.repeat(200).trim();
  const body = JSON.stringify({ messages: [{ role: 'user', content }] });
  const response = await fetch(`${small.url}v1/chat/completions`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
  const { message } = (await response.json()).error;
  assert.match(message, /\d+ too many: shorten it, or start with a --ctx of at least \d+/);
  await say(page, content);
  await page.waitForSelector('.problem:visible');
  const shown = await problem(page).locator('p').innerText();
  assert.equal(shown.toLowerCase(), `${message}.`.toLowerCase()); // A sentence: it begins large and ends.
  await page.goto('about:blank');
  await small.kill();
});

check('a server that is killed in the middle of an answer, and comes back', { expected: /503|ERR_/, sampling: { temperature: 0 }, at: () => Server.start() }, async (page, first) => {
  await say(page, LONG);
  await begun(page);
  const { port } = first;
  await first.kill();
  await page.waitForSelector('.problem >> text=The connection broke off before the answer was whole.');
  assert.ok((await text(page)).length > 10);
  await page.waitForSelector('body[data-state=unreachable]');
  assert.match(await banner(page).innerText(), /does not answer/);
  assert.deepEqual(await accessibility(page), []);
  await picture(page, 'killed');
  const second = await Server.start([], { port });
  await ready(page);
  assert.equal(await banner(page).isVisible(), false);
  await problem(page).getByRole('button', { name: 'Try again' }).click();
  await begun(page);
  assert.equal(await page.locator('.problem:visible').count(), 0);
  await second.kill();
});

check('a server that drains: the running answer goes on, a new one is refused, and then it is back', { expected: /503|ERR_/, sampling: { temperature: 0 }, at: () => Server.start() }, async (page, first) => {
  const { port, ended } = first;
  await say(page, LONG);
  await begun(page);
  first.terminate();
  await page.waitForSelector('body[data-state=draining]');
  assert.match(await banner(page).innerText(), /shutting down/);
  await page.click('#new');
  await say(page, 'Hello');
  await page.waitForSelector('.problem:visible');
  assert.match(await problem(page).innerText(), /^The server is shutting down\./);
  await picture(page, 'draining');
  await page.locator('#list .title').last().click();
  await begun(page, (await text(page)).length); // It goes on.
  await page.press('#ask', 'Escape');
  await page.waitForSelector('.answer .stats >> text=stopped');
  assert.equal(await ended, 0);
  await page.waitForSelector('body[data-state=unreachable]');
  const second = await Server.start([], { port });
  await ready(page);
  await page.locator('#list .title >> text=Hello').click();
  await problem(page).getByRole('button', { name: 'Try again' }).click();
  await page.waitForFunction(() => document.querySelector('.answer .prose')?.textContent.length > 0);
  await second.kill();
});

check('errors are shown where they happened and can be tried again', { expected: /503|ERR_FAILED/ }, async (page) => {
  const failures = [
    [sse(delta('Half an ans'), { error: { message: 'The device failed.', type: 'server_error', param: null, code: null } }), 'The device failed.'],
    [sse(delta('Half an ans')), 'The stream ended before the answer was whole.'],
    [{ status: 503, json: { error: { code: 503, message: 'Loading model', type: 'unavailable_error' } } }, 'Loading model'],
    [null, 'The server could not be reached.'],
  ];
  let now;
  await page.route(CHAT, (route) => (now ? route.fulfill(now) : route.abort()));
  for (const [failure, message] of failures) {
    now = failure;
    await say(page, 'Hello');
    await page.waitForSelector(`.answer:last-child .problem >> text=${message}`);
    assert.equal((await text(page)).trim(), failure?.body ? 'Half an ans' : '');
    now = whole('A whole answer.');
    await lastAnswer(page).getByRole('button', { name: 'Try again' }).click();
    await page.waitForSelector('.answer:last-child .prose >> text=A whole answer.');
    assert.equal(await page.locator('.problem:visible').count(), 0);
  }
});

check('a server that loads, fails, and is well', {
  expected: /503/,
  prepare: (page) => page.route('**/health', (route) => route.fulfill({ status: 503, json: page.health ?? { error: { code: 503, message: 'Loading model', type: 'unavailable_error' } } })),
}, async (page) => {
  await page.waitForSelector('body[data-state=loading]');
  assert.match(await banner(page).innerText(), /loading/);
  page.health = { status: 'unhealthy', phase: 'failed', model: 'm', error: { message: 'the device fell off the bus' } };
  await page.waitForSelector('body[data-state=failed]');
  assert.equal(await banner(page).innerText(), 'The device fell off the bus.');
  await picture(page, 'failed');
  await page.unroute('**/health');
  await ready(page);
  assert.equal(await banner(page).isVisible(), false);
});

check('metrics that need a key are not asked for again without one', {
  expected: /401/,
  prepare: (page) => page.route('**/metrics', (route) => { page.asked = (page.asked ?? 0) + 1; return route.fulfill({ status: 401, json: {} }); }),
}, async (page) => {
  await ready(page);
  await page.waitForTimeout(2500);
  assert.equal(page.asked, 1);
  assert.match(await page.innerText('#load'), /running/);
});
