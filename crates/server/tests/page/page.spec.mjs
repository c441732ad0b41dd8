// Does the page do what it promises, in a real browser? Runs against BASE_URL (a server that is ready), or against the mock server.
// What no healthy server does on demand (401, errors in mid-stream, hostile text, loading) is answered in its place.
// CHROMIUM names the browser, SHOTS a folder for pictures.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { mock } from './mock.mjs';

const { BASE_URL, CHROMIUM = '/usr/bin/chromium', SHOTS } = process.env;
const CHAT = '**/v1/chat/completions';
const WIDE = { width: 1280, height: 800 };
const PHONE = { width: 360, height: 740 };
const LONG = 'Count from 1 to 2000 in digits, separated by spaces.';

let server, browser;

before(async () => {
  if (SHOTS) await mkdir(SHOTS, { recursive: true });
  if (!BASE_URL) server = await mock();
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic'] });
});
after(async () => {
  await browser?.close();
  server?.close();
});

/** A fresh browser profile on the page; fails on any error in the console (but those that `expected` matches) or request elsewhere. */
async function visit(name, { expected = /$^/, prepare = async () => {}, ...options }, body) {
  const url = BASE_URL ?? server.url;
  const context = await browser.newContext({ viewport: WIDE, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type()) && !expected.test(message.text())) wrong.push(message.text()); });
  page.on('pageerror', (error) => wrong.push(String(error)));
  page.on('dialog', (dialog) => { wrong.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('request', (request) => { if (!request.url().startsWith(new URL(url).origin) && !request.url().startsWith('data:')) wrong.push(request.url()); });
  await prepare(page);
  await page.goto(url);
  await body(page);
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/${name}.png` });
  await context.close();
  assert.deepEqual(wrong, []);
}

const say = async (page, text) => { await page.fill('#ask', text); await page.press('#ask', 'Enter'); };
const idle = (page) => page.waitForSelector('#send:not(.busy)', { timeout: 120_000 });
const lastAnswer = (page) => page.locator('.answer').last();
const text = (page) => lastAnswer(page).locator('.prose').innerText();
const sse = (...deltas) => ({
  contentType: 'text/event-stream',
  body: deltas.map((delta) => `data: ${JSON.stringify(delta)}\n\n`).join(''),
});
const delta = (content) => ({ choices: [{ index: 0, delta: { content }, finish_reason: null }] });
const end = { choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] };
const whole = (content) => sse(delta(content), end);

test('a chat is answered, measured, and still there after a reload', () => visit('answered', {}, async (page) => {
  await page.waitForSelector('body[data-state=ready]');
  await say(page, 'How does mergesort work? Answer in two sentences.');
  await idle(page);
  const answer = await text(page);
  assert.ok(answer.length > 0);
  assert.match(await lastAnswer(page).locator('.stats').innerText(), /\d tokens.*first after [\d.]+ m?s.*prompt \d/);
  assert.match(await page.locator('#memory').innerText(), /\d [KMG]iB|–/);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'ask');
  await page.reload();
  assert.equal(await text(page), answer);
  assert.equal(await page.locator('#list .title').count(), 1);
}));

test('stop ends the stream and keeps what had come; the next message is sent with it', () => visit('stopped', {}, async (page) => {
  for (const stop of [() => page.press('#ask', 'Escape'), () => page.click('#send')]) {
    await say(page, LONG);
    await page.waitForFunction(() => [...document.querySelectorAll('.answer .prose')].at(-1)?.textContent.length > 20);
    await stop();
    await idle(page);
    assert.match(await lastAnswer(page).locator('.stats').innerText(), /stopped/);
    const kept = await text(page);
    await page.waitForTimeout(300);
    assert.equal(await text(page), kept);
  }
  let sent;
  await page.route(CHAT, (route) => { sent = route.request().postDataJSON(); return route.fulfill(whole('Fine.')); });
  await say(page, 'Thanks');
  await idle(page);
  assert.deepEqual(sent.messages.map(({ role }) => role), ['user', 'assistant', 'user', 'assistant', 'user']);
  assert.deepEqual(sent.stream_options, { include_usage: true });
}));

test('a 401 asks for a key, which is then used and can be forgotten', () => visit('key', { expected: /401/ }, async (page) => {
  await page.route(CHAT, (route) => (route.request().headers().authorization === 'Bearer secret' ? route.fulfill(whole('Welcome.'))
    : route.fulfill({ status: 401, json: { error: { message: 'Incorrect API key provided.', type: 'authentication_error', param: null, code: 'invalid_api_key' } } })));
  await say(page, 'Hello');
  await page.fill('.key [type=password]', 'wrong');
  await page.click('.key button');
  await page.fill('.key [type=password]', 'secret');
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/key-asked.png` });
  await page.press('.key [type=password]', 'Enter');
  await page.waitForSelector('.prose >> text=Welcome.');
  assert.equal(await page.locator('.problem:visible').count(), 0);
  assert.equal(await page.evaluate(() => localStorage.getItem('worker-orcd.key')), null);
  await page.click('#tune');
  await page.click('#forget');
  assert.equal(await page.evaluate(() => sessionStorage.getItem('worker-orcd.key')), null);
}));

