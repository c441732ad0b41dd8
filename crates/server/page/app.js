// What happens when? Ties the page together: conversations, the composer, generations, settings and dialogs.

import { address, ApiError, chat } from './api.js';
import { bytes, copyButton, count, el, iconButton, setIcon } from './dom.js';
import { Status, modelFacts, modelName } from './status.js';
import * as store from './store.js';
import { AnswerView, Follow, UserView, fit, sends } from './view.js';

const $ = (id) => document.getElementById(id);
const ask = $('ask');
const { settings } = store;

const status = new Status();
const follow = new Follow($('scroll'), $('latest'));
const running = new Map(); // Conversation id to its generation: {controller, message, take, live, conversation}.
let conversation = store.loadConversation(store.openId()) ?? store.newConversation();
let views = []; // One for each message of the shown conversation.

/* ---- Conversations ---- */

function open(next) {
  conversation = next;
  store.setOpenId(next.id);
  showConversation();
  showList();
  follow.toEnd();
}

function showConversation() {
  views = conversation.messages.map(viewOf);
  $('log').replaceChildren(...views.map((view) => view.root));
  const live = running.get(conversation.id);
  if (live) viewOfMessage(live.message)?.refresh(live.live);
  settle();
}

function viewOf(message) {
  if (message.role === 'user') return new UserView(message, { resend: (text) => resend(message, text) });
  return new AnswerView(message, {
    again: () => generate(conversation, message),
    turn: (by) => {
      message.at = Math.max(0, Math.min(message.takes.length - 1, message.at + by));
      save(conversation);
      viewOfMessage(message).refresh(false);
      settle();
    },
    key: keyForm(() => generate(conversation, message)),
    curl: () => curl(conversation, message),
  });
}

const viewOfMessage = (message) => views.find((view) => view.message === message);

function append(message) {
  const view = viewOf(message);
  conversation.messages.push(message);
  views.push(view);
  $('log').append(view.root);
}

/** Everything that depends on which message is last and whether it is being answered. */
function settle() {
  const busy = running.has(conversation.id);
  const lastUser = views.findLast((view) => view instanceof UserView);
  views.forEach((view, n) => {
    if (view instanceof UserView) view.setLast(view === lastUser && !busy);
    else view.again.hidden = n !== views.length - 1;
  });
  showSend();
  showEmpty();
  showContext();
}

function showList() {
  const item = (each) => {
    const title = each.title || 'New conversation';
    const current = each.id === conversation.id;
    return el('div', { class: current ? 'item current' : 'item' },
      el('button', { type: 'button', class: 'title', text: title, 'aria-current': current && 'true', on: { click: () => { open(store.loadConversation(each.id) ?? each); closeSide(); ask.focus(); } } }),
      running.has(each.id) ? el('i', { class: 'pulse', title: 'Answering' }) : null,
      iconButton('bin', `Delete “${title}”`, () => removeConversation(each)));
  };
  const found = store.conversations().map((each) => running.get(each.id)?.conversation ?? each);
  $('list').replaceChildren(...(found.length ? found.map(item) : [el('p', { text: 'Conversations stay in this browser.' })]));
}

async function removeConversation(each) {
  if (!(await confirmed(`Delete “${each.title || 'this conversation'}”? It is kept nowhere else.`))) return;
  running.get(each.id)?.controller.abort();
  running.delete(each.id);
  store.removeConversation(each.id);
  if (each.id === conversation.id) open(store.newConversation());
  else showList();
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

/* ---- Generation ---- */

/** The messages up to `answer` as the API takes them. Two turns of one side in a row, as after an error, become one. */
function history(each, answer) {
  const turns = [];
  if (settings.system.trim()) turns.push({ role: 'system', content: settings.system.trim() });
  for (const message of each.messages) {
    if (message === answer) break;
    const content = message.role === 'user' ? message.content : message.takes[message.at].content;
    if (!content) continue;
    const last = turns.at(-1);
    if (last?.role === message.role) last.content += `\n\n${content}`;
    else turns.push({ role: message.role, content });
  }
  return turns;
}

const request = (each, answer) => ({
  messages: history(each, answer), ...settings.sampling, stream: true, stream_options: { include_usage: true },
});

function curl(each, answer) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const key = store.apiKey() ? ` \\\n  -H "Authorization: Bearer $API_KEY"` : '';
  return `curl -N ${quoted(address('v1/chat/completions'))} \\\n  -H 'Content-Type: application/json'${key} \\\n  -d ${quoted(JSON.stringify(request(each, answer)))}`;
}

