// Can one talk to the model? Answers, stopping, editing, settings, keys.

import assert from 'node:assert/strict';
import { CHAT, LONG, begun, check, idle, kept, lastAnswer, ready, say, server, text, until, whole } from './harness.mjs';

const GREEDY = { temperature: 0, seed: 7, max_tokens: 40 };

check('a chat is answered as the API answers, and still there after a reload', { sampling: GREEDY }, async (page) => {
  await ready(page);
  await page.evaluate(() => {
    globalThis.lengths = [];
    new MutationObserver(() => globalThis.lengths.push(document.querySelector('.answer .prose')?.textContent.length ?? 0))
      .observe(document.querySelector('#log'), { subtree: true, childList: true, characterData: true });
  });
  const asked = page.waitForRequest(CHAT);
  await say(page, 'Why is the sky blue? Answer in one paragraph.');
  await idle(page);
  const expected = await server.answer((await asked).postDataJSON());
  assert.equal(await kept(page), expected);
  assert.equal((await text(page)).replaceAll(/\s+/g, ' ').trim(), expected.replaceAll(/\s+/g, ' ').trim());
  const lengths = await page.evaluate(() => [...new Set(globalThis.lengths)]);
  assert.ok(lengths.length > 5 && lengths.every((length, n) => n === 0 || length > lengths[n - 1]), `it grows: ${lengths}`);
  assert.match(await lastAnswer(page).locator('.stats').innerText(), /40 tokens.*tokens\/s.*first after [\d.]+ m?s.*prompt \d.*cut off at the token limit/);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'ask');
  await say(page, 'Say it shorter.');
  await idle(page);
  const second = await text(page);
  assert.ok(second.length > 0);
  assert.equal(await page.locator('article').count(), 4);
  await page.reload();
  assert.equal(await text(page), second);
  assert.equal(await page.locator('#list .title').count(), 1);
});

for (const [by, stop] of [['Escape', (page) => page.press('#ask', 'Escape')], ['its button', (page) => page.getByRole('button', { name: 'Stop' }).click()]]) {
  check(`${by} stops an answer, here and in the server`, { sampling: { temperature: 0 } }, async (page) => {
    await say(page, LONG);
    await begun(page);
    assert.equal((await server.health()).n_running, 1);
    await stop(page);
    await idle(page);
    await server.idle();
    assert.match(await lastAnswer(page).locator('.stats').innerText(), /stopped/);
    const part = await text(page);
    await page.waitForTimeout(300);
    assert.equal(await text(page), part);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'ask');
    const asked = page.waitForRequest(CHAT);
    await page.route(CHAT, (route) => route.fulfill(whole('Fine.')));
    await say(page, 'Thanks');
    await idle(page);
    const { messages, stream_options: options } = (await asked).postDataJSON();
    assert.deepEqual(messages.map(({ role }) => role), ['user', 'assistant', 'user']);
    assert.deepEqual(options, { include_usage: true });
  });
}

check('deleting a conversation that is being answered, or leaving the page, ends its answer in the server', { sampling: { temperature: 0 } }, async (page) => {
  await say(page, LONG);
  await begun(page);
  await page.locator('#list .item').hover();
  await page.getByRole('button', { name: /^Delete “/ }).click();
  await page.click('#confirm .danger');
  await server.idle();
  await say(page, LONG);
  await begun(page);
  const part = await text(page);
  await page.goto('about:blank');
  await server.idle();
  await page.goBack();
  await page.waitForSelector('.answer .stats >> text=stopped');
  assert.ok((await text(page)).startsWith(part.trim()));
});

check('new conversation and delete', async (page) => {
  let n = 0;
  await page.route(CHAT, (route) => route.fulfill(whole(`Answer ${++n}.`)));
  await say(page, 'First');
  await page.waitForSelector('text=Answer 1.');
  await page.click('#new');
  assert.equal(await page.locator('article').count(), 0);
  await say(page, 'Another');
  await page.waitForSelector('text=Answer 2.');
  assert.deepEqual(await page.locator('#list .title').allInnerTexts(), ['Another', 'First']);
  await page.locator('#list .item').last().hover();
  await page.getByRole('button', { name: 'Delete “First”' }).click();
  await page.click('#confirm .danger');
  await page.waitForFunction(() => document.querySelectorAll('#list .title').length === 1);
  assert.deepEqual(await page.locator('#list .title').allInnerTexts(), ['Another']);
  await page.click('#tune');
  await page.click('#clear');
  await page.click('#confirm .danger');
  await page.waitForFunction(() => !Object.keys(localStorage).some((key) => key.includes('chat')));
});

