// What goes with a message? Text files, a system prompt from a preset, tools, whose calls and results are shown.

import assert from 'node:assert/strict';
import { CHAT, check, idle, picture, ready, say, sse, whole } from './harness.mjs';

const file = (name, words) => ({ name, mimeType: 'application/octet-stream', buffer: Buffer.from(words) });
const sentBy = async (page, answer = whole('Yes.')) => {
  const sent = [];
  await page.route(CHAT, (route) => { sent.push(route.request().postDataJSON()); return route.fulfill(typeof answer === 'function' ? answer(sent.length) : answer); });
  return sent;
};

check('a text file goes with a message, inside a fence that it cannot end, and stays with it when it is edited', async (page) => {
  const sent = await sentBy(page);
  await page.setInputFiles('#pick', [file('notes.md', 'One\n````\nTwo\n'), file('more.txt', 'Three')]);
  await page.waitForSelector('#files li:nth-child(2)');
  await page.getByRole('button', { name: 'Remove more.txt' }).click();
  assert.equal(await page.locator('#files li').count(), 1);
  await picture(page, 'attached');
  await say(page, 'What is this?');
  await idle(page);
  const content = (words) => `File notes.md:\n\`\`\`\`\`\nOne\n\`\`\`\`\nTwo\n\`\`\`\`\`\n\n${words}`;
  assert.deepEqual(sent[0].messages, [{ role: 'user', content: content('What is this?') }]);
  assert.equal(await page.isVisible('#files'), false);
  assert.equal(await page.innerText('.said'), 'What is this?');
  await page.click('.file summary');
  assert.equal(await page.innerText('.file code'), 'One\n````\nTwo\n');
  await page.reload();
  await page.locator('article').first().hover();
  await page.getByRole('button', { name: 'Edit and send again' }).click();
  await page.fill('.edit textarea', 'And now?');
  await page.press('.edit textarea', 'Enter');
  await idle(page);
  assert.deepEqual(sent[1].messages, [{ role: 'user', content: content('And now?') }]);
});

check('what is no text file is refused by name, with what was expected', async (page) => {
  await ready(page);
  const refused = async (files) => {
    const before = await page.locator('#file-problem').textContent();
    await page.setInputFiles('#pick', files);
    await page.waitForFunction((old) => document.querySelector('#file-problem').textContent !== old, before);
    return page.innerText('#file-problem');
  };
  assert.equal(await refused([file('a.png', [0x89, 0x50, 0xff, 0xfe])]), 'a.png is no text file: expected UTF-8.');
  assert.equal(await refused([file('b.bin', 'a\0b')]), 'b.bin is no text file: it holds zero bytes.');
  assert.equal(await refused([file('c.txt', 'x'.repeat(300 * 1024))]), 'c.txt has 300 KiB; expected at most 256 KiB.');
  assert.equal(await refused([file('<img src=x>.txt', ' \n')]), '<img src=x>.txt is empty.');
  assert.equal(await refused(Array.from({ length: 9 }, (_, n) => file(`${n}.txt`, 'x'))), '8.txt: a message takes at most 8 files.');
  assert.equal(await page.locator('#files li').count(), 8);
  assert.equal(await page.locator('#empty img[src=x], #composer img').count(), 0);
});

check('files that are dropped are attached', async (page) => {
  const sent = await sentBy(page);
  await ready(page);
  await page.evaluate(() => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File(['dropped'], 'drop.txt'));
    for (const kind of ['dragover', 'drop']) document.querySelector('#log').dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
  });
  await page.waitForSelector('#files >> text=drop.txt');
  await page.click('#send'); // A file alone is a message.
  await idle(page);
  assert.equal(sent[0].messages[0].content, 'File drop.txt:\n```\ndropped\n```');
});