function send(text) {
  if (!text || running.has(conversation.id)) return;
  if (!conversation.title) conversation.title = text.replace(/\s+/g, ' ').slice(0, 80);
  append({ role: 'user', content: text });
  append({ role: 'assistant', takes: [{ content: '', reasoning: '' }], at: 0 });
  follow.toEnd();
  generate(conversation, conversation.messages.at(-1));
}

function resend(message, text) {
  if (running.has(conversation.id)) return;
  const at = conversation.messages.indexOf(message);
  conversation.messages.length = at;
  views.splice(at).forEach((view) => view.root.remove());
  if (at === 0) conversation.title = '';
  send(text);
  ask.focus();
}

async function generate(each, message) {
  if (running.has(each.id)) return;
  const take = { content: '', reasoning: '' };
  if (blank(message.takes[message.at])) message.takes[message.at] = take; // Nothing of worth is replaced.
  else message.at = message.takes.push(take) - 1;
  const run = { controller: new AbortController(), conversation: each, message, take, live: { n: 0, ttft: null, rate: 0, since: 0 } };
  running.set(each.id, run);
  save(each);
  showList();
  if (each === conversation) { viewOfMessage(message).refresh(run.live); settle(); follow.keep(); }
  const clock = new Clock(run);
  const ticking = setInterval(() => { clock.tick(); frame(run); }, 250);
  try {
    for await (const event of chat(request(each, message), run.controller.signal)) {
      clock.count(event);
      take.content += event.content;
      take.reasoning += event.reasoning;
      take.finish = event.finish ?? take.finish;
      frame(run);
      clock.save();
    }
  } catch (error) {
    if (run.controller.signal.aborted) take.stopped = true;
    else take.problem = { message: error instanceof ApiError ? error.message : `The page failed: ${error.message}`, status: error.status ?? 0 };
  }
  clearInterval(ticking);
  clock.finish();
  if (running.get(each.id) === run) { // Not so when the conversation was deleted meanwhile.
    running.delete(each.id);
    save(each);
  }
  showList();
  if (each !== conversation) return;
  const view = viewOfMessage(message);
  view?.refresh(false);
  announce(view?.news(false) ?? []);
  if (take.stopped) announce(['Stopped.']);
  settle();
  follow.keep();
  if (take.problem?.status === 401) view?.problem.querySelector('input')?.focus();
}

const blank = (take) => !take.content && !take.reasoning;

/** Shows what has come, once a frame at most: a fast model sends many events in between. */
function frame(run) {
  if (run.drawn) return;
  run.drawn = requestAnimationFrame(() => {
    run.drawn = 0;
    if (run.conversation !== conversation || !running.has(conversation.id)) return;
    const view = viewOfMessage(run.message);
    view?.refresh(run.live);
    announce(view?.news(true) ?? []);
    follow.keep();
  });
}

/** Measures one generation. While it runs each event counts as a token; at its end the server's own count is taken. */
class Clock {
  constructor(run) {
    this.run = run;
    this.start = performance.now();
    this.saved = this.start;
    this.marks = []; // {at, n} of the last two seconds, for the speed now.
  }

  count({ content, reasoning, usage, timings }) {
    const { live, take } = this.run;
    const at = performance.now();
    if (content || reasoning) {
      live.n++;
      this.first ??= at;
      this.last = at;
      live.ttft ??= at - this.start;
      if (content && take.reasoning && take.thoughtMs == null) take.thoughtMs = at - this.first;
    }
    if (usage) this.usage = usage;
    if (timings) this.timings = timings;
  }

  tick() {
    const { live } = this.run;
    const at = performance.now();
    live.since = at - this.start;
    this.marks.push({ at, n: live.n });
    while (this.marks.length > 9) this.marks.shift();
    const [oldest] = this.marks;
    const from = Math.max(oldest.at, this.first ?? at);
    if (at - from > 200) live.rate = ((live.n - oldest.n) * 1000) / (at - from);
  }

  save() {
    const at = performance.now();
    if (at - this.saved < 1000 || !running.has(this.run.conversation.id)) return;
    this.saved = at;
    save(this.run.conversation);
  }

  finish() {
    const { take, live } = this.run;
    const n = this.usage?.completion_tokens ?? live.n;
    if (!n) return;
    const between = this.last - this.first;
    const measured = n > 1 && between > 0 ? ((n - 1) * 1000) / between : null;
    take.stats = {
      n, rate: this.timings?.predicted_per_second ?? measured, ttft: live.ttft,
      prompt: this.usage?.prompt_tokens, cached: this.usage?.prompt_tokens_details?.cached_tokens,
    };
    if (take.reasoning && take.thoughtMs == null) take.thoughtMs = between;
  }
}

const stop = () => running.get(conversation.id)?.controller.abort();

