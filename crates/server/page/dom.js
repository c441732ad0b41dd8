// How are nodes made and figures written? Text only ever becomes text nodes: nothing on this page parses HTML.

export const $ = (id) => document.getElementById(id);

/** An element: `on` holds listeners, `class` and `text` are properties, the rest are attributes. */
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

export function icon(name) {
  const make = (tag) => document.createElementNS('http://www.w3.org/2000/svg', tag);
  const [svg, use] = [make('svg'), make('use')];
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Another icon and name for a button. */
export function mark(button, name, label) {
  button.querySelector('use').setAttribute('href', `#i-${name}`);
  button.setAttribute('aria-label', label);
  button.title = label;
}

/** A button that is only an icon; `label` is its name, by pointer and by screen reader. */
export const iconButton = (name, label, click) =>
  el('button', { class: 'icon', type: 'button', 'aria-label': label, title: label, on: { click } }, icon(name));

/** Code that may scroll, so that a keyboard must reach it; `label` is its name. */
export const pre = (label, code) => el('pre', { tabindex: 0, role: 'region', 'aria-label': label }, code);

/** A button that copies what `text()` gives, and shows for a moment that it did. */
export function copyButton(label, text, name = 'copy') {
  const button = iconButton(name, label, async () => {
    if (await copy(text())) mark(button, 'done', 'Copied');
    else mark(button, 'close', 'The browser refused to copy');
    setTimeout(() => mark(button, name, label), 1400);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* Plain http to another machine is no secure context and has no clipboard API. */ }
  const area = el('textarea', { class: 'hidden' });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  focused?.focus();
  return done;
}

const grouped = new Intl.NumberFormat('en');
export const count = (n) => grouped.format(Math.round(n));
export const rate = (n) => (n >= 100 || n === 0 ? count(n) : n.toFixed(1));
export const milliseconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

export function bytes(n) {
  const power = n < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(n) / 10));
  const value = n / 1024 ** power;
  return `${value.toFixed(power && value < 100 ? 1 : 0)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`;
}

export function duration(s) {
  const [m, h, d] = [60, 3600, 86400].map((unit) => Math.floor(s / unit));
  return d ? `${d} d ${h % 24} h` : h ? `${h} h ${m % 60} min` : m ? `${m} min` : `${Math.floor(s)} s`;
}