test('errors are shown where they happened and can be tried again', () => visit('errors', { expected: /503|ERR_FAILED/ }, async (page) => {
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
}));

test('HTML, scripts and links in an answer are inert text', () => visit('inert', {}, async (page) => {
  const hostile = [
    '<script>alert(1)</script> <img src=x onerror=alert(1)> <iframe src="//example.com"></iframe> <style>body{display:none}</style>',
    '[one](javascript:alert(1)) [two](data:text/html,x) [three](https://example.com/a_(b)) ![four](https://example.com/p.png) <https://example.com/five>',
    '| a | b |\n|---|---|\n| <b>x</b> | `<i>` |',
    '```html"onload=alert(1)\n</code></pre><script>alert(1)</script>\n```',
    '&lt;b&gt; &amp; **<u>bold</u>**',
  ].join('\n\n');
  await page.route(CHAT, (route) => route.fulfill(sse({ choices: [{ delta: { reasoning_content: '<img src=x onerror=alert(1)>' } }] }, delta(hostile), end)));
  await say(page, '<img src=x onerror=alert(1)>');
  await idle(page);
  await page.waitForTimeout(200);
  assert.equal(await page.locator(['script', 'img', 'iframe', 'style', 'b', 'i', 'u'].map((tag) => `#log ${tag}`).join()).count(), 0);
  assert.deepEqual(await page.locator('.prose a').evaluateAll((links) => links.map((link) => link.href)),
    ['https://example.com/a_(b)', 'https://example.com/p.png', 'https://example.com/five']);
  assert.match(await text(page), /<script>alert\(1\)<\/script> <img src=x/);
  assert.match(await text(page), /\[one\]\(javascript:alert\(1\)\)/);
  assert.equal(await page.locator('details[open]').count(), 0);
}));