/** Screen readers hear an answer block by block: each growing word would talk over the one before. */
function announce(texts) {
  const place = $('announce');
  place.append(...texts.filter(Boolean).map((text) => el('p', { text })));
  while (place.children.length > 20) place.firstChild.remove();
}

/* ---- Composer and header ---- */

function showSend() {
  const busy = running.has(conversation.id);
  const button = $('send');
  setIcon(button, busy ? 'stop' : 'send');
  button.setAttribute('aria-label', busy ? 'Stop' : 'Send');
  button.title = busy ? 'Stop (Esc)' : 'Send (Enter)';
  button.classList.toggle('busy', busy);
  button.disabled = !busy && !ask.value.trim();
}

function showContext() {
  const last = conversation.messages.findLast((message) => message.role === 'assistant');
  const stats = last?.takes[last.at].stats;
  const limit = status.health?.context_length;
  const used = stats?.prompt ? stats.prompt + stats.n : 0;
  $('context').textContent = used ? `${count(used)}${limit ? ` of ${count(limit)}` : ''} tokens` : '';
  $('context').classList.toggle('full', Boolean(limit && used > 0.85 * limit));
}

function showEmpty() {
  const place = $('empty');
  place.hidden = conversation.messages.length > 0;
  if (place.hidden) return;
  const api = address('v1');
  place.replaceChildren(
    el('img', { src: 'page/icon.svg', alt: '', width: 44, height: 44 }),
    el('h2', { text: modelName(status.health) || 'worker-orcd' }),
    el('p', { text: modelFacts(status.health).join('  ·  ') }),
    el('p', { class: 'api' }, el('span', { text: 'OpenAI API' }), el('code', { text: api }), copyButton('Copy the API’s address', () => api)));
}

function showActive() {
  const names = { temperature: 'temperature', top_p: 'top-p', top_k: 'top-k', min_p: 'min-p', max_tokens: 'max', seed: 'seed' };
  const parts = Object.entries(settings.sampling).map(([key, value]) => `${names[key]} ${value}`);
  if (settings.system.trim()) parts.unshift('system prompt');
  $('active').hidden = !parts.length;
  $('active').textContent = parts.join(', ');
}

/** The form that asks for a key where one was missing. */
const keyForm = (then) => () => {
  const input = el('input', { type: 'password', name: 'api-key', autocomplete: 'off', spellcheck: 'false', 'aria-label': 'API key', placeholder: 'API key', required: true });
  const remember = el('input', { type: 'checkbox' });
  remember.checked = store.keyRemembered();
  const submit = (event) => {
    event.preventDefault();
    if (!input.value.trim()) return;
    store.setApiKey(input.value.trim(), remember.checked);
    showKey();
    status.poll();
    then();
  };
  return el('form', { class: 'key', on: { submit } }, input, el('button', { class: 'primary', text: 'Use key' }),
    el('label', {}, remember, 'Remember in this browser'));
};

/* ---- Settings ---- */

const FIELDS = [
  ['temperature', 'Temperature', 0, 2, 'any', '0 takes the likeliest'],
  ['top_p', 'Top-p', 0, 1, 'any', 'share of probability'],
  ['top_k', 'Top-k', 0, 1e6, 1, 'likeliest k; 0 is all'],
  ['min_p', 'Min-p', 0, 1, 'any', 'relative to the likeliest'],
  ['max_tokens', 'Max tokens', 1, 1e7, 1, 'length of an answer'],
  ['seed', 'Seed', 0, Number.MAX_SAFE_INTEGER, 1, 'same seed, same answer'],
];

function buildFields() {
  for (const [key, label, min, max, step, hint] of FIELDS) {
    const input = el('input', { id: `f-${key}`, type: 'number', inputmode: step === 1 ? 'numeric' : 'decimal', min, max, step, placeholder: 'default', 'aria-describedby': `h-${key}` });
    input.value = settings.sampling[key] ?? '';
    input.addEventListener('input', () => {
      const usable = input.value !== '' && input.validity.valid;
      input.setAttribute('aria-invalid', String(!input.validity.valid));
      if (usable) settings.sampling[key] = Number(input.value);
      else delete settings.sampling[key];
      store.saveSettings();
      showActive();
    });
    $('fields').append(el('label', { class: 'field' }, el('span', { text: label }), input, el('small', { id: `h-${key}`, text: hint })));
  }
  $('reset').addEventListener('click', () => {
    settings.sampling = {};
    for (const [key] of FIELDS) { $(`f-${key}`).value = ''; $(`f-${key}`).setAttribute('aria-invalid', 'false'); }
    store.saveSettings();
    showActive();
  });
}

