// Is the API's reference the document? Every route and schema of it is there, its examples work, and it looks right at any width.

import assert from 'node:assert/strict';
import { PHONE, WIDE, accessibility, check, picture, server } from './harness.mjs';

const at = (page, hash = '') => page.goto(`${server.url}docs${hash}`).then(() => page.waitForSelector('.route'));

check('every route, field and schema of the document is there', async (page) => {
  const document = await (await fetch(`${server.url}openapi.json`)).json();
  await at(page);
  const routes = Object.entries(document.paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`));
  const shown = await page.locator('.route > summary:has(.method)').evaluateAll((all) =>
    all.map((each) => `${each.querySelector('.method').textContent} ${each.querySelector('code').textContent}`));
  assert.deepEqual(shown.sort(), routes.sort());
  const schemas = await page.locator('[id^=schema-]').evaluateAll((all) => all.map((each) => each.id.slice(7)));
  assert.deepEqual(schemas, Object.keys(document.components.schemas));
  for (const [name, schema] of Object.entries(document.components.schemas)) {
    const fields = await page.locator(`#schema-${name} > dl > div > dt > code`).allTextContents();
    assert.deepEqual(fields.sort(), Object.keys(schema.properties ?? {}).sort(), name);
  }
  const dead = await page.locator('a[href^="#"]').evaluateAll((links) => links.map((link) => link.getAttribute('href')).filter((href) => !document.querySelector(href)));
  assert.deepEqual(dead, []);
  const { description } = document.components.schemas.Sampling.properties.seed;
  assert.ok((await page.locator('#schema-Sampling').textContent()).includes(description));
  assert.match(await page.innerText('#about'), new RegExp(`^Version ${document.info.version.replaceAll('.', '\\.')}\\.`));
});

check('a link opens what it names, and words filter', async (page) => {
  await at(page, '#post-v1-chat-completions');
  assert.equal(await page.locator('.route[open]').count(), 1);
  await page.locator('#post-v1-chat-completions >> text=ChatRequest').click();
  await page.waitForSelector('#schema-ChatRequest[open]');
  assert.equal(await page.evaluate(() => document.activeElement.parentElement.id), 'schema-ChatRequest');
  await page.fill('#filter', '/detokenize');
  assert.deepEqual(await page.locator('.route:visible').evaluateAll((all) => all.map(({ id }) => id)), ['post-detokenize']);
});

check('every example is a request that the server takes', async (page) => {
  await at(page);
  const examples = await page.locator('.route .code code').allTextContents();
  assert.ok(examples.length > 15);
  for (const example of examples) {
    const [, url] = /'(http[^']+)'/.exec(example);
    const data = /-d '([^]*)'$/.exec(example)?.[1];
    const method = /-X (\w+)/.exec(example)?.[1] ?? 'GET';
    // The model has no classifier and no tokens for gaps.
    if (/\/(shutdown|rerank|reranking|infill)$/.test(url)) continue;
    const short = { [url.endsWith('responses') ? 'max_output_tokens' : 'max_tokens']: 1 };
    const body = data && { ...JSON.parse(data), ...(/completion|responses$|messages$|execute/.test(url) && short) };
    const headers = data ? { 'Content-Type': 'application/json' } : {};
    const response = await fetch(url.replace('{model}', 'smollm2'), { method, headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    assert.ok(response.ok || (response.status === 404 && url.includes('{id}')), `${example}: ${response.status} ${text}`);
  }
});

check('the reference is readable in light and dark and at any width, and axe-core finds nothing', async (page) => {
  await at(page, '#post-v1-chat-completions');
  await picture(page, 'docs light');
  for (const viewport of [PHONE.viewport, { width: 320, height: 568 }, WIDE]) {
    await page.setViewportSize(viewport);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `scrolls sideways at ${viewport.width}`);
    if (viewport === PHONE.viewport) await picture(page, 'docs phone');
  }
  // The others are made alike, and axe-core would take long for all.
  await page.evaluate(() => [...document.querySelectorAll('.route:not([open])')].slice(3).forEach((each) => each.remove()));
  assert.deepEqual(await accessibility(page), []);
  await page.emulateMedia({ colorScheme: 'dark' });
  assert.deepEqual(await accessibility(page, ['color-contrast']), []);
  await picture(page, 'docs dark');
});