test('Markdown becomes what it means, whole or in pieces', () => visit('markdown', {}, async (page) => {
  const shape = (source, step) => page.evaluate(async ([source, step]) => {
    const { Markdown } = await import(new URL('page/markdown.js', document.baseURI).href);
    const root = document.createElement('div');
    const markdown = new Markdown(root);
    for (let at = step; at < source.length; at += step) markdown.update(source.slice(0, at), true);
    markdown.update(source, false);
    const show = (node) => (node.nodeType === 3 ? node.data : `<${node.localName}>${[...node.childNodes].map(show).join('')}</${node.localName}>`);
    root.querySelectorAll('.bar').forEach((bar) => bar.remove());
    return [...root.childNodes].map(show).join('').replaceAll(/<\/?(div|span)>/g, '');
  }, [source, step]);
  const cases = [
    ['a *b* **c** ***d*** `e*f*` ~~g~~ snake_case_name 2 * 3 * 4', '<p>a <em>b</em> <strong>c</strong> <strong><em>d</em></strong> <code>e*f*</code> <s>g</s> snake_case_name 2 * 3 * 4</p>'],
    ['**a *b*** and *a **b***', '<p><strong>a <em>b</em></strong> and <em>a <strong>b</strong></em></p>'],
    ['one\ntwo\n\nthree', '<p>one<br></br>two</p><p>three</p>'],
    ['# A\ntext\n## B #1', '<h3>A</h3><p>text</p><h4>B #1</h4>'],
    ['- a\n- b\n  - c\n\n    d\n- e', '<ul><li><p>a</p></li><li><p>b</p><ul><li><p>c</p><p>d</p></li></ul></li><li><p>e</p></li></ul>'],
    ['1. a\n\n   ```py\n   x = 1\n   ```\n2. b', '<ol><li><p>a</p><pre><code>x = 1</code></pre></li><li><p>b</p></li></ol>'],
    ['```c\nint a;\n\n\tb();\n```\nafter', '<pre><code>int a;\n\n\tb();</code></pre><p>after</p>'],
    ['````md\n```\nx\n```\n````', '<pre><code>```\nx\n```</code></pre>'],
    ['> a\n> b', '<blockquote><p>a<br></br>b</p></blockquote>'],
    ['| a | b |\n|:-:|--:|\n| 1 | `x\\|y` |', '<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td><code>x|y</code></td></tr></tbody></table>'],
    ['see https://a.example/b_c?d=e. Or *not', '<p>see <a>https://a.example/b_c?d=e</a>. Or *not</p>'],
    ['a \\*b\\* \\(x_1 * y_1\\)', '<p>a *b* x_1 * y_1</p>'],
    ['---\n***', '<hr></hr><hr></hr>'],
  ];
  for (const [source, expected] of cases) {
    for (const step of [1, 3, 1000]) assert.equal(await shape(source, step), expected, `${JSON.stringify(source)} in steps of ${step}`);
  }
  for (const piece of ['*', '**a ', '`', '[', '![a](', '> ', '- ', '_a', '~~', '|', '\\(', '```` ', '# ', 'http://', '((']) {
    await shape(piece.repeat(48_000 / piece.length), 1e9); // Comes back at all: none of these may take more than linear time.
  }
}));

test('regenerate, edit, new conversation and delete', () => visit('edit', {}, async (page) => {
  const sent = [];
  await page.route(CHAT, (route) => { sent.push(route.request().postDataJSON()); return route.fulfill(whole(`Answer ${sent.length}.`)); });
  await say(page, 'First');
  await page.waitForSelector('text=Answer 1.');
  await lastAnswer(page).hover();
  await page.getByRole('button', { name: 'Regenerate' }).click();
  await page.waitForSelector('text=Answer 2.');
  assert.deepEqual(sent[1], sent[0]);
  await page.focus('#ask');
  await page.press('#ask', 'ArrowUp');
  await page.fill('.edit textarea', 'Second');
  await page.press('.edit textarea', 'Enter');
  await page.waitForSelector('text=Answer 3.');
  assert.deepEqual(sent[2].messages, [{ role: 'user', content: 'Second' }]);
  assert.equal(await page.locator('article').count(), 2);
  await page.click('#new');
  assert.equal(await page.locator('article').count(), 0);
  await say(page, 'Another');
  await page.waitForSelector('text=Answer 4.');
  assert.deepEqual(await page.locator('#list .title').allInnerTexts(), ['Another', 'Second']);
  await page.locator('#list .item').last().hover();
  await page.getByRole('button', { name: 'Delete “Second”' }).click();
  await page.click('#confirm .danger');
  await page.waitForFunction(() => document.querySelectorAll('#list .title').length === 1);
  assert.deepEqual(await page.locator('#list .title').allInnerTexts(), ['Another']);
  await page.click('#tune');
  await page.click('#clear');
  await page.click('#confirm .danger');
  await page.waitForFunction(() => !Object.keys(localStorage).some((key) => key.includes('chat')));
}));

