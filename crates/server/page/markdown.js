// How does a model's Markdown become nodes? A linear scanner for the part of CommonMark and GitHub's tables that models write.
// What it makes is built node by node from text, so HTML in an answer stays text; links go to http(s) alone; pictures are links.
// While an answer grows only the blocks that changed are made anew, so a reader's selection in finished ones stays.

import { copyButton, el, pre } from './dom.js';
import { highlight } from './highlight.js';

const MAX_DEPTH = 8;
const MAX_INLINE = 50_000;
const MAX_COLUMNS = 32;

const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*))?$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const QUOTE = /^ {0,3}>/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+|$)/;

const indent = (line) => line.length - line.trimStart().length;
const startsBlock = (line) => FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || RULE.test(line) || ITEM.test(line);

/** Lines, with tabs that indent made spaces; those inside code stay what they are. */
function split(text) {
  let fence = null;
  return text.replaceAll('\r\n', '\n').split('\n').map((line) => {
    const mark = /^\s*(`{3,}|~{3,})/.exec(line)?.[1];
    if (fence) {
      if (mark?.startsWith(fence)) fence = null;
      return line;
    }
    fence = mark ?? null;
    return line.replace(/^[ \t]+/, (margin) => margin.replaceAll('\t', '    '));
  });
}

/** Lines to blocks {kind, from, to, ...}: `from..to` are the lines it was made of. */
function parse(lines, depth) {
  const blocks = [];
  let at = 0;
  const push = (kind, to, rest) => { blocks.push({ kind, from: at, to, ...rest }); at = to; };
  while (at < lines.length) {
    const line = lines[at];
    if (!line.trim()) { at++; continue; }
    let found;
    if ((found = FENCE.exec(line))) code(found);
    else if ((found = HEADING.exec(line))) push('heading', at + 1, { level: found[1].length, text: (found[2] ?? '').trim() });
    else if (RULE.test(line)) push('rule', at + 1);
    else if (depth < MAX_DEPTH && QUOTE.test(line)) quote();
    else if (depth < MAX_DEPTH && (found = ITEM.exec(line))) list(found);
    else if (isTable(lines, at)) table();
    else paragraph();
  }
  return blocks;

  function code([, margin, fence, info]) {
    const language = info.trim().split(/\s/, 1)[0].slice(0, 40);
    let end = at + 1;
    const close = (text) => text.trim().length >= fence.length && indent(text) < 4 + margin.length && [...text.trim()].every((c) => c === fence[0]);
    while (end < lines.length && !close(lines[end])) end++;
    const text = lines.slice(at + 1, end).map((text) => text.slice(Math.min(indent(text), margin.length))).join('\n');
    push('code', Math.min(end + 1, lines.length), { language, text, open: end === lines.length });
  }

  function quote() {
    let end = at;
    while (end < lines.length && QUOTE.test(lines[end])) end++;
    push('quote', end, { blocks: parse(lines.slice(at, end).map((text) => text.replace(/^ {0,3}> ?/, '')), depth + 1) });
  }

  // More lenient than CommonMark: two spaces are enough to belong to an item, whatever its marker's width, as models write them.
  function list([, margin, marker]) {
    const ordered = marker.length > 1;
    const base = margin.length;
    const items = [];
    let end = at;
    while (end < lines.length) {
      const item = ITEM.exec(lines[end]);
      if (!item || item[1].length > base + 1 || item[2].length > 1 !== ordered || RULE.test(lines[end])) break;
      const width = item[0].length;
      const inner = [lines[end].slice(width)];
      for (end++; end < lines.length; end++) {
        const text = lines[end];
        const blank = !text.trim();
        if (!blank && indent(text) < base + 2 && (startsBlock(text) || !inner.at(-1).trim())) break;
        inner.push(text.slice(Math.min(indent(text), Math.max(width, base + 2))));
      }
      items.push(parse(inner, depth + 1));
    }
    push('list', end, { ordered, start: ordered ? parseInt(marker, 10) : 1, items });
  }

  function table() {
    const align = cells(lines[at + 1]).map((cell) => (cell.endsWith(':') ? (cell.startsWith(':') ? 'center' : 'right') : ''));
    let end = at + 2;
    while (end < lines.length && lines[end].includes('|') && lines[end].trim()) end++;
    const rows = [at, ...Array.from({ length: end - at - 2 }, (_, n) => at + 2 + n)].map((n) => cells(lines[n]));
    push('table', end, { rows, align });
  }

  function paragraph() {
    let end = at + 1;
    while (end < lines.length && lines[end].trim() && !startsBlock(lines[end]) && !isTable(lines, end)) end++;
    push('paragraph', end, { text: lines.slice(at, end).map((text) => text.trim()).join('\n') });
  }
}

const cells = (line) => line.trim().replace(/^\||\|$/g, '').replaceAll('\\|', '\u0001').split('|').map((cell) => cell.trim().replaceAll('\u0001', '|'));

function isTable(lines, at) {
  if (!lines[at].includes('|') || !lines[at + 1]?.includes('-')) return false;
  const rule = cells(lines[at + 1]);
  return rule.length <= MAX_COLUMNS && rule.every((cell) => /^:?-+:?$/.test(cell)) && cells(lines[at]).length === rule.length;
}

function node(block, open) {
  switch (block.kind) {
    case 'heading': return inlineInto(el(`h${Math.min(6, block.level + 2)}`), block.text, open);
    case 'rule': return el('hr');
    case 'code': return codeNode(block);
    case 'quote': return el('blockquote', {}, ...block.blocks.map((inner) => node(inner, open)));
    case 'list': return el(block.ordered ? 'ol' : 'ul', { start: block.start !== 1 && block.start },
      ...block.items.map((inner) => el('li', {}, ...inner.map((each) => node(each, open)))));
    case 'table': return tableNode(block);
    default: return inlineInto(el('p'), block.text, open);
  }
}

function codeNode({ language, text, open }) {
  const code = el('code', { text });
  if (!open) highlight(code, language);
  return el('div', { class: 'code' },
    el('div', { class: 'bar' }, el('span', { text: language || 'text' }), copyButton('Copy code', () => code.textContent)),
    pre(`Code${language ? `, ${language}` : ''}`, code));
}

function tableNode({ rows: [head, ...body], align }) {
  const cell = (tag, text, n) => inlineInto(el(tag, { class: align[n], scope: tag === 'th' ? 'col' : null }), text ?? '', false);
  const row = (tag, texts) => el('tr', {}, ...align.map((_, n) => cell(tag, texts[n], n)));
  return el('div', { class: 'table', tabindex: 0, role: 'region', 'aria-label': 'Table' },
    el('table', {}, el('thead', {}, row('th', head)), el('tbody', {}, ...body.map((texts) => row('td', texts)))));
}

const LINK = /!?\[((?:[^[\]\\\n]|\\.){0,400})\]\(\s*<?(https?:\/\/(?:[^\s<>()]|\([^\s<>()]{0,400}\)){1,2000})>?(?:\s+"[^"\n]{0,200}")?\s*\)/y;
const BARE = /https?:\/\/[^\s<>"`]{1,2000}/y;
const PLAIN = /[^\\`*_~[!h<\n]+/y;
const WORD = /[\p{L}\p{N}]/u;

const inlineInto = (parent, text, open) => {
  if (text.length > MAX_INLINE) parent.append(text);
  else inline(parent, text, open, 0);
  return parent;
};

/** Appends inline Markdown to `parent`. `open`: the text still grows, so a mark without its partner reaches to the end. */
function inline(parent, text, open, depth) {
  let plain = '';
  let at = 0;
  const missing = new Set(); // Marks with no partner from here on: looked for once, which keeps hostile text linear.
  const put = (made, to) => {
    if (plain) parent.append(plain);
    plain = '';
    parent.append(made);
    at = to;
  };
  const match = (pattern) => { pattern.lastIndex = at; return pattern.exec(text); };
  while (at < text.length) {
    const c = text[at];
    let found;
    if ((found = match(PLAIN))) { plain += found[0]; at += found[0].length; continue; }
    if (c === '\n') { put(el('br'), at + 1); continue; }
    if (c === '\\' && escape()) continue;
    if (c === '`' && span()) continue;
    if ((c === '*' || c === '_' || c === '~') && emphasis(c)) continue;
    if ((c === '[' || c === '!') && (found = match(LINK))) {
      const made = link(found[2]);
      if (found[1] && depth < MAX_DEPTH) inline(made, found[1], false, MAX_DEPTH);
      else made.append(found[1] || found[2]);
      put(made, at + found[0].length);
      continue;
    }
    if (c === 'h' && !WORD.test(text[at - 1] ?? ' ') && (found = match(BARE)) && depth < MAX_DEPTH) {
      let url = found[0].replace(/[.,;:!?*_~'\]]+$/, '');
      if (url.endsWith(')') && !url.includes('(')) url = url.slice(0, -1);
      const made = link(url);
      made.append(url);
      put(made, at + url.length);
      continue;
    }
    plain += c;
    at++;
  }
  if (plain) parent.append(plain);

  function escape() {
    const next = text[at + 1] ?? '';
    const close = { '(': '\\)', '[': '\\]' }[next];
    if (close) { // TeX: shown as it is, its stars and underscores no emphasis.
      const end = missing.has(close) ? -1 : text.indexOf(close, at + 2);
      if (end < 0) { missing.add(close); return false; }
      put(el('span', { class: 'math', text: text.slice(at + 2, end).trim() }), end + 2);
      return true;
    }
    if (!/[!-/:-@[-`{-~]/.test(next)) return false;
    plain += next;
    at += 2;
    return true;
  }

  function span() {
    let n = 1;
    while (text[at + n] === '`') n++;
    const end = codeEnd(at, n);
    if (end < 0 && !(open && n === 1)) { plain += text.slice(at, at + n); at += n; return true; }
    const inside = text.slice(at + n, end < 0 ? text.length : end);
    put(el('code', { text: inside.startsWith(' ') && inside.endsWith(' ') && inside.trim() ? inside.slice(1, -1) : inside }), end < 0 ? text.length : end + n);
    return true;
  }

  function codeEnd(from, n) {
    const mark = '`'.repeat(n);
    if (missing.has(mark)) return -1;
    for (let end = text.indexOf(mark, from + n); end >= 0; end = text.indexOf(mark, end)) {
      let run = n;
      while (text[end + run] === '`') run++;
      if (run === n) return end;
      end += run;
    }
    missing.add(mark);
    return -1;
  }

  function emphasis(c) {
    let n = 1;
    while (text[at + n] === c) n++;
    const run = n;
    n = c === '~' ? 2 : Math.min(n, 3);
    const before = text[at - 1] ?? ' ';
    const after = text[at + run] ?? ' ';
    const end = run < n || run > 3 || depth >= MAX_DEPTH || /\s/.test(after) || (c === '_' && WORD.test(before)) ? -1 : partner(c, n);
    if (end < 0) { plain += text.slice(at, at + run); at += run; return true; }
    const outer = el(c === '~' ? 's' : n === 1 ? 'em' : 'strong');
    const inner = n === 3 ? outer.appendChild(el('em')) : outer;
    inline(inner, text.slice(at + n, end), open && end === text.length, depth + 1);
    put(outer, Math.min(end + n, text.length));
    return true;
  }

  function partner(c, n) {
    const mark = c.repeat(n);
    if (missing.has(mark)) return -1;
    for (let k = at + n; k < text.length; k++) {
      if (text[k] === '\\') { k++; continue; }
      if (text[k] === '`') {
        let run = 1;
        while (text[k + run] === '`') run++;
        const end = codeEnd(k, run);
        k = (end < 0 ? k : end) + run - 1;
        continue;
      }
      if (text[k] !== c) continue;
      let run = 1;
      while (text[k + run] === c) run++;
      const closes = !/\s/.test(text[k - 1]) && !(c === '_' && WORD.test(text[k + run] ?? ' '));
      if (closes && (run === n || run === 3)) return k + run - n;
      k += run - 1;
    }
    if (open && mark === '**') return text.length;
    missing.add(mark);
    return -1;
  }
}

function link(url) {
  const made = el('a', { target: '_blank', rel: 'noopener noreferrer nofollow', title: url });
  if (URL.canParse(url)) made.href = url; // LINK and BARE let only http(s) through.
  return made;
}

/** Keeps the nodes of one answer in step with its text. */
export class Markdown {
  #shown = []; // {raw, block, open, node} for each block on the page.

  constructor(root) {
    this.root = root;
  }

  /** The nodes that will not change any more while the text grows. */
  get finished() {
    return this.#shown.slice(0, -1).map((shown) => shown.node);
  }

  get nodes() {
    return this.#shown.map((shown) => shown.node);
  }

  update(text, growing) {
    const lines = split(text);
    const blocks = parse(lines, 0);
    blocks.forEach((block, n) => {
      const raw = lines.slice(block.from, block.to).join('\n');
      const open = growing && n === blocks.length - 1;
      const old = this.#shown[n];
      if (old?.raw === raw && old.open === open) return;
      if (old && grow(old, block)) { Object.assign(old, { raw, block, open }); return; }
      const made = node(block, open);
      if (old) old.node.replaceWith(made);
      else this.root.append(made);
      this.#shown[n] = { raw, block, open, node: made };
    });
    for (const extra of this.#shown.splice(blocks.length)) extra.node.remove();
  }
}

/** A code block that only got longer: its node stays, and its text is appended to. */
function grow({ block: old, node: shown }, block) {
  if (old.kind !== 'code' || block.kind !== 'code' || !old.open || old.language !== block.language) return false;
  const code = shown.querySelector('code');
  if (block.text.startsWith(old.text)) code.append(block.text.slice(old.text.length));
  else code.textContent = block.text;
  if (!block.open) {
    code.normalize();
    highlight(code, block.language);
  }
  return true;
}
