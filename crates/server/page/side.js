// Which conversations are there? The list in the side bar: found by their words, opened, renamed, deleted.

import { $, el, iconButton } from './dom.js';
import { text } from './request.js';
import * as store from './store.js';

export class List {
  #renaming = null; // The id of the conversation whose title is being written.

  /** `actions`: open(each), discard(each), rename(each, title), isCurrent(id), isRunning(id). */
  constructor(actions) {
    this.actions = actions;
    $('search').addEventListener('input', () => this.show());
    $('search').addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !$('search').value) return;
      event.stopPropagation();
      $('search').value = '';
      this.show();
    });
  }

  show() {
    if (this.#renaming && $('list').contains(document.activeElement)) return; // What is being written stays.
    const all = store.conversations();
    const words = $('search').value.trim().toLowerCase();
    const found = words ? all.filter((each) => has(each, words)) : all;
    const none = all.length ? `No conversation has “${$('search').value.trim()}”.` : 'Conversations stay in this browser.';
    $('search').hidden = all.length < 2 && !words;
    $('list').replaceChildren(...(found.length ? found.map((each) => this.#item(each)) : [el('p', { text: none })]));
    $('found').textContent = words ? `${found.length} of ${all.length} conversations` : '';
  }

  #item(each) {
    const { open, discard, isCurrent, isRunning } = this.actions;
    const current = isCurrent(each.id);
    const title = el('button',
      { type: 'button', class: 'title', text: each.title, title: each.title, 'aria-current': current && 'true', on: { click: () => open(each) } });
    const item = el('div', { class: current ? 'item current' : 'item' }, title,
      isRunning(each.id) ? el('i', { class: 'pulse', title: 'Answering' }) : null,
      iconButton('edit', `Rename “${each.title}”`, () => this.#rename(each, item)),
      iconButton('bin', `Delete “${each.title}”`, () => discard(each)));
    return item;
  }

  #rename(each, item) {
    const input = el('input', { 'aria-label': 'Title', maxlength: 120, autocomplete: 'off' });
    const end = (title) => {
      if (this.#renaming !== each.id) return;
      this.#renaming = null;
      input.blur();
      if (title && title !== each.title) this.actions.rename(each, title);
      this.show();
      $('list').querySelector(`[aria-label="${CSS.escape(`Rename “${title || each.title}”`)}"]`)?.focus();
    };
    const keydown = (event) => {
      if (event.key === 'Enter' && !event.isComposing) { event.preventDefault(); end(input.value.trim()); }
      if (event.key === 'Escape') { event.stopPropagation(); end(''); }
    };
    this.#renaming = each.id;
    input.value = each.title;
    input.addEventListener('keydown', keydown);
    input.addEventListener('blur', () => end(input.value.trim()));
    item.replaceChildren(input);
    input.select();
  }
}

const has = ({ title, messages }, words) => title.toLowerCase().includes(words) || messages.some((message) => text(message).toLowerCase().includes(words));
