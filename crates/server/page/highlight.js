// Which parts of a code block are comments, strings, numbers and keywords? A hint for the eye, not a grammar: one scanner for all
// languages, told apart by how they comment. Each pattern consumes to the end what is never closed, so it stays linear.

import { el } from './dom.js';

const MAX_CODE = 40_000;

const HASH = 'py python sh bash zsh shell console rb ruby yaml yml toml perl r make makefile dockerfile nix elixir julia';
const DASH = 'sql lua haskell hs ada elm';
const SLASH = 'c h cpp c++ cc cuda cu rust rs js javascript mjs jsx ts typescript tsx json jsonc java kotlin kt swift go php cs c# csharp css scss scala dart zig proto glsl wgsl';

const COMMENTS = new Map([
  ...HASH.split(' ').map((name) => [name, '(?<![^\\s])#[^\\n]*']),
  ...DASH.split(' ').map((name) => [name, '--[^\\n]*']),
  ...SLASH.split(' ').map((name) => [name, '\\/\\/[^\\n]*|\\/\\*[^]*?(?:\\*\\/|$)']),
]);

const KEYWORDS = `abstract as async await auto begin bool boolean break case catch char class const constexpr continue crate def default del delete
do double dyn elif else end enum except export extends extern false False final finally float fn for foreach from func function global goto if impl
implements import in include inline int interface is lambda let long loop local match mod module move mut namespace new nil None nonlocal not null
nullptr or and override package pass private protected pub public raise ref return self Self short signed sizeof static string struct super switch
template then this throw trait true True try type typedef typename typeof union unless unsafe unsigned until use using val var virtual void volatile
when where while with yield`.split(/\s+/);
const SQL = 'select from where insert into values update set delete create table drop alter join left right inner outer on group by order having limit as and or not null distinct union case when then else end'.split(' ');

export function highlight(code, language) {
  const name = language.toLowerCase();
  const comment = COMMENTS.get(name);
  const text = code.textContent;
  if (!comment || text.length > MAX_CODE) return;
  const single = /^(rust|rs|haskell|hs)$/.test(name) ? "'(?:[^'\\\\\\n]|\\\\.)'" : "'(?:[^'\\\\\\n]|\\\\.)*'";
  const triple = /^py/.test(name) ? '"""[^]*?(?:"""|$)|\'\'\'[^]*?(?:\'\'\'|$)|' : '';
  const words = name === 'sql' ? SQL : KEYWORDS;
  const pattern = new RegExp(
    `(${comment})|(${triple}"(?:[^"\\\\\\n]|\\\\.)*"|${single}|\`(?:[^\`\\\\]|\\\\.)*(?:\`|$))|\\b(\\d[\\w.]*)|\\b(${words.join('|')})\\b`,
    name === 'sql' ? 'gi' : 'g',
  );
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(pattern)) {
    if (found.index > at) parts.push(text.slice(at, found.index));
    parts.push(el('span', { class: found[1] ? 't-comment' : found[2] ? 't-string' : found[3] ? 't-number' : 't-word', text: found[0] }));
    at = found.index + found[0].length;
  }
  parts.push(text.slice(at));
  code.replaceChildren(...parts);
}
