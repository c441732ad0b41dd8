// What becomes of a model's text on the page? Markdown becomes what it means, whole or in pieces, and nothing that a model writes acts.

import assert from 'node:assert/strict';
import { CHAT, check, delta, end, idle, lastAnswer, say, sse, text } from './harness.mjs';

check('HTML, scripts and links in an answer are inert text', async (page) => {
  const hostile = [
    '<script>alert(1)</script> <img src=x onerror=alert(1)> <iframe src="//example.com"></iframe> <style>body{display:none}</style>',
    '[one](javascript:alert(1)) [two](data:text/html,x) [three](https://example.com/a_(b)) ![four](https://example.com/p.png) <https://example.com/five>',
    '| a | b |\n|---|---|\n| <b>x</b> | `<i>` |',
    '```html"onload=alert(1)\n</code></pre><script>alert(1)</script>\n```',
    '&lt;b&gt; &amp; **<u>bold</u>**',
  ].join('\n\n');
  await page.route(CHAT, (route) => route.fulfill(sse({ choices: [{ delta: { reasoning_content: '<img src=x onerror=alert(1)>' } }] }, delta(hostile),
    { choices: [{ delta: { tool_calls: [{ index: 0, id: '"><img src=x>', function: { name: '<img src=x onerror=alert(1)>', arguments: '"<img src=x onerror=alert(1)>"' } }] } }] }, end)));
  await say(page, '<img src=x onerror=alert(1)>');
  await idle(page);
  await page.waitForTimeout(200);
  assert.equal(await page.locator(['script', 'img', 'iframe', 'style', 'b', 'i', 'u'].map((tag) => `#log ${tag}`).join()).count(), 0);
  assert.deepEqual(await page.locator('.prose a').evaluateAll((links) => links.map((link) => link.href)),
    ['https://example.com/a_(b)', 'https://example.com/p.png', 'https://example.com/five']);
  assert.match(await text(page), /<script>alert\(1\)<\/script> <img src=x/);
  assert.match(await text(page), /\[one\]\(javascript:alert\(1\)\)/);
  assert.equal(await page.locator('details[open]').count(), 0);
  assert.equal(await page.innerText('.call .bar'), 'Call of <img src=x onerror=alert(1)>');
  assert.equal(await page.innerText('.call code'), '"<img src=x onerror=alert(1)>"');
});

check('Markdown becomes what it means, whole or in pieces', async (page) => {
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
});
