// How does a conversation leave the browser? As Markdown, what is shown; as JSON, every branch.

import { text } from './request.js';
import { path } from './tree.js';

const quoted = (words) => words.replace(/^/gm, '> ');
const fenced = (words) => `\`\`\`json\n${words}\n\`\`\``;

/** The shown branch for a reader. */
export function markdown(conversation) {
  const parts = path(conversation).flatMap((message) => {
    const { role, content, reasoning, calls = [], name, model } = message;
    if (role === 'user') return ['## You', text(message)];
    if (role === 'tool') return [`## Result of ${name}`, quoted(content)];
    const called = calls.flatMap((call) => [`Call of \`${call.name}\`:`, fenced(call.arguments)]);
    return [`## ${model || 'Answer'}`, reasoning && `> **Reasoning**\n>\n${quoted(reasoning.trim())}`, content.trim(), ...called];
  });
  return `${[`# ${conversation.title}`, ...parts].filter(Boolean).join('\n\n')}\n`;
}

/** All of it, for programs. */
export const json = ({ title, updated, shown, messages }) =>
  `${JSON.stringify({ format: 'worker-orcd conversation', version: 1, title, updated: new Date(updated).toISOString(), shown, messages }, null, 2)}\n`;

/** Gives the browser a file to keep. */
export function download(name, type, words) {
  const url = URL.createObjectURL(new Blob([words], { type }));
  const link = document.createElement('a');
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A title as the name of a file. */
export const fileName = (title, ending) =>
  `${title.normalize('NFC').replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '').toLowerCase().slice(0, 60) || 'conversation'}.${ending}`;
