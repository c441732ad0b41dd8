// What happens when? Ties the page together: conversations, generations, composer, settings and dialogs.

import { address, ApiError, chat, defaults } from './api.js';
import { $, bytes, copyButton, count, el, iconButton, mark } from './dom.js';
import { Status, modelFacts, modelName } from './status.js';
import * as store from './store.js';
import { AnswerView, Follow, UserView, fit, sends } from './view.js';

const ask = $('ask');
const touch = matchMedia('(hover: none)').matches; // There focus would raise the keyboard.
const { settings } = store;
const status = new Status(() => { showEmpty(); showContext(); if (status.wantsKey !== asked) refocus(); asked = status.wantsKey; });
const follow = new Follow($('scroll'), $('latest'));
const running = new Map(); // Conversation id to {controller, conversation, message, live}.
let conversation = store.loadConversation(store.openId()) ?? store.newConversation();
let asked = ''; // Whether the empty page asked for a key.
let views = []; // One for each message of the shown conversation.

/* ---- Conversations ---- */

function open(next) {
  conversation = running.get(next.id)?.conversation ?? next;
  store.setOpenId(next.id);
  views = conversation.messages.map(viewOf);
  $('log').replaceChildren(...views.map((view) => view.root));
  const run = running.get(next.id);
  if (run) viewFor(run.message).refresh(run.live);
  for (const view of views) view.news?.(Boolean(run)); // Old answers are not announced.
  settle();
  showList();
  follow.toEnd();
}

function viewOf(message) {
  if (message.role === 'user') return new UserView(message, (text) => resend(message, text));
  const again = () => generate(conversation, message);
  return new AnswerView(message, { again, keyForm: () => keyForm(again), curl: () => curl(message) });
}

const viewFor = (message) => views.find((view) => view.message === message);
const lastUser = () => views.findLast((view) => view instanceof UserView);

function append(message) {
  conversation.messages.push(message);
  views.push(viewOf(message));
  $('log').append(views.at(-1).root);
}

/** Shows what depends on which message is last and on whether it is being answered. */
function settle() {
  const busy = running.has(conversation.id);
  for (const view of views) {
    if (view instanceof UserView) view.setEditable(view === lastUser() && !busy);
    else view.again.hidden = view !== views.at(-1);
  }
  showSend();
  showEmpty();
  showContext();
}

function showList() {
  const items = store.conversations().map((each) => {
    const current = each.id === conversation.id;
    const click = () => { open(store.loadConversation(each.id) ?? each); closeSide(); ask.focus(); };
    return el('div', { class: current ? 'item current' : 'item' },
      el('button', { type: 'button', class: 'title', text: each.title, 'aria-current': current && 'true', on: { click } }),
      running.has(each.id) ? el('i', { class: 'pulse', title: 'Answering' }) : null,
      iconButton('bin', `Delete “${each.title}”`, () => discard(each)));
  });
  $('list').replaceChildren(...(items.length ? items : [el('p', { text: 'Conversations stay in this browser.' })]));
}

async function discard(each) {
  if (!(await confirmed(`Delete “${each.title}”? It is kept nowhere else.`))) return;
  drop(each.id);
  store.removeConversation(each.id);
  if (each.id === conversation.id) open(store.newConversation());
  else showList();
}

function drop(id) {
  running.get(id)?.controller.abort();
  running.delete(id);
}

function save(each) {
  each.updated = Date.now();
  store.saveConversation(each);
}

function startNew() {
  if (conversation.messages.length) open(store.newConversation());
  closeSide();
  ask.focus();
}

/* ---- Generations ---- */

/** What the API is asked for `answer`. Two turns of one side in a row, as after an error, become one. */
function request({ messages }, answer) {
  const turns = settings.system.trim() ? [{ role: 'system', content: settings.system.trim() }] : [];
  for (const { role, content } of messages.slice(0, messages.indexOf(answer))) {
    if (turns.at(-1)?.role === role && content) turns.at(-1).content += `\n\n${content}`;
    else if (content) turns.push({ role, content });
  }
  return { messages: turns, ...settings.sampling, stream: true, stream_options: { include_usage: true } };
}

function curl(answer) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const key = store.apiKey() && ' -H "Authorization: Bearer $API_KEY"';
  return `curl -N ${quoted(address('v1/chat/completions'))} -H 'Content-Type: application/json'${key} -d ${quoted(JSON.stringify(request(conversation, answer)))}`;
}

