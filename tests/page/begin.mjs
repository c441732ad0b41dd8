// Does an empty page say what answers, and how to begin? The model's card against what the server says, and the starters.

import assert from 'node:assert/strict';
import { CHAT, begun, check, idle, ready, server, text, until, whole } from './harness.mjs';

const rows = (page) => page.locator('.card div').evaluateAll((all) =>
  Object.fromEntries(all.map((row) => [row.querySelector('dt').textContent, row.querySelector('dd').textContent])));

check('the card has the model, its size, quantisation, context, device and speed, as the server says', { sampling: { temperature: 0, max_tokens: 12 } }, async (page) => {
  await ready(page);
  const health = await server.health();
  const [{ meta }] = (await (await fetch(`${server.url}v1/models`)).json()).data;
  assert.equal(await page.innerText('#empty h2'), health.model);
  const size = `${(meta.size / 2 ** 20).toFixed(1)} MiB, ${Math.round(meta.n_params / 1e6)} million parameters`;
  await until('the size is there', async () => (await rows(page)).Size === size, 5);
  const { Speed, ...rest } = await rows(page);
  assert.deepEqual(rest, {
    Size: size, Quantisation: health.quant_kind, Context: `${health.context_length.toLocaleString('en')} tokens`, Device: `${health.device}, ${health.kernels}`,
  });
  await page.locator('.starters button').last().click();
  await begun(page, 1);
  await idle(page);
  await page.click('#new');
  await until('the speed is measured', async () => /^[\d.,]+ tokens\/s an answer, on average$/.test((await rows(page)).Speed), 5);
  const mean = await server.metric('vllm:inter_token_latency_seconds_count') / await server.metric('vllm:inter_token_latency_seconds_sum');
  await until('it is the server’s', async () => Math.abs(parseFloat((await rows(page)).Speed.replaceAll(',', '')) / mean - 1) < 0.2, 5);
});

check('each of three starters is sent as it is', async (page) => {
  const sent = [];
  await page.route(CHAT, (route) => { sent.push(route.request().postDataJSON().messages); return route.fulfill(whole('Well.')); });
  await ready(page);
  const starters = await page.locator('.starters button').allInnerTexts();
  assert.equal(starters.length, 3);
  for (const [n, content] of starters.entries()) {
    await page.locator('.starters button').nth(n).click();
    await idle(page);
    assert.deepEqual(sent[n], [{ role: 'user', content }]);
    assert.equal(await text(page), 'Well.');
    await page.click('#new');
  }
});