check('a preset fills the system prompt, and a text of one’s own becomes a preset', async (page) => {
  const sent = await sentBy(page);
  await page.click('#tune');
  await page.selectOption('#preset', { label: 'Concise' });
  const concise = await page.inputValue('#system');
  assert.ok(concise.length > 20);
  await page.press('#settings', 'Escape');
  await say(page, 'Hello');
  await idle(page);
  assert.deepEqual(sent[0].messages[0], { role: 'system', content: concise });
  await page.click('#tune');
  await page.fill('#system', 'Speak like a pirate.');
  assert.equal(await page.locator('#preset option:checked').innerText(), 'Your own text');
  await page.fill('#preset-name', '__proto__');
  await page.press('#preset-name', 'Enter');
  await page.selectOption('#preset', { label: 'None' });
  assert.equal(await page.inputValue('#system'), '');
  await page.reload();
  await page.click('#tune');
  await page.selectOption('#preset', { label: '__proto__' });
  await page.press('#settings', 'Escape');
  await say(page, 'Again');
  await idle(page);
  assert.deepEqual(sent[1].messages[0], { role: 'system', content: 'Speak like a pirate.' });
  await page.click('#tune');
  await page.click('#preset-drop');
  assert.equal(await page.locator('#preset option:checked').innerText(), 'Your own text');
  assert.equal(await page.inputValue('#system'), 'Speak like a pirate.');
});

const TOOLS = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object' } } }];
const called = sse({ choices: [{ delta: { reasoning_content: 'I ask.' } }] },
  { choices: [{ delta: { tool_calls: [{ index: 0, id: 'c1', type: 'function', function: { name: 'weather', arguments: '' } }] } }] },
  { choices: [{ delta: { tool_calls: [{ index: 0, function: { arguments: '{"city":"<b>Paris</b>",' } }] } }] },
  { choices: [{ delta: { tool_calls: [{ index: 0, function: { arguments: '"n":12345678901234567890}' } }] } }] },
  { choices: [{ delta: {}, finish_reason: 'tool_calls' }] });

check('calls and reasoning are shown, and results go back to the model', async (page) => {
  const sent = await sentBy(page, (n) => (n === 1 ? called : whole('It is sunny.')));
  await page.click('#tune');
  await page.fill('#tools', '{"type": "function"}');
  assert.match(await page.innerText('#tools-state'), /^not sent: expected a list/);
  await page.fill('#tools', '[{"type": "function"]');
  assert.match(await page.innerText('#tools-state'), /^not sent: no JSON/);
  assert.equal(await page.getAttribute('#tools', 'aria-invalid'), 'true');
  await page.fill('#tools', JSON.stringify(TOOLS));
  assert.equal(await page.innerText('#tools-state'), 'weather');
  await page.press('#settings', 'Escape');
  await say(page, 'Weather in Paris?');
  await page.waitForSelector('.results');
  assert.deepEqual(sent[0].tools, TOOLS);
  assert.equal(await page.innerText('.call .bar'), 'Call of weather');
  assert.equal(await page.innerText('.call code'), '{\n  "city": "<b>Paris</b>",\n  "n": 12345678901234567890\n}');
  await page.click('.answer summary');
  assert.equal(await page.innerText('.thought'), 'I ask.');
  await picture(page, 'a call');
  await page.getByLabel('Result of weather').fill('<i>sunny</i>');
  await page.getByRole('button', { name: 'Send results' }).click();
  await page.waitForSelector('.prose >> text=It is sunny.');
  assert.equal(await page.innerText('.tool code'), '<i>sunny</i>');
  assert.equal(await page.locator('.results').count(), 0);
  assert.deepEqual(sent[1].messages, [
    { role: 'user', content: 'Weather in Paris?' },
    { role: 'assistant', content: '', tool_calls: [{ id: 'c1', type: 'function', function: { name: 'weather', arguments: '{"city":"<b>Paris</b>","n":12345678901234567890}' } }] },
    { role: 'tool', tool_call_id: 'c1', content: '<i>sunny</i>' },
  ]);
});
