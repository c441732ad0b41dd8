// What happens when? Ties the page together: conversations and their branches, generations, composer, dialogs.

import { ApiError, chat } from './api.js';
import { Clock } from './clock.js';
import { $, count, el, mark } from './dom.js';
import { keyForm, showCard, showEmpty } from './empty.js';
import { download, fileName, json, markdown } from './export.js';
import { Files } from './files.js';
import { anySeed, asked, body as bodyOf, curl } from './request.js';
import { openSettings, setUpSettings } from './settings.js';
import { List } from './side.js';
import { Status, modelName } from './status.js';
import * as store from './store.js';
import { add, before, choose, path, versions } from './tree.js';
import { addCalls, verify } from './verify.js';
import { AnswerView, Follow, ToolView, UserView, fit, sends } from './view.js';

const ask = $('ask');
const touch = matchMedia('(hover: none)').matches; // There focus would raise the keyboard.
const follow = new Follow($('scroll'), $('latest'));
const running = new Map(); // Conversation id to {controller, conversation, message, clock}.
const files = new Files(() => showSend());
const list = new List({
  open: (each) => { open(store.loadConversation(each.id) ?? each); closeSide(); ask.focus(); },
  discard,
  rename,
  isCurrent: (id) => id === conversation.id,
  isRunning: (id) => running.has(id),
});
const status = new Status({ changed: statusChanged, polled: () => showCard(status) });
let conversation = store.loadConversation(store.openId()) ?? store.newConversation();
let wanted = ''; // Whether the empty page asked for a key.
let views = []; // One for each message of the shown branch.

function statusChanged() {
  showBlank();
  showContext();
  if (status.wantsKey !== wanted) refocus();
  wanted = status.wantsKey;
}

/* ---- Conversations ---- */

function open(next) {
  conversation = running.get(next.id)?.conversation ?? next;
  store.setOpenId(next.id);
  for (const view of views.splice(0)) view.root.remove();
  show();
  const run = running.get(next.id);
  if (run) viewFor(run.message).refresh(run.clock.live);
  for (const view of views) view.news?.(Boolean(run)); // Old answers are not announced.
  list.show();
  follow.toEnd();
}

/** Shows the branch that is chosen; views that it shares with the one before stay. */
function show() {
  const messages = path(conversation);
  let same = 0;
  while (same < views.length && views[same].message === messages[same]) same++;
  for (const view of views.splice(same)) view.root.remove();
  views.push(...messages.slice(same).map(viewOf));
  $('log').append(...views.slice(same).map((view) => view.root));
  settle();
}

function viewOf(message) {
  const each = conversation;
  const turnTo = (other) => { choose(each, other); save(each); show(); };
  if (message.role === 'tool') return Object.assign(new ToolView(message), { message });
  if (message.role === 'user') return new UserView(message, { choose: turnTo, resend: (text) => resend(message, text) });
  const again = () => generate(each, message);
  return new AnswerView(message, {
    again,
    choose: turnTo,
    retry: () => retry(message),
    results: (texts) => sendResults(message, texts),
    verify: () => check(each, message),
    receipt: () => showReceipt(each, message),
    curl: () => curl(each, message),
    keyForm: () => keyForm(() => { status.poll(); again(); }),
  });
}

const viewFor = (message) => views.find((view) => view.message === message);
const lastUser = () => views.findLast((view) => view instanceof UserView);
const last = () => views.at(-1)?.message ?? null;

/** Shows what depends on which message is last and on whether it is being answered. */
function settle() {
  const busy = running.has(conversation.id);
  for (const view of views) view.settle(versions(conversation, view.message), busy, view === views.at(-1));
  $('export').hidden = !conversation.messages.length;
  showSend();
  showBlank();
  showContext();
}

async function discard(each) {
  if (!(await confirmed(`Delete “${each.title}”? It is kept nowhere else.`))) return;
  drop(each.id);
  store.removeConversation(each.id);
  if (each.id === conversation.id) open(store.newConversation());
  else list.show();
}