function send(text) {
  conversation.title ||= text.replace(/\s+/g, ' ').slice(0, 80);
  append({ role: 'user', content: text });
  append({ role: 'assistant', content: '', reasoning: '' });
  follow.toEnd();
  generate(conversation, conversation.messages.at(-1));
}

function resend(message, text) {
  if (running.has(conversation.id)) return;
  const at = conversation.messages.indexOf(message);
  conversation.messages.splice(at);
  for (const view of views.splice(at)) view.root.remove();
  if (at === 0) conversation.title = '';
  send(text);
  ask.focus();
}

async function generate(each, message) {
  if (running.has(each.id)) return;
  const before = { ...message };
  const run = { controller: new AbortController(), conversation: each, message, live: { n: 0, rate: 0, since: 0 } };
  Object.assign(message, { content: '', reasoning: '', thoughtMs: null, stats: null, stopped: false, finish: null, problem: null });
  running.set(each.id, run);
  if (!before.content) save(each);
  if (each === conversation) { viewFor(message).refresh(run.live); settle(); refocus(); }
  showList();
  const clock = new Clock(run);
  const ticking = setInterval(() => { clock.tick(); draw(run); }, 250);
  try {
    for await (const event of chat(request(each, message), run.controller.signal)) {
      clock.count(event);
      message.content += event.content;
      message.reasoning += event.reasoning;
      message.finish = event.finish ?? message.finish;
      draw(run);
    }
  } catch (error) {
    if (run.controller.signal.aborted) message.stopped = true;
    else message.problem = { message: error instanceof ApiError ? error.message : `This page failed: ${error.message}`, status: error.status };
  }
  clearInterval(ticking);
  clock.finish();
  if (!message.content && !message.reasoning && before.content) Object.assign(message, before, { problem: message.problem }); // Nothing came in its place.
  if (running.get(each.id) !== run) return; // Deleted meanwhile.
  running.delete(each.id);
  save(each);
  showList();
  if (each !== conversation) return;
  const view = viewFor(message);
  view.refresh();
  announce([...view.news(), message.stopped && 'Stopped.']);
  settle();
  refocus();
  follow.keep();
  view.problem.querySelector('input')?.focus();
}

/** A button that went away, or that cannot be pressed now, leaves the focus nowhere; keyboards then start again at the page's top. */
function refocus() {
  const at = document.activeElement;
  const key = $('empty').hidden ? null : $('empty').querySelector('.key input');
  if ((at === document.body || at.disabled || (key && at === ask && !ask.value)) && !touch) (key ?? ask).focus();
}

/** Shows what has come, once a frame at most: a fast model sends many events in between. */
function draw(run) {
  run.frame ||= requestAnimationFrame(() => {
    run.frame = 0;
    if (running.get(conversation.id) !== run) return;
    const view = viewFor(run.message);
    view.refresh(run.live);
    announce(view.news(true));
    follow.keep();
  });
}

/** Measures a generation. While it runs each event counts as a token; in the end the server's own count is taken. */
class Clock {
  start = performance.now();
  ticks = 0;
  marks = []; // {at, n} of the last two seconds, for the speed now.

  constructor(run) {
    this.run = run;
  }

  count({ content, reasoning, usage, timings }) {
    const { live, message } = this.run;
    if (content || reasoning) {
      this.last = performance.now();
      this.first ??= this.last;
      live.n++;
      live.ttft ??= this.last - this.start;
      if (content && message.reasoning) message.thoughtMs ??= this.last - this.first;
    }
    this.usage = usage ?? this.usage;
    this.timings = timings ?? this.timings;
  }

  tick() {
    const { live, conversation: each } = this.run;
    const at = performance.now();
    live.since = at - this.start;
    this.marks = [...this.marks.slice(-8), { at, n: live.n }];
    this.ticks++;
    const { at: oldest, n } = this.marks[0];
    const ms = at - Math.max(oldest, this.first ?? at);
    if (ms > 200) live.rate = ((live.n - n) * 1000) / ms;
    if (this.ticks % 8 === 0 && running.has(each.id) && live.n) save(each); // A closed tab keeps what it had.
  }