check('answers, code and the request are copied as they are', { permissions: ['clipboard-read', 'clipboard-write'] }, async (page) => {
  const answer = 'Some **bold**:\n\n```c\nint a;\n\n\tb();\n```';
  await page.route(CHAT, (route) => route.fulfill(whole(answer)));
  await say(page, "It's a question");
  await idle(page);
  const copied = async (name) => {
    const button = await page.getByRole('button', { name }).elementHandle();
    await button.click();
    await page.waitForFunction((button) => button.getAttribute('aria-label') === 'Copied', button);
    return page.evaluate(() => navigator.clipboard.readText());
  };
  assert.equal(await copied('Copy answer'), answer);
  assert.equal(await copied('Copy code'), 'int a;\n\n\tb();');
  assert.match(await copied('Copy the request as a curl command'), /^curl -N 'http.*\/v1\/chat\/completions'.*It'\\''s a question/);
  await page.getByRole('button', { name: 'Copy answer' }).waitFor(); // The name comes back.
});

check('settings are sent, kept and checked', { shot: 'settings' }, async (page) => {
  let sent;
  await page.route(CHAT, (route) => { sent = route.request().postDataJSON(); return route.fulfill(whole('Yes.')); });
  await page.click('#tune');
  const [{ defaults }] = (await (await fetch(`${server.url}v1/models`)).json()).data;
  assert.equal(await page.locator('#fields input').count(), 7);
  for (const field of Object.entries({ ...defaults, seed: 'random' })) {
    await page.waitForFunction(([name, value]) => document.querySelector(`[name=${name}]`).placeholder === String(value), field);
  }
  await page.fill('#system', 'Be brief.');
  const values = { temperature: 0.3, top_p: 0.9, top_k: 40, min_p: 0.05, repetition_penalty: 1.1, max_tokens: 64, seed: 7 };
  for (const [name, value] of Object.entries(values)) await page.fill(`[name=${name}]`, String(value));
  await page.press('#settings', 'Escape');
  await page.reload();
  await say(page, 'Hello');
  await idle(page);
  const { messages, stream, stream_options, ...sampling } = sent;
  assert.deepEqual(sampling, values);
  assert.deepEqual(messages, [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Hello' }]);
  assert.ok(await server.answer(sent), 'the server takes each of them');
  await page.click('#tune');
  await page.fill('[name=temperature]', '5');
  assert.equal(await page.getAttribute('[name=temperature]', 'aria-invalid'), 'true');
  assert.match(await page.innerText('#fields'), /not sent: 0 to 2/);
  await page.press('#settings', 'Escape');
  await say(page, 'Again');
  await idle(page);
  assert.equal('temperature' in sent, false);
  await page.click('#tune');
});

check('Enter sends, but not with Shift or while a character is composed', async (page) => {
  await page.fill('#ask', 'にほん');
  await page.evaluate(() => document.querySelector('#ask').dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true })));
  await page.press('#ask', 'Shift+Enter');
  assert.equal(await page.inputValue('#ask'), 'にほん\n');
  assert.equal(await page.locator('article').count(), 0);
  await page.route(CHAT, (route) => route.fulfill(whole('Yes.')));
  await page.press('#ask', 'Enter');
  await idle(page);
  assert.equal(await page.locator('article').count(), 2);
  assert.equal(await page.inputValue('#ask'), '');
});

check('all of it can be done with a keyboard', async (page) => {
  await page.route(CHAT, (route) => route.fulfill(whole('Yes.')));
  const focused = () => page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.trim());
  const tabTo = async (name) => {
    const seen = [];
    for (let n = 0; n < 25; n++) {
      await page.keyboard.press('Tab');
      seen.push(await focused());
      if (seen.at(-1) === name) return;
    }
    assert.fail(`no way to ${name}: ${seen}`);
  };
  await ready(page);
  assert.equal(await focused(), 'Message');
  await tabTo('Skip to the message field');
  await page.keyboard.press('Enter');
  assert.equal(await focused(), 'Message');
  await page.keyboard.type('Hello');
  await tabTo('Send');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.prose >> text=Yes.');
  for (const name of ['New conversation', 'Hello', 'Rename “Hello”', 'Delete “Hello”', 'Side bar', 'Export conversation', 'Settings', 'Copy message', 'Edit and send again', 'Copy answer',
    'Retry with another seed', 'Attach a text file', 'Message']) await tabTo(name);
  await page.focus('#tune');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.querySelector('#settings').contains(document.activeElement)), true);
  await page.keyboard.press('Escape');
  assert.equal(await focused(), 'Settings');
});

check('the log follows an answer until its reader scrolls up', { sampling: { temperature: 0 }, viewport: { width: 700, height: 300 } }, async (page) => {
  await say(page, LONG);
  const end = () => page.evaluate(() => { const { scrollHeight, scrollTop, clientHeight } = document.querySelector('#scroll'); return scrollHeight - scrollTop - clientHeight; });
  await page.waitForFunction(() => document.querySelector('#scroll').scrollTop > 30, null, { timeout: 40_000 });
  assert.ok(await end() < 40);
  await page.mouse.move(400, 120);
  await page.mouse.wheel(0, -2000);
  await page.waitForTimeout(300);
  const top = await page.evaluate(() => document.querySelector('#scroll').scrollTop);
  await page.waitForTimeout(700);
  assert.equal(await page.evaluate(() => document.querySelector('#scroll').scrollTop), top);
  await page.press('#ask', 'Escape');
  await idle(page);
  await page.evaluate(() => document.querySelector('#latest').click());
  assert.ok(await end() < 2);
});

check('it works behind a path prefix', { sampling: GREEDY }, async (page) => {
  const root = page.url();
  await page.route(`${root}a/prefix/**`, (route) => route.continue({ url: route.request().url().replace('/a/prefix/', '/') }));
  await page.goto(`${root}a/prefix/`);
  await ready(page);
  assert.equal(await page.innerText('.api code'), `${root}a/prefix/v1`);
  assert.equal(await page.locator('.api a').evaluate((link) => link.href), `${root}a/prefix/docs`);
  await say(page, 'Say hello.');
  await idle(page);
  assert.ok((await text(page)).length > 0);
});

check('an answer is announced block by block', async (page) => {
  await page.route(CHAT, (route) => route.fulfill(whole('One.\n\nTwo.\n\n```\ncode\n```')));
  await say(page, 'Hello');
  await idle(page);
  await until('all is announced', async () => (await page.locator('#announce p').count()) === 3);
  assert.deepEqual(await page.locator('#announce[aria-live=polite] p').allInnerTexts(), ['One.', 'Two.', 'Code block.']);
});