function rename(each, title) {
  const found = each.id === conversation.id ? conversation : running.get(each.id)?.conversation ?? store.loadConversation(each.id) ?? each;
  Object.assign(found, { title, named: true });
  store.saveConversation(found); // Its place in the list is by its last message.
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

/* ---- Messages ---- */

const answerTo = (after, more) => add(conversation, { role: 'assistant', content: '', reasoning: '', ...more }, after);

function send(text, attached = [], after = last()) {
  const named = text || attached.map(({ name }) => name).join(', ');
  if (!conversation.title || (!after && !conversation.named)) conversation.title = named.replace(/\s+/g, ' ').slice(0, 80);
  const message = add(conversation, { role: 'user', content: text, ...(attached.length && { files: attached }) }, after);
  begin(answerTo(message));
}

/** Sends an edited message: a branch beside the one that it had. */
function resend(message, text) {
  if (running.has(conversation.id)) return;
  send(text, message.files, before(conversation, message));
  ask.focus();
}

/** Another answer beside this one, with another seed. */
function retry(message) {
  if (running.has(conversation.id)) return;
  begin(answerTo(before(conversation, message), { asked: asked({ seed: anySeed() }) }));
}

/** Goes on with what the calls of an answer gave. */
function sendResults(message, texts) {
  if (running.has(conversation.id)) return;
  const results = message.calls.map(({ id, name }, n) => ({ role: 'tool', callId: id, name, content: texts[n] }));
  begin(answerTo(results.reduce((after, result) => add(conversation, result, after), message)));
}

function begin(message) {
  show();
  follow.toEnd();
  generate(conversation, message);
}

async function generate(each, message) {
  if (running.has(each.id)) return;
  const old = { ...message };
  const clock = new Clock(message);
  const run = { controller: new AbortController(), conversation: each, message, clock };
  const fresh = {
    content: '', reasoning: '', calls: [], thoughtMs: null, stats: null, stopped: false, finish: null, problem: null, seed: null, receipt: null, verified: null,
  };
  const isFirst = !message.stats && !message.problem;
  Object.assign(message, fresh, { asked: isFirst && message.asked ? message.asked : asked(), model: modelName(status.health) });
  running.set(each.id, run);
  if (!old.content) save(each);
  if (each === conversation) { viewFor(message).refresh(clock.live); settle(); refocus(); }
  list.show();
  let ticks = 0;
  const ticking = setInterval(() => {
    clock.tick();
    draw(run);
    if (++ticks % 8 === 0 && running.has(each.id) && clock.live.n) save(each); // A closed tab keeps what it had.
  }, 250);
  try {
    for await (const event of chat(bodyOf(each, message), run.controller.signal)) {
      clock.count(event);
      message.content += event.content;
      message.reasoning += event.reasoning;
      addCalls(message.calls, event.calls);
      for (const name of ['finish', 'seed', 'receipt']) message[name] = event[name] ?? message[name];
      draw(run);
    }
  } catch (error) {
    if (run.controller.signal.aborted) message.stopped = true;
    else message.problem = { message: error instanceof ApiError ? error.message : `This page failed: ${error.message}`, status: error.status };
  }
  clearInterval(ticking);
  message.stats = clock.stats();
  if (!message.content && !message.reasoning && old.content) Object.assign(message, old, { problem: message.problem }); // Nothing came in its place.
  if (running.get(each.id) !== run) return; // Deleted meanwhile.
  running.delete(each.id);
  save(each);
  list.show();
  if (each !== conversation) return;
  const view = viewFor(message);
  view.refresh();
  announce([...view.news(), ...message.calls.map(({ name }) => `Call of ${name}.`), message.stopped && 'Stopped.']);
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
    view.refresh(run.clock.live);
    announce(view.news(true));
    follow.keep();
  });
}

const stop = () => running.get(conversation.id)?.controller.abort();

/** Screen readers hear an answer block by block: word by word they could not follow. */
function announce(texts) {
  $('announce').append(...texts.filter(Boolean).map((text) => el('p', { text })));
  while ($('announce').children.length > 20) $('announce').firstChild.remove();
}

/* ---- Receipts ---- */

async function check(each, message) {
  const { signal } = new AbortController(); // Nothing stops it: it is as long as the answer was.
  const shown = (progress) => viewFor(message)?.showBadge(progress);
  viewFor(message).verify.disabled = true;
  shown(0);
  try {
    message.verified = await verify(each, message, shown, signal);
  } catch (error) {
    message.verified = { same: false, n: 0, why: error.message, receipt: null };
  }
  if (!store.loadConversation(each.id)) return; // Deleted meanwhile.
  if (!running.has(each.id)) save(each);
  const view = viewFor(message);
  if (!view) return;
  view.verify.disabled = false;
  settle();
  announce([view.badge.textContent]);
  view.badge.querySelector('button')?.focus();
}