  finish() {
    const { message, live } = this.run;
    const n = this.usage?.completion_tokens ?? live.n;
    const ms = this.last - this.first;
    if (!n) return;
    if (message.reasoning) message.thoughtMs ??= ms;
    message.stats = {
      n, ttft: live.ttft, rate: this.timings?.predicted_per_second ?? (n > 4 && ms > 0 ? ((n - 1) * 1000) / ms : null),
      prompt: this.usage?.prompt_tokens, cached: this.usage?.prompt_tokens_details?.cached_tokens,
    };
  }
}

const stop = () => running.get(conversation.id)?.controller.abort();

/** Screen readers hear an answer block by block: word by word they could not follow. */
function announce(texts) {
  $('announce').append(...texts.filter(Boolean).map((text) => el('p', { text })));
  while ($('announce').children.length > 20) $('announce').firstChild.remove();
}

/* ---- Composer and empty page ---- */

function showSend() {
  const busy = running.has(conversation.id);
  mark($('send'), busy ? 'stop' : 'send', busy ? 'Stop' : 'Send');
  $('send').classList.toggle('busy', busy);
  $('send').disabled = !busy && !ask.value.trim();
}

function showContext() {
  const stats = conversation.messages.at(-1)?.stats;
  const limit = status.health?.context_length;
  const used = stats?.prompt ? stats.prompt + stats.n : 0;
  $('context').textContent = used ? `${count(used)}${limit ? ` of ${count(limit)}` : ''} tokens` : '';
  $('context').classList.toggle('full', used > 0.85 * limit);
}

function showEmpty() {
  $('empty').hidden = conversation.messages.length > 0;
  if ($('empty').hidden) return;
  const api = address('v1');
  const shown = [
    el('img', { src: 'page/icon.svg', alt: '', width: 44, height: 44 }),
    el('h2', { text: modelName(status.health) || 'worker-orcd' }),
    el('p', { text: modelFacts(status.health) }),
    status.wantsKey ? el('p', { text: status.wantsKey === 'another' ? 'The server does not accept this API key.' : 'The server asks for an API key.' }) : null,
    status.wantsKey ? keyForm(() => {}) : el('p', { class: 'api' }, 'OpenAI API', el('code', { text: api }), copyButton('Copy the address', () => api)),
  ];
  $('empty').replaceChildren(...shown.filter(Boolean));
}

function keyForm(then) {
  const input = el('input', { type: 'password', autocomplete: 'off', 'aria-label': 'API key', placeholder: 'API key', required: true });
  const remember = el('input', { type: 'checkbox' });
  remember.checked = store.keyIsRemembered();
  const submit = (event) => {
    event.preventDefault();
    store.setApiKey(input.value.trim(), remember.checked);
    status.poll();
    then();
  };
  return el('form', { class: 'key', on: { submit } }, input, el('button', { class: 'primary', text: 'Use key' }),
    el('label', {}, remember, 'Remember in this browser'));
}

/* ---- Settings ---- */

const FIELDS = [ // key, label, least, most, step, hint
  ['temperature', 'Temperature', 0, 2, 'any', '0 takes the likeliest'],
  ['top_p', 'Top-p', 0, 1, 'any', 'share of probability'],
  ['top_k', 'Top-k', 0, 1e6, 1, 'likeliest k; 0 is all'],
  ['min_p', 'Min-p', 0, 1, 'any', 'relative to the likeliest'],
  ['max_tokens', 'Max tokens', 1, 1e7, 1, 'length of an answer'],
  ['seed', 'Seed', 0, Number.MAX_SAFE_INTEGER, 1, 'same seed, same answer'],
];

function changed() {
  store.saveSettings();
  const parts = FIELDS.filter(([key]) => key in settings.sampling).map(([key, label]) => `${label.toLowerCase()} ${settings.sampling[key]}`);
  if (settings.system.trim()) parts.unshift('system prompt');
  $('active').hidden = !parts.length;
  $('active').textContent = parts.join(', ');
}

function buildFields() {
  const labels = FIELDS.map(([key, label, min, max, step, hint]) => {
    const input = el('input', { type: 'number', name: key, inputmode: 'decimal', min, max, step, placeholder: 'default' });
    const small = el('small', { text: hint });
    input.value = settings.sampling[key] ?? '';
    input.addEventListener('input', () => {
      input.setAttribute('aria-invalid', !input.validity.valid);
      small.textContent = input.validity.valid ? hint : `not sent: ${step === 1 ? 'whole, ' : ''}${min} ${key === 'seed' ? 'or more' : `to ${count(max)}`}`;
      delete settings.sampling[key];
      if (input.value && input.validity.valid) settings.sampling[key] = Number(input.value);
      changed();
    });
    return el('label', { class: 'field' }, el('span', { text: label }), input, small);
  });
  $('fields').replaceChildren(...labels);
}

