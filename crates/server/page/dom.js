// How are nodes made and figures written? Text only ever becomes text nodes: nothing here or elsewhere parses HTML.

/** An element: `on` holds listeners, `class` and `text` are short for their properties, the rest are attributes. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value == null || value === false) continue;
    if (name === 'on') for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (name === 'class') node.className = value;
    else if (name === 'text') node.textContent = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

const SVG = 'http://www.w3.org/2000/svg';

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

export const setIcon = (button, name) => button.querySelector('use').setAttribute('href', `#i-${name}`);

/** A button that is only an icon; `label` is what it is called, by pointer and by screen reader. */
export const iconButton = (name, label, click) =>
  el('button', { class: 'icon', type: 'button', 'aria-label': label, title: label, on: { click } }, icon(name));

/** A button that copies what `text()` gives, and shows for a moment that it did. */
export function copyButton(label, text, name = 'copy') {
  const button = iconButton(name, label, async () => {
    const done = await copy(text());
    setIcon(button, done ? 'done' : 'close');
    button.setAttribute('aria-label', done ? 'Copied' : 'The browser refused to copy');
    setTimeout(() => { setIcon(button, name); button.setAttribute('aria-label', label); }, 1400);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* No clipboard API: plain http to another machine is no secure context. */ }
  const area = el('textarea', { class: 'hidden', 'aria-hidden': 'true' });
  area.value = text;
  const focused = document.activeElement;
  (focused?.closest('dialog') ?? document.body).append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  focused?.focus();
  return done;
}

const grouped = new Intl.NumberFormat('en');
export const count = (n) => grouped.format(Math.round(n));
export const rate = (n) => (n >= 100 ? count(n) : n.toFixed(1));
export const milliseconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

export function bytes(n) {
  if (n < 1024) return `${n} B`;
  const power = Math.min(4, Math.floor(Math.log2(n) / 10));
  const value = n / 1024 ** power;
  return `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`;
}

export function duration(seconds) {
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const at = Math.max(0, units.findIndex(([size]) => seconds >= size));
  if (seconds < 1) return '0 s';
  const [size, name] = units[at];
  const rest = at < 2 ? Math.floor((seconds % size) / units[at + 1][0]) : 0;
  return `${Math.floor(seconds / size)} ${name}${rest ? ` ${rest} ${units[at + 1][1]}` : ''}`;
}
