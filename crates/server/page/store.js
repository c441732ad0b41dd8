// What is kept, and where? In this browser's localStorage alone: settings under one key, each conversation under its own, so that
// two tabs do not overwrite each other. An API key is kept for the tab, or for the browser when its owner says so.

import { grown } from './tree.js';

const PREFIX = 'worker-orcd.';
const CHAT = `${PREFIX}chat.`;
const KEY = `${PREFIX}key`;

const memory = new Map(); // Where storage is blocked or full things last as long as the page.
let told = () => {};
/** Tells whether all is kept, each time that it may have changed. */
export const whenKept = (listener) => { told = listener; };

const attempt = (action) => { try { return action(); } catch { return null; } };
const read = (name) => memory.get(name) ?? attempt(() => localStorage.getItem(name) ?? sessionStorage.getItem(name));
function write(name, value, storage = 'localStorage') {
  try {
    window[storage].setItem(name, value);
    memory.delete(name);
  } catch {
    memory.set(name, value);
  }
  told(!memory.size);
}
function remove(name) {
  memory.delete(name);
  attempt(() => localStorage.removeItem(name));
  attempt(() => sessionStorage.removeItem(name));
}
/** Room was made: what had none may have it now. */
function retry() {
  for (const [name, value] of [...memory]) if (name !== KEY) write(name, value);
  told(!memory.size);
}
const chats = () => [...new Set([...memory.keys(), ...(attempt(() => Object.keys(localStorage)) ?? [])])].filter((name) => name.startsWith(CHAT));

const FRESH = { theme: 'system', system: '', tools: '', receipt: false, presets: [], sampling: {} };
export const settings = { ...FRESH, ...attempt(() => JSON.parse(read(`${PREFIX}settings`))) };
export const saveSettings = () => write(`${PREFIX}settings`, JSON.stringify(settings));

/** A conversation's messages: {role: user, content, files}, {role: assistant, content, reasoning, calls, asked, stats, ...} and {role: tool, content,
 *  callId, name}; tree.js says how they hang together. */
export function newConversation() {
  const id = crypto.getRandomValues(new Uint32Array(3)).join('-');
  return { id, title: '', updated: 0, messages: [], shown: -1 };
}

export const saveConversation = (each) => write(CHAT + each.id, JSON.stringify(each));
export const removeConversation = (id) => { remove(CHAT + id); retry(); };
export const removeAll = () => { chats().forEach(remove); retry(); };
export const size = () => chats().reduce((sum, name) => sum + read(name).length, 0);

export function loadConversation(id) {
  const found = attempt(() => JSON.parse(read(CHAT + id)));
  return Array.isArray(found?.messages) ? grown(found) : null;
}

/** All conversations, the latest first. */
export const conversations = () =>
  chats().map((name) => loadConversation(name.slice(CHAT.length))).filter(Boolean).sort((a, b) => b.updated - a.updated);

/** Tells when another tab changes conversations. */
export const whenChanged = (listener) => addEventListener('storage', ({ key }) => { if (!key || key.startsWith(CHAT)) listener(); });

/** Which conversation this tab shows: a reload keeps it, another tab starts with a new one. */
export const openId = () => attempt(() => sessionStorage.getItem(`${PREFIX}open`));
export const setOpenId = (id) => attempt(() => sessionStorage.setItem(`${PREFIX}open`, id));

export const apiKey = () => read(KEY) ?? '';
export const keyIsRemembered = () => Boolean(attempt(() => localStorage.getItem(KEY)));
export function setApiKey(key, remember) {
  remove(KEY);
  if (key) write(KEY, key, remember ? 'localStorage' : 'sessionStorage');
}
