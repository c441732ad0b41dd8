// Is nothing lost when a message is edited or an answer asked for again? Each becomes a branch beside the one before.

import assert from 'node:assert/strict';
import { CHAT, begun, check, idle, lastAnswer, say, server, text, whole } from './harness.mjs';

const numbered = async (page) => {
  const sent = [];
  await page.route(CHAT, (route) => { sent.push(route.request().postDataJSON()); return route.fulfill(whole(`Answer ${sent.length}.`)); });
  return sent;
};
const log = (page) => page.locator('.said, .prose').allInnerTexts();
const versions = (page, article) => page.locator('article').nth(article).locator('.versions > span').innerText();
const turn = (page, article, name) => page.locator('article').nth(article).getByRole('button', { name }).click();
const edit = async (page, article, words) => {
  await page.locator('article').nth(article).hover();
  await turn(page, article, 'Edit and send again');
  await page.fill('.edit textarea', words);
  await page.press('.edit textarea', 'Enter');
  await idle(page);
};

check('an edited message is a branch, at any turn, and a reload keeps all of them', async (page) => {
  const sent = await numbered(page);
  for (const words of ['One', 'Two']) { await say(page, words); await idle(page); }
  await edit(page, 0, 'Uno');
  assert.deepEqual(sent[2].messages, [{ role: 'user', content: 'Uno' }]);
  assert.deepEqual(await log(page), ['Uno', 'Answer 3.']);
  assert.equal(await versions(page, 0), '2 of 2');
  await turn(page, 0, 'Earlier version');
  assert.deepEqual(await log(page), ['One', 'Answer 1.', 'Two', 'Answer 2.']);
  await edit(page, 2, 'Due');
  assert.deepEqual(sent[3].messages.map(({ content }) => content), ['One', 'Answer 1.', 'Due']);
  await page.reload();
  assert.deepEqual(await log(page), ['One', 'Answer 1.', 'Due', 'Answer 4.']);
  await turn(page, 0, 'Later version');
  await say(page, 'Tre');
  await idle(page);
  assert.deepEqual(sent[4].messages.map(({ content }) => content), ['Uno', 'Answer 3.', 'Tre']);
  await turn(page, 0, 'Earlier version');
  assert.deepEqual(await log(page), ['One', 'Answer 1.', 'Due', 'Answer 4.'], 'a branch is shown to its end');
  assert.equal(await page.locator('article').nth(0).getByRole('button', { name: 'Earlier version' }).isDisabled(), true);
});

check('arrow up edits the last message, Escape leaves it as it was', async (page) => {
  const sent = await numbered(page);
  await say(page, 'First');
  await idle(page);
  await page.press('#ask', 'ArrowUp');
  await page.fill('.edit textarea', 'Other');
  await page.press('.edit textarea', 'Escape');
  assert.deepEqual(await log(page), ['First', 'Answer 1.']);
  await page.focus('#ask');
  await page.press('#ask', 'ArrowUp');
  await page.fill('.edit textarea', 'Second');
  await page.press('.edit textarea', 'Enter');
  await idle(page);
  assert.deepEqual(sent[1].messages, [{ role: 'user', content: 'Second' }]);
  assert.deepEqual(await page.locator('#list .title').allInnerTexts(), ['Second']);
});

check('another try has another seed, beside the first answer, and the server answers it as the API does', { sampling: { temperature: 1, seed: 7, max_tokens: 16 } }, async (page) => {
  await say(page, 'Name an animal and say why.');
  await idle(page);
  const first = await text(page);
  assert.match(await lastAnswer(page).locator('.stats').innerText(), /seed 7\b/);
  const asked = page.waitForRequest(CHAT);
  await page.getByRole('button', { name: 'Retry with another seed' }).click();
  const body = (await asked).postDataJSON();
  await begun(page, 1);
  await idle(page);
  assert.ok(Number.isInteger(body.seed) && body.seed !== 7, `seed ${body.seed}`);
  assert.equal(body.temperature, 1);
  assert.equal((await text(page)).replaceAll(/\s+/g, ' ').trim(), (await server.answer(body)).replaceAll(/\s+/g, ' ').trim());
  assert.match(await lastAnswer(page).locator('.stats').innerText(), new RegExp(`seed ${body.seed}\\b`));
  assert.equal(await versions(page, 1), '2 of 2');
  await turn(page, 1, 'Earlier version');
  assert.equal(await text(page), first);
});

check('a conversation of an earlier version, a list of messages, is a branch', {
  prepare: (page) => page.addInitScript(() => {
    if (location.protocol !== 'http:' || localStorage.length) return;
    const messages = [{ role: 'user', content: 'Old' }, { role: 'assistant', content: 'Older.', reasoning: '' }];
    localStorage.setItem('worker-orcd.chat.1-2-3', JSON.stringify({ id: '1-2-3', title: 'Old', updated: 1, messages }));
  }),
}, async (page) => {
  const sent = await numbered(page);
  await page.locator('#list .title').click();
  assert.deepEqual(await log(page), ['Old', 'Older.']);
  await say(page, 'New');
  await idle(page);
  assert.deepEqual(sent[0].messages.map(({ content }) => content), ['Old', 'Older.', 'New']);
});

check('while an answer comes nothing can be changed, and a failed try leaves the answer before', { expected: /503/ }, async (page) => {
  let answer = async (route) => route.fulfill(whole('Fine.'));
  await page.route(CHAT, (route) => answer(route));
  await say(page, 'Hello');
  await idle(page);
  let refuse;
  const refused = new Promise((resolve) => { refuse = resolve; });
  answer = (route) => refused.then(() => route.fulfill({ status: 503, json: { error: { message: 'No room.' } } }));
  await page.getByRole('button', { name: 'Retry with another seed' }).click();
  await page.waitForSelector('#send.busy');
  const changing = /^(Edit and send again|Retry with another seed|Verify.*|Earlier version|Later version)$/;
  assert.equal(await page.getByRole('button', { name: changing }).count(), 0);
  refuse();
  await page.waitForSelector('.problem >> text=No room.');
  assert.equal(await page.getByRole('button', { name: changing }).count(), 4);
  await turn(page, 1, 'Earlier version');
  assert.equal(await text(page), 'Fine.');
});
