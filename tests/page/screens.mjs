// Does it look right, and does it work for whoever cannot see it? Dark and light, wide and narrow; axe-core's rules; names of controls.

import assert from 'node:assert/strict';
import { CHAT, PHONE, accessibility, check, delta, end, idle, picture, ready, say, server, sse, watch, whole } from './harness.mjs';

const ANSWER = `Mergesort splits, sorts both halves and **merges** them. It is *stable* and takes \`O(n log n)\`.

\`\`\`rust
// Sorts by splitting in two.
fn sort<T: Ord + Clone>(v: &[T]) -> Vec<T> {
    if v.len() < 2 { return v.to_vec(); }
    let (a, b) = v.split_at(v.len() / 2);
    merge(sort(a), sort(b))
}
\`\`\`

1. Split in the middle
2. Sort each half
   - the left one
   - the right one
3. Merge

| sort | worst case | stable |
|------|-----------:|:------:|
| merge | n log n | yes |
| quick | n² | no |

> A quotation, and [a link](https://en.wikipedia.org/wiki/Merge_sort).
`;
const WIDE_CONTENT = `A ${'very'.repeat(60)} long word.\n\n\`\`\`\n${'code '.repeat(60)}\n\`\`\`\n\n|${' a wide column |'.repeat(9)}\n|${'---|'.repeat(9)}\n|${' cell |'.repeat(9)}`;
const thinking = { choices: [{ index: 0, delta: { reasoning_content: 'Sorting by halves.' }, finish_reason: null }] };

for (const [name, options] of Object.entries({
  'light desktop': {},
  'dark desktop': { colorScheme: 'dark' },
  'light phone': PHONE,
  'smallest phone, dark': { ...PHONE, colorScheme: 'dark', viewport: { width: 320, height: 568 }, reducedMotion: 'reduce' },
})) {
  check(`${name}: nothing is cut off, and axe-core finds nothing`, { ...options, shot: name, expected: /503/ }, async (page) => {
    await ready(page);
    const holds = async (what) => {
      assert.deepEqual(await accessibility(page), [], what);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth
        && document.querySelector('#scroll').scrollWidth <= document.querySelector('#scroll').clientWidth), `${what} scrolls sideways`);
    };
    await holds('the empty page');
    await picture(page, `${name} empty`);
    await page.route(CHAT, (route) => route.fulfill(whole(WIDE_CONTENT)));
    await say(page, `A question of ${'long'.repeat(40)} words`);
    await idle(page);
    await holds('a wide answer');
    await picture(page, `${name} wide content`);
    await page.unroute(CHAT);
    await page.route(CHAT, (route) => route.fulfill({ status: 503, json: { error: { message: 'The server is shutting down.' } } }));
    await say(page, 'And now?');
    await page.waitForSelector('.problem:visible');
    await holds('an error');
    await picture(page, `${name} error`);
    await page.click('#tune');
    await page.waitForTimeout(50);
    await holds('the settings');
    await picture(page, `${name} settings`);
    await page.press('#settings', 'Escape');
    const [red] = (await page.evaluate(() => getComputedStyle(document.body).backgroundColor)).match(/\d+/);
    assert.equal(Number(red) < 60, options.colorScheme === 'dark');
    if (options.isMobile) {
      assert.equal(await page.locator('#side:visible').count(), 0);
      await page.tap('#side-toggle');
      await page.waitForSelector('#side:visible');
      await page.waitForTimeout(250); // The side bar glides in.
      assert.equal(await page.evaluate(() => document.querySelector('#main').inert), true);
      await holds('the side bar');
      await picture(page, `${name} side bar`);
      await page.keyboard.press('Escape');
      assert.equal(await page.evaluate(() => document.activeElement.id), 'side-toggle');
      await page.waitForTimeout(250);
      await page.click('#new-small');
    } else {
      await page.click('#new');
    }
    await page.unroute(CHAT);
    await page.route(CHAT, (route) => route.fulfill(sse(thinking, delta(ANSWER), end)));
    await say(page, 'How does mergesort work?');
    await idle(page);
    await holds('an answer');
  });
}

check('a chosen theme holds, and every control has a name', async (page) => {
  await page.click('#tune');
  await page.click('#theme label:has([value=dark])');
  await page.press('#settings', 'Escape');
  await page.reload();
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), 'rgb(20, 22, 21)');
  const nameless = await page.evaluate(() => [...document.querySelectorAll('button, input, textarea, [role=img], [role=meter]')]
    .filter((node) => !node.hidden && !(node.getAttribute('aria-label') || node.textContent.trim() || node.labels?.length)).map((node) => node.outerHTML));
  assert.deepEqual(nameless, []);
});

check('what is watched for on every visit would be seen', { expected: /./ }, async (page) => {
  const seen = watch(page, new URL(server.url).origin, /$^/);
  await page.evaluate(() => {
    console.error('said');
    document.body.append(Object.assign(document.createElement('img'), { src: 'https://example.invalid/x.png' }));
    document.body.append(Object.assign(document.createElement('script'), { textContent: 'globalThis.ran = true' }));
    document.body.setAttribute('onclick', 'globalThis.ran = true');
    document.body.click();
  });
  await page.waitForTimeout(200);
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
  assert.ok(seen.includes('request: https://example.invalid/x.png'), 'a request elsewhere');
  const policy = seen.filter((line) => /Content Security Policy/.test(line));
  assert.ok(policy.length >= 3 && seen.some((line) => line.includes('said')), seen.join('\n'));
});
