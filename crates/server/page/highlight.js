// What in a code block is comment, string, number, keyword? A hint for the eye, not a grammar: languages differ only in how they
// comment. Each pattern takes to the end what is never closed, so scanning stays linear.

import { el } from './dom.js';

const MAX_CODE = 40_000;
const C = '\\/\\/[^\\n]*|\\/\\*[^]*?(?:\\*\\/|$)';
const COMMENTS = [
  [/^(py(thon)?|(ba|z)?sh|shell|rb|ruby|ya?ml|toml|perl|r|make(file)?|dockerfile|nix|elixir|julia)$/, '(?<!\\S)#[^\\n]*'],
  [/^(sql|lua|haskell|hs)$/, '--[^\\n]*'],
  [/^(c|h|cpp|c\+\+|cuda|rust|rs|[jt]sx?|(java|type)script|json|java|kotlin|swift|go|php|cs|csharp|s?css|scala|dart|zig|wgsl)$/, C],
];
const WORDS = `as async await bool break case catch char class const continue def default delete do double elif else end enum except export extends
false False final finally float fn for from func function if impl import in include int interface is lambda let long loop match mod module mut namespace
new nil None not null nullptr or and override package private pub public raise return self Self static string struct super switch template then this
throw trait true True try type typedef unsafe unsigned use using val var virtual void where while with yield SELECT FROM WHERE INSERT INTO VALUES UPDATE
SET DELETE CREATE TABLE JOIN LEFT ON GROUP BY ORDER LIMIT AS AND OR NOT NULL`.split(/\s+/).join('|');
const KINDS = ['comment', 'string', 'number', 'word'];

export function highlight(code, language) {
  const name = language.toLowerCase();
  const comment = COMMENTS.find(([names]) => names.test(name))?.[1];
  const text = code.textContent;
  if (!comment || text.length > MAX_CODE) return;
  const quote = /^(rust|rs|haskell|hs)$/.test(name) ? "'(?:[^'\\\\]|\\\\.)'" : "'(?:[^'\\\\\\n]|\\\\.)*'"; // A lone ' is a lifetime there.
  const pattern = new RegExp(`(${comment})|("""[^]*?(?:"""|$)|"(?:[^"\\\\\\n]|\\\\.)*"|${quote}|\`[^\`]*(?:\`|$))|\\b(\\d[\\w.]*)|\\b(${WORDS})\\b`, 'g');
  code.textContent = '';
  let at = 0;
  for (const found of text.matchAll(pattern)) {
    const kind = KINDS[found.slice(1).findIndex(Boolean)];
    code.append(text.slice(at, found.index), el('span', { class: `t-${kind}`, text: found[0] }));
    at = found.index + found[0].length;
  }
  code.append(text.slice(at));
}
