// What is kept, and where? In this browser's localStorage alone: settings under one key, each conversation under its own, so that
// two tabs do not overwrite each other. An API key is kept for the tab, or for the browser when its owner says so.

const PREFIX = 'worker-orcd.';
const CHAT = `${PREFIX}chat.`;
const KEY = `${PREFIX}key`;

/** Storage may be blocked or full; the page then works on, keeping things until it is closed. */
const memory = new Map();
let onFailure = () => {};
export const whenNotKept = (listener) => { onFailure = listener; };

const read = (name) => {
  if (memory.has(name)) return memory.get(name);
  try { return localStorage.getItem(name); } catch { return null; }
};
const write = (name, value) => {
  try {
    localStorage.setItem(name, value);
    memory.delete(name);
  } catch {
    memory.set(name, value);
    onFailure();
  }
};
const names = () => {
  const kept = new Set(memory.keys());
  try { for (let i = 0; i < localStorage.length; i++) kept.add(localStorage.key(i)); } catch { /* blocked */ }
  return [...kept].filter((name) => name.startsWith(CHAT));
};
const remove = (name) => {
  memory.delete(name);
  try { localStorage.removeItem(name); } catch { /* blocked */ }
};
const parse = (text) => {
  try { return JSON.parse(text); } catch { return null; }
};

export const settings = { theme: 'system', system: '', sampling: {}, ...parse(read(`${PREFIX}settings`)) };
export const saveSettings = () => write(`${PREFIX}settings`, JSON.stringify(settings));

/** A conversation: {id, title, updated, messages}, a message {role: 'user', content} or {role: 'assistant', takes, at}. */
export function newConversation() {
  const [a, b] = crypto.getRandomValues(new Uint32Array(2));
  return { id: `${Date.now().toString(36)}-${a.toString(36)}${b.toString(36)}`, title: '', updated: 0, messages: [] };
}

export const saveConversation = (conversation) => write(CHAT + conversation.id, JSON.stringify(conversation));

export function loadConversation(id) {
  const found = id && parse(read(CHAT + id));
  return found && Array.isArray(found.messages) ? found : null;
}

/** All conversations, the latest first. */
export const conversations = () =>
  names().map((name) => loadConversation(name.slice(CHAT.length))).filter(Boolean).sort((a, b) => b.updated - a.updated);

export const removeConversation = (id) => remove(CHAT + id);
export const removeAll = () => names().forEach(remove);
export const size = () => names().reduce((sum, name) => sum + (read(name)?.length ?? 0), 0);

/** Tells of changes that other tabs make. */
export const whenChanged = (listener) => addEventListener('storage', (event) => {
  if (event.key === null) listener(null);
  else if (event.key.startsWith(CHAT)) listener(event.key.slice(CHAT.length));
});

const current = () => { try { return sessionStorage; } catch { return null; } };

/** Which conversation this tab shows: a reload keeps it, another tab starts with its own. */
export const openId = () => current()?.getItem(`${PREFIX}open`);
export const setOpenId = (id) => { try { current()?.setItem(`${PREFIX}open`, id); } catch { /* full */ } };

export const apiKey = () => current()?.getItem(KEY) || read(KEY) || '';
export const keyRemembered = () => Boolean(read(KEY));
export function setApiKey(key, remember) {
  remove(KEY);
  current()?.removeItem(KEY);
  if (key && remember) write(KEY, key);
  else if (key) { try { current().setItem(KEY, key); } catch { memory.set(KEY, key); } }
}