/** Empty fields show what is in effect. */
async function showDefaults() {
  const found = { seed: 'random', ...(await defaults()) };
  for (const [key] of FIELDS) {
    $('fields').querySelector(`[name=${key}]`).placeholder = found[key] ?? (key === 'max_tokens' ? 'the context' : 'default');
  }
}

function openSettings() {
  showDefaults();
  const n = store.conversations().length;
  $('kept').textContent = `${n ? `${count(n)}, ${bytes(store.size())},` : 'None. They are kept'} in this browser and nowhere else.`;
  $('clear').disabled = !n;
  $('key-set').hidden = !store.apiKey();
  $('settings').showModal();
}

function setTheme(theme) {
  settings.theme = theme;
  document.documentElement.dataset.theme = theme;
  changed();
}

function confirmed(text) {
  const dialog = $('confirm');
  $('confirm-text').textContent = text;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true }));
}

/* ---- The side bar: beside the conversation on wide screens, over it on narrow ones ---- */

const narrow = matchMedia('(max-width: 820px)');
const sideCovers = () => narrow.matches && document.body.dataset.side === 'open';

function setSide(shown) {
  document.body.dataset.side = shown ? 'open' : 'closed';
  $('side-toggle').setAttribute('aria-expanded', shown);
  $('main').inert = sideCovers();
  if (sideCovers()) $('side-close').focus();
}

function closeSide() {
  if (!sideCovers()) return;
  setSide(false);
  $('side-toggle').focus();
}

/* ---- Wiring ---- */

const on = (id, event, listener) => $(id).addEventListener(event, listener);

on('composer', 'submit', (event) => {
  event.preventDefault();
  const text = ask.value.trim();
  if (running.has(conversation.id)) return stop();
  if (!text) return;
  ask.value = '';
  fit(ask);
  send(text);
});
on('ask', 'input', () => { fit(ask); showSend(); });
on('ask', 'keydown', (event) => {
  if (sends(event)) {
    event.preventDefault();
    if (!running.has(conversation.id)) $('composer').requestSubmit();
  } else if (event.key === 'ArrowUp' && !ask.value && lastUser()?.editable) {
    event.preventDefault();
    lastUser().startEdit();
  }
});
document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || event.isComposing || document.querySelector('dialog[open]')) return;
  if (sideCovers()) closeSide();
  else stop();
});
for (const id of ['new', 'new-small']) on(id, 'click', startNew);
for (const id of ['tune', 'active']) on(id, 'click', openSettings);
for (const id of ['side-close', 'scrim']) on(id, 'click', closeSide);
on('side-toggle', 'click', () => setSide(document.body.dataset.side !== 'open'));
narrow.addEventListener('change', () => setSide(!narrow.matches));

$('system').value = settings.system;
on('system', 'input', () => { settings.system = $('system').value; changed(); });
on('reset', 'click', () => { settings.sampling = {}; buildFields(); showDefaults(); changed(); });
on('forget', 'click', () => { store.setApiKey(''); $('key-set').hidden = true; });
on('clear', 'click', async () => {
  if (!(await confirmed('Delete all conversations? They are kept nowhere else.'))) return;
  for (const id of running.keys()) drop(id);
  store.removeAll();
  $('settings').close();
  open(store.newConversation());
});
for (const radio of $('theme').querySelectorAll('input')) {
  radio.checked = radio.value === settings.theme;
  radio.addEventListener('change', () => setTheme(radio.value));
}
for (const dialog of document.querySelectorAll('dialog')) {
  dialog.addEventListener('click', ({ target }) => {
    const closing = target.closest('[data-close]');
    if (closing || target === dialog) dialog.close(closing?.dataset.close);
  });
}

store.whenNotKept(() => { $('note').hidden = false; });
store.whenChanged(() => {
  const found = store.loadConversation(conversation.id);
  if (found && !running.has(found.id) && found.updated !== conversation.updated) open(found);
  else showList();
});
addEventListener('pagehide', () => { for (const run of running.values()) { run.message.stopped = true; save(run.conversation); } });

buildFields();
changed();
setSide(!narrow.matches);
open(conversation);
status.poll();
refocus();