function showKey() {
  const key = store.apiKey();
  $('key-set').hidden = !key;
  $('key-place').replaceChildren(
    el('p', { text: store.keyRemembered() ? 'A key is kept in this browser.' : 'A key is kept until this tab is closed.' }),
    el('button', { type: 'button', class: 'danger', text: 'Forget key', on: { click: () => { store.setApiKey(''); showKey(); } } }));
}

function openSettings() {
  const n = store.conversations().length;
  $('kept').textContent = n ? `${count(n)} conversation${n === 1 ? '' : 's'}, ${bytes(store.size())}, in this browser and nowhere else.` : 'None. They are kept in this browser and nowhere else.';
  $('clear').disabled = !n;
  showKey();
  $('settings').showModal();
}

function setTheme(theme) {
  settings.theme = theme;
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  store.saveSettings();
}

function confirmed(text) {
  $('confirm-text').textContent = text;
  const dialog = $('confirm');
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true }));
}

/* ---- The side bar: beside the conversation on wide screens, over it on narrow ones ---- */

const narrow = matchMedia('(max-width: 820px)');

function setSide(shown) {
  document.body.dataset.side = shown ? 'open' : 'closed';
  $('side-toggle').setAttribute('aria-expanded', String(shown));
  $('main').inert = shown && narrow.matches;
  if (shown && narrow.matches) $('side-close').focus();
}
const sideOpen = () => document.body.dataset.side === 'open';
function closeSide() {
  if (!narrow.matches || !sideOpen()) return;
  setSide(false);
  $('side-toggle').focus();
}

/* ---- Wiring ---- */

$('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  if (running.has(conversation.id)) { stop(); return; }
  const text = ask.value.trim();
  if (!text) return;
  ask.value = '';
  fit(ask);
  send(text);
});
ask.addEventListener('input', () => { fit(ask); showSend(); });
ask.addEventListener('keydown', (event) => {
  if (sends(event)) {
    event.preventDefault();
    if (!running.has(conversation.id)) $('composer').requestSubmit();
  }
  if (event.key === 'ArrowUp' && !ask.value && !event.isComposing) {
    const last = views.findLast((view) => view instanceof UserView);
    if (last?.last) { event.preventDefault(); last.startEdit(); }
  }
});
document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || event.isComposing || document.querySelector('dialog[open]')) return;
  if (narrow.matches && sideOpen()) closeSide();
  else stop();
});

$('new').addEventListener('click', startNew);
$('new-small').addEventListener('click', startNew);
$('tune').addEventListener('click', openSettings);
$('active').addEventListener('click', openSettings);
$('side-toggle').addEventListener('click', () => setSide(!sideOpen()));
$('side-close').addEventListener('click', closeSide);
$('scrim').addEventListener('click', closeSide);
narrow.addEventListener('change', () => setSide(!narrow.matches));

$('system').value = settings.system;
$('system').addEventListener('input', () => { settings.system = $('system').value; store.saveSettings(); showActive(); });
for (const radio of $('theme').querySelectorAll('input')) {
  radio.checked = radio.value === settings.theme;
  radio.addEventListener('change', () => setTheme(radio.value));
}
$('clear').addEventListener('click', async () => {
  if (!(await confirmed('Delete all conversations? They are kept nowhere else.'))) return;
  for (const run of running.values()) run.controller.abort();
  running.clear();
  store.removeAll();
  $('settings').close();
  open(store.newConversation());
});
$('confirm-yes').addEventListener('click', () => $('confirm').close('yes'));
$('confirm-no').addEventListener('click', () => $('confirm').close('no'));
for (const dialog of document.querySelectorAll('dialog')) {
  dialog.addEventListener('click', (event) => { if (event.target === dialog || event.target.closest('[data-close]')) dialog.close(); });
}

store.whenNotKept(() => announceFull());
store.whenChanged((id) => {
  if ((id === null || id === conversation.id) && !running.has(conversation.id)) {
    const found = store.loadConversation(conversation.id);
    if (found) conversation = found;
    showConversation();
  }
  showList();
});
function announceFull() {
  if (document.querySelector('.full-note')) return;
  $('banner').after(el('div', { class: 'note full-note', role: 'status' }, 'The browser keeps nothing more for this page: conversations last until it is closed. Delete some to make room.',
    iconButton('close', 'Dismiss', (event) => event.currentTarget.parentElement.remove())));
}
addEventListener('pagehide', () => { for (const run of running.values()) { run.take.stopped = true; save(run.conversation); } });

status.addEventListener('change', () => { showEmpty(); showContext(); });
buildFields();
setSide(!narrow.matches);
showActive();
open(conversation);
status.start();
if (!matchMedia('(pointer: coarse)').matches) ask.focus();