function showReceipt(each, message) {
  const { same, n, why, receipt } = message.verified;
  const rows = receipt ? [
    ['Model', `SHA-256 ${receipt.model.join(', ')}`], ['Device', receipt.device], ['Program', receipt.program], ['Seed', String(message.seed)],
    ['Tokens', `${count(receipt.answer.length)} of answer${receipt.prompt.ids ? `, ${count(receipt.prompt.ids.length)} of prompt` : ''}`],
  ] : [];
  $('proof-title').textContent = same ? 'Verified' : 'Not the same';
  const whole = `${count(n)} token${n === 1 ? '' : 's'}, the same ${message.receipt ? 'tokens' : 'text'}`;
  $('proof-text').textContent = same ? `The server computed this answer again, from the same request with the same seed: ${whole}.` : why;
  $('proof-rows').replaceChildren(...rows.map(([name, value]) => el('div', {}, el('dt', { text: name }), el('dd', { text: value }))));
  $('proof-keep').hidden = !receipt;
  const file = `${JSON.stringify(message.receipt ?? receipt, null, 2)}\n`;
  $('proof-keep').onclick = () => download(fileName(`${each.title} receipt`, 'json'), 'application/json', file);
  $('proof').showModal();
}

/* ---- Composer and empty page ---- */

function showSend() {
  const busy = running.has(conversation.id);
  mark($('send'), busy ? 'stop' : 'send', busy ? 'Stop' : 'Send');
  $('send').classList.toggle('busy', busy);
  $('send').disabled = !busy && !ask.value.trim() && !files.list.length;
}

function showContext() {
  const stats = last()?.stats;
  const limit = status.health?.context_length;
  const used = stats?.prompt ? stats.prompt + stats.n : 0;
  $('context').textContent = used ? `${count(used)}${limit ? ` of ${count(limit)}` : ''} tokens` : '';
  $('context').classList.toggle('full', used > 0.85 * limit);
}

function showBlank() {
  $('empty').hidden = conversation.messages.length > 0;
  if (!$('empty').hidden) showEmpty(status, (text) => { send(text); ask.focus(); });
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
  if (!text && !files.list.length) return;
  ask.value = '';
  fit(ask);
  send(text, files.take());
});
on('ask', 'input', () => { fit(ask); showSend(); });
on('ask', 'keydown', (event) => {
  if (sends(event)) {
    event.preventDefault();
    if (!running.has(conversation.id)) $('composer').requestSubmit();
  } else if (event.key === 'ArrowUp' && !ask.value && !files.list.length && lastUser()?.editable) {
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
for (const id of ['tune', 'active']) on(id, 'click', () => openSettings(status.health?.context_length));
for (const id of ['side-close', 'scrim']) on(id, 'click', closeSide);
on('side-toggle', 'click', () => setSide(document.body.dataset.side !== 'open'));
narrow.addEventListener('change', () => setSide(!narrow.matches));

on('clear', 'click', async () => {
  if (!(await confirmed('Delete all conversations? They are kept nowhere else.'))) return;
  for (const id of running.keys()) drop(id);
  store.removeAll();
  $('settings').close();
  open(store.newConversation());
});
on('export', 'click', () => $('export-as').showModal());
for (const [id, ending, type, write] of [['export-md', 'md', 'text/markdown', markdown], ['export-json', 'json', 'application/json', json]]) {
  on(id, 'click', () => { download(fileName(conversation.title, ending), type, write(conversation)); $('export-as').close(); });
}
for (const dialog of document.querySelectorAll('dialog')) {
  dialog.addEventListener('click', ({ target }) => {
    const closing = target.closest('[data-close]');
    if (closing || target === dialog) dialog.close(closing?.dataset.close);
  });
}

store.whenKept((all) => { $('note').hidden = all; });
store.whenChanged(() => {
  const found = store.loadConversation(conversation.id);
  if (found && !running.has(found.id) && found.updated !== conversation.updated) return open(found);
  if (found) Object.assign(conversation, { title: found.title, named: found.named });
  list.show();
});
addEventListener('pagehide', () => { for (const run of running.values()) { run.message.stopped = true; save(run.conversation); } });

setUpSettings();
setSide(!narrow.matches);
open(conversation);
status.poll();
refocus();