test('answers, code and the request are copied as they are', () => visit('copied', { permissions: ['clipboard-read', 'clipboard-write'] }, async (page) => {
  const answer = 'Some **bold**:\n\n```c\nint a;\n\n\tb();\n```';
  await page.route(CHAT, (route) => route.fulfill(whole(answer)));
  await say(page, "It's a question");
  await idle(page);
  const copied = async (name) => {
    await page.getByRole('button', { name }).click();
    await page.getByRole('button', { name: 'Copied' }).waitFor();
    await page.getByRole('button', { name: 'Copied' }).waitFor({ state: 'detached' });
    return page.evaluate(() => navigator.clipboard.readText());
  };
  assert.equal(await copied('Copy answer'), answer);
  assert.equal(await copied('Copy code'), 'int a;\n\n\tb();');
  assert.match(await copied('Copy the request as a curl command'), /^curl -N 'http.*\/v1\/chat\/completions'.*It'\\''s a question/);
}));

test('settings are sent, kept and checked', () => visit('settings', {}, async (page) => {
  let sent;
  await page.route(CHAT, (route) => { sent = route.request().postDataJSON(); return route.fulfill(whole('Yes.')); });
  await page.click('#tune');
  await page.fill('#system', 'Be brief.');
  const values = { temperature: 0.3, top_p: 0.9, top_k: 40, min_p: 0.05, max_tokens: 64, seed: 7 };
  for (const [name, value] of Object.entries(values)) await page.fill(`[name=${name}]`, String(value));
  await page.press('#settings', 'Escape');
  await page.reload();
  await say(page, 'Hello');
  await idle(page);
  const { messages, stream, stream_options, ...sampling } = sent;
  assert.deepEqual(sampling, values);
  assert.deepEqual(messages, [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Hello' }]);
  await page.click('#tune');
  await page.fill('[name=temperature]', '5');
  assert.equal(await page.getAttribute('[name=temperature]', 'aria-invalid'), 'true');
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/settings-open.png` });
  await page.press('#settings', 'Escape');
  await say(page, 'Again');
  await idle(page);
  assert.equal('temperature' in sent, false);
}));

test('Enter that ends a composition does not send', () => visit('ime', {}, async (page) => {
  await page.fill('#ask', 'にほん');
  await page.evaluate(() => document.querySelector('#ask').dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true })));
  await page.press('#ask', 'Shift+Enter');
  assert.equal(await page.inputValue('#ask'), 'にほん\n');
  assert.equal(await page.locator('article').count(), 0);
}));

test('the log follows an answer until its reader scrolls up', () => visit('follow', {}, async (page) => {
  await say(page, LONG);
  const end = () => page.evaluate(() => { const { scrollHeight, scrollTop, clientHeight } = document.querySelector('#scroll'); return scrollHeight - scrollTop - clientHeight; });
  await page.waitForFunction(() => document.querySelector('#scroll').scrollTop > 100, null, { timeout: 120_000 });
  assert.ok(await end() < 40);
  await page.mouse.move(700, 300);
  await page.mouse.wheel(0, -2000);
  await page.waitForTimeout(300);
  const top = await page.evaluate(() => document.querySelector('#scroll').scrollTop);
  await page.waitForTimeout(700);
  assert.equal(await page.evaluate(() => document.querySelector('#scroll').scrollTop), top);
  await page.press('#ask', 'Escape');
  await idle(page);
  await page.evaluate(() => document.querySelector('#latest').click());
  assert.ok(await end() < 2);
}));

const STATES = {
  loading: { status: 503, json: { error: { code: 503, message: 'Loading model', type: 'unavailable_error' } } },
  draining: { status: 503, json: { status: 'unhealthy', phase: 'draining', model: 'm', error: { message: 'The server is draining.' } } },
  failed: { status: 503, json: { status: 'unhealthy', phase: 'failed', model: 'm', error: { message: 'The device fell off the bus.' } } },
  unreachable: null,
};
for (const [state, reply] of Object.entries(STATES)) {
  test(`the server's state shows: ${state}`, () => visit(`state-${state}`, {
    expected: /503|ERR_FAILED/,
    prepare: (page) => page.route('**/health', (route) => (reply ? route.fulfill(reply) : route.abort())),
  }, async (page) => {
    await page.waitForSelector(`body[data-state=${state}]`);
    await page.waitForSelector('#banner:visible');
    if (state === 'failed') assert.match(await page.innerText('#banner'), /fell off the bus/);
    await page.unroute('**/health');
    await page.waitForSelector('body[data-state=ready]');
    assert.equal(await page.locator('#banner:visible').count(), 0);
  }));
}

for (const [name, options] of Object.entries({
  'dark-wide': { colorScheme: 'dark' }, 'light-phone': { viewport: PHONE, hasTouch: true, isMobile: true },
  'dark-phone': { colorScheme: 'dark', viewport: PHONE, hasTouch: true, isMobile: true },
  'light-narrowest': { viewport: { width: 320, height: 568 }, hasTouch: true, isMobile: true, reducedMotion: 'reduce' },
})) {
  test(`screens: ${name}`, () => visit(name, options, async (page) => {
    await page.route(CHAT, (route) => route.fulfill(whole(`A ${'very'.repeat(60)} long word.\n\n\`\`\`\n${'code '.repeat(60)}\n\`\`\`\n\n|${' a wide column |'.repeat(9)}\n|${'---|'.repeat(9)}\n|${' cell |'.repeat(9)}`)));
    await say(page, `A question of ${'long'.repeat(40)} words`);
    await idle(page);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.querySelector('#scroll').scrollWidth <= document.querySelector('#scroll').clientWidth));
    const [red] = (await page.evaluate(() => getComputedStyle(document.body).backgroundColor)).match(/\d+/);
    assert.equal(Number(red) < 60, options.colorScheme === 'dark');
    if (!options.isMobile) return;
    assert.equal(await page.locator('#side:visible').count(), 0);
    await page.tap('#side-toggle');
    await page.waitForSelector('#side:visible');
    assert.equal(await page.evaluate(() => document.querySelector('#main').inert), true);
    await page.waitForTimeout(250);
    if (SHOTS) await page.screenshot({ path: `${SHOTS}/${name}-side.png` });
    await page.keyboard.press('Escape');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'side-toggle');
    await page.waitForTimeout(250);
  }));
}

