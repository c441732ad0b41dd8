// Is "Verified" true? One click has the real server compute an answer again; what is not the same is said, and the receipt can be kept.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { CHAT, check, delta, idle, lastAnswer, picture, say, sse, text } from './harness.mjs';

const VERIFY = 'Verify: compute it again and compare';
const SAMPLING = { temperature: 1, max_tokens: 12 };
const badge = (page) => lastAnswer(page).locator('.badge:is(.same, .other)');

for (const withReceipt of [false, true]) {
  check(`an answer ${withReceipt ? 'with a receipt' : 'of a drawn seed'} is verified by one click, and its receipt kept`, { sampling: SAMPLING }, async (page) => {
    if (withReceipt) {
      await page.click('#tune');
      await page.check('#receipt');
      await page.press('#settings', 'Escape');
    }
    await say(page, 'Tell me a joke.');
    await idle(page);
    const asked = page.waitForRequest(CHAT);
    await page.getByRole('button', { name: VERIFY }).click();
    await badge(page).waitFor();
    assert.equal((await asked).postDataJSON().receipt, true);
    assert.equal(await badge(page).innerText(), 'Verified');
    await picture(page, 'verified');
    await page.reload();
    await badge(page).click();
    const [file] = await Promise.all([page.waitForEvent('download'), page.click('#proof-keep')]);
    const receipt = JSON.parse(await readFile(await file.path(), 'utf8'));
    const n = receipt.answer.length;
    assert.ok(n > 0 && n <= 12);
    assert.match(await page.innerText('#proof-text'), new RegExp(`with the same seed: ${n} tokens?, the same ${withReceipt ? 'tokens' : 'text'}\\.$`));
    assert.match(await lastAnswer(page).locator('.stats').innerText(), new RegExp(`seed ${receipt.parameters.seed}\\b`));
    await picture(page, 'proof');
  });
}

check('an answer that the server would not give is not verified', { sampling: SAMPLING }, async (page) => {
  await page.route(CHAT, (route) => route.fulfill(sse(delta('Colourless green ideas.'), { choices: [{ delta: {}, finish_reason: 'length', seed: 7 }] })), { times: 1 });
  await say(page, 'Tell me a joke.');
  await idle(page);
  assert.equal(await text(page), 'Colourless green ideas.');
  await page.getByRole('button', { name: VERIFY }).click();
  await badge(page).waitFor();
  assert.equal(await badge(page).innerText(), 'Not the same');
  await badge(page).click();
  assert.match(await page.innerText('#proof-text'), /^The text differs from character \d+ on\.$/);
});

check('a receipt of other tokens, or of another model, is not verified although the text is the same', { sampling: SAMPLING }, async (page) => {
  await page.click('#tune');
  await page.check('#receipt');
  await page.press('#settings', 'Escape');
  await say(page, 'Tell me a joke.');
  await idle(page);
  await page.evaluate(() => {
    const name = Object.keys(localStorage).find((key) => key.includes('.chat.'));
    const conversation = JSON.parse(localStorage[name]);
    const { receipt } = conversation.messages.at(-1);
    receipt.answer[0]++;
    receipt.model[0] = '0'.repeat(64);
    localStorage[name] = JSON.stringify(conversation);
  });
  await page.reload();
  await page.getByRole('button', { name: VERIFY }).click();
  await badge(page).click();
  assert.equal(await page.innerText('#proof-text'), "Not the same as in its receipt: the model's file, the tokens.");
});

check('an answer that was stopped or broke off cannot be verified', async (page) => {
  await page.route(CHAT, (route) => route.fulfill(sse(delta('Half'))));
  await say(page, 'Hello');
  await page.waitForSelector('.problem:visible');
  assert.equal(await page.getByRole('button', { name: VERIFY }).count(), 0);
});
