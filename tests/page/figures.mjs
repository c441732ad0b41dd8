// Are the figures of the side bar the server's? They move while it answers, and are what /health and /metrics say.

import assert from 'node:assert/strict';
import { LONG, begun, check, ready, say, server, until } from './harness.mjs';

const shown = (page, id) => page.locator(`#${id}`).innerText();

check('speed, load and cache move while an answer comes', { sampling: { temperature: 0 }, shot: 'answering' }, async (page) => {
  await ready(page);
  const samples = []; // Of the counter, when the page read it.
  page.on('response', async (response) => {
    if (!response.url().endsWith('/metrics')) return;
    samples.push({ at: performance.now(), tokens: Number(/^worker_tokens_generated_total(?:\{.*\})? (\S+)$/m.exec(await response.text())[1]) });
  });
  assert.equal(await shown(page, 'load'), '0 running');
  await say(page, LONG);
  await begun(page);
  await until('it says that a request runs', async () => (await shown(page, 'load')) === '1 running', 5);
  await until('it has read the counter twice more', async () => samples.length >= 3, 10);
  const [before, after] = samples.slice(-2);
  const measured = ((after.tokens - before.tokens) * 1000) / (after.at - before.at);
  await until('it says the speed', async () => Math.abs(Number(await shown(page, 'rate')) / measured - 1) < 0.25, 2);
  assert.match(await shown(page, 'kv-text'), /^([1-9]\d?|<1)%$/);
  assert.ok(Number(await page.getAttribute('#kv', 'aria-valuenow')) <= 100 * (await server.health()).kv_cache_usage + 1);
  assert.equal(await server.metric('vllm:num_requests_running'), 1);
  await page.press('#ask', 'Escape');
  await until('it says that nothing runs', async () => (await shown(page, 'load')) === '0 running', 5);
  assert.match(await page.getAttribute('#spark path', 'd'), /v-31\.5h/); // The fastest bar is as high as the chart.
});

check('memory, device, model and time are what /health says', async (page) => {
  await ready(page);
  const health = await server.health();
  const { weights, kv_cache, state, activations } = health.memory_bytes;
  const text = (size) => size < 2 ** 30 ? [size / 2 ** 20, 'MiB'] : [size / 2 ** 30, 'GiB'];
  await until('memory is shown', async () => /\d/.test(await shown(page, 'memory')), 5);
  const [, model, unit, rest, restUnit] = /^([\d.]+) (MiB|GiB) model \+ ([\d.]+) (MiB|GiB)$/.exec(await shown(page, 'memory'));
  for (const [value, its, size] of [[model, unit, weights], [rest, restUnit, kv_cache + state + activations]]) {
    const [expected, expectedUnit] = text(size);
    assert.equal(its, expectedUnit);
    assert.ok(Math.abs(Number(value) / expected - 1) < 0.01, `${value} ${its} is not ${size} bytes`);
  }
  const plan = health.memory_plan;
  assert.match(await page.getAttribute('#memory', 'title'), new RegExp(`for ${plan.kv_cache_positions.toLocaleString('en')} positions \\(${plan.sequences} sequences of up to ${plan.context_length.toLocaleString('en')}\\)`));
  assert.equal(health.vram_bytes_used, 0);
  assert.equal(await shown(page, 'device'), health.device);
  assert.equal(await shown(page, 'model'), health.model);
  assert.equal(await page.innerText('#empty h2'), health.model);
  assert.match(await shown(page, 'uptime'), /^\d+ (s|min)/);
  assert.equal(await page.title(), 'smollm2 · worker-orcd');
});

check('a hidden page asks for nothing', async (page) => {
  await ready(page);
  let n = 0;
  page.on('request', () => n++);
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { value: true, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await page.waitForTimeout(100);
  n = 0;
  await page.waitForTimeout(2500);
  assert.equal(n, 0);
  await page.evaluate(() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); });
  await until('it asks again', () => n > 0, 5);
});