test('a chosen theme holds, and every control has a name', () => visit('theme', {}, async (page) => {
  await page.click('#tune');
  await page.click('#theme label:has([value=dark])');
  await page.press('#settings', 'Escape');
  await page.reload();
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), 'rgb(20, 22, 21)');
  const nameless = await page.evaluate(() => [...document.querySelectorAll('button, input, textarea, [role=img], [role=meter]')]
    .filter((node) => !node.hidden && !(node.getAttribute('aria-label') || node.textContent.trim() || node.labels?.length)).map((node) => node.outerHTML));
  assert.deepEqual(nameless, []);
}));

test('it works behind a path prefix', () => visit('prefix', {}, async (page) => {
  const root = page.url();
  await page.route(`${root}a/prefix/**`, (route) => route.continue({ url: route.request().url().replace('/a/prefix/', '/') }));
  await page.goto(`${root}a/prefix/`);
  await page.waitForSelector('body[data-state=ready]');
  assert.equal(await page.innerText('.api code'), `${root}a/prefix/v1`);
  await say(page, 'Say hello.');
  await idle(page);
  assert.ok((await text(page)).length > 0);
}));

test('an answer is announced block by block', () => visit('announced', {}, async (page) => {
  await page.route(CHAT, (route) => route.fulfill(whole('One.\n\nTwo.\n\n```\ncode\n```')));
  await say(page, 'Hello');
  await idle(page);
  await page.waitForTimeout(100);
  assert.deepEqual(await page.locator('#announce[aria-live=polite] p').allInnerTexts(), ['One.', 'Two.', 'Code block.']);
}));

test('metrics that need a key are not asked for again without one', () => visit('metrics', {
  expected: /401/,
  prepare: (page) => page.route('**/metrics', (route) => { page.asked = (page.asked ?? 0) + 1; return route.fulfill({ status: 401, json: {} }); }),
}, async (page) => {
  await page.waitForTimeout(5000);
  assert.equal(page.asked, 1);
  assert.match(await page.innerText('#load'), /running/);
}));
