// What becomes of conversations? They are renamed, found, exported; and when the browser's storage is full the page says so and loses nothing.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { CHAT, check, delta, end, idle, say, sse, text, whole } from './harness.mjs';

const titles = (page) => page.locator('#list .title').allInnerTexts();
const talk = async (page, ...words) => {
  for (const each of words) { await say(page, each); await idle(page); }
};

check('a conversation is renamed, by pointer or keyboard, and keeps its name', async (page) => {
  await page.route(CHAT, (route) => route.fulfill(whole('Yes.')));
  await talk(page, 'Hello');
  await page.locator('#list .item').hover();
  await page.getByRole('button', { name: 'Rename “Hello”' }).click();
  await page.fill('#list input', '<b>Greeting</b>');
  await page.press('#list input', 'Enter');
  assert.deepEqual(await titles(page), ['<b>Greeting</b>']);
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Rename “<b>Greeting</b>”');
  await page.keyboard.press('Enter');
  await page.fill('#list input', 'Not this');
  await page.press('#list input', 'Escape');
  await page.locator('article').first().hover();
  await page.getByRole('button', { name: 'Edit and send again' }).click();
  await page.fill('.edit textarea', 'Hi');
  await page.press('.edit textarea', 'Enter');
  await idle(page);
  await page.reload();
  assert.deepEqual(await titles(page), ['<b>Greeting</b>']);
  const other = await page.context().newPage();
  await other.goto(page.url());
  await other.locator('#list .item').hover();
  await other.getByRole('button', { name: /^Rename/ }).click();
  await other.fill('#list input', 'In another tab');
  await other.press('#list input', 'Enter');
  await page.waitForSelector('#list >> text=In another tab');
  await talk(page, 'More');
  assert.deepEqual(await titles(page), ['In another tab'], 'what another tab wrote is kept');
});

check('search finds words in titles and messages of any branch', async (page) => {
  await page.route(CHAT, (route) => route.fulfill(whole(route.request().postDataJSON().messages.at(-1).content === 'Cats' ? 'They purr.' : 'They bark.')));
  await talk(page, 'Cats');
  await page.click('#new');
  await talk(page, 'Dogs');
  await page.click('#new');
  for (const [words, found] of [['PURR', ['Cats']], ['dogs', ['Dogs']], ['they', ['Dogs', 'Cats']], ['birds', []]]) {
    await page.fill('#search', words);
    assert.deepEqual(await titles(page), found, words);
  }
  assert.match(await page.innerText('#list'), /No conversation has “birds”\./);
  assert.equal(await page.locator('#found').textContent(), '0 of 2 conversations');
  await page.press('#search', 'Escape');
  assert.deepEqual(await titles(page), ['Dogs', 'Cats']);
});

check('a conversation is exported as Markdown, as it is shown, and as JSON with every branch', async (page) => {
  let n = 0;
  await page.route(CHAT, (route) => route.fulfill(sse({ choices: [{ delta: { reasoning_content: 'Hm.\nSo:' } }] }, delta(`Answer **${++n}**.`), end)));
  await talk(page, 'Why: a/b?');
  await page.getByRole('button', { name: 'Retry with another seed' }).click();
  await page.waitForSelector('text=2 of 2');
  await idle(page);
  const exported = async (name) => {
    await page.click('#export');
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name }).click()]);
    return { name: file.suggestedFilename(), text: await readFile(await file.path(), 'utf8') };
  };
  const markdown = await exported('Markdown');
  assert.equal(markdown.name, 'why-a-b.md');
  assert.equal(markdown.text, '# Why: a/b?\n\n## You\n\nWhy: a/b?\n\n## smollm2\n\n> **Reasoning**\n>\n> Hm.\n> So:\n\nAnswer **2**.\n');
  const json = await exported('JSON');
  assert.equal(json.name, 'why-a-b.json');
  const { format, version, title, shown, messages } = JSON.parse(json.text);
  assert.deepEqual([format, version, title, shown], ['worker-orcd conversation', 1, 'Why: a/b?', 2]);
  assert.deepEqual(messages.map(({ role, parent, content }) => [role, parent, content]), [['user', -1, 'Why: a/b?'], ['assistant', 0, 'Answer **1**.'], ['assistant', 0, 'Answer **2**.']]);
});

check('a full storage is said, nothing is lost until the page is closed, and room that is made is used', async (page) => {
  await page.route(CHAT, (route) => route.fulfill(whole('x'.repeat(30_000))));
  await talk(page, 'Small');
  await page.evaluate(() => {
    const fill = (size) => { try { for (let n = 0; ; n++) localStorage.setItem(`filler.${size}.${n}`, 'f'.repeat(size)); } catch { /* Full. */ } };
    for (const size of [500_000, 50_000, 5_000, 100]) fill(size);
  });
  assert.equal(await page.isVisible('#note'), false);
  await page.click('#new');
  await talk(page, 'No room');
  assert.match(await page.innerText('#note'), /storage is full or blocked\. What is new lasts until the page is closed\. Export it, or delete/);
  await page.locator('#list .title >> text=Small').click();
  await page.locator('#list .title >> text=No room').click();
  assert.equal((await text(page)).length, 30_000);
  await page.evaluate(() => Object.keys(localStorage).filter((name) => name.startsWith('filler')).forEach((name) => localStorage.removeItem(name)));
  await page.locator('#list .item').filter({ hasText: 'Small' }).hover();
  await page.getByRole('button', { name: 'Delete “Small”' }).click();
  await page.click('#confirm .danger');
  await page.waitForSelector('#note', { state: 'hidden' });
  await page.reload();
  assert.deepEqual(await titles(page), ['No room']);
  assert.equal((await text(page)).length, 30_000);
});
