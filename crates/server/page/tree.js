// Which messages are shown? A conversation is a tree: an edited message and another try for an answer are branches, so nothing is lost.
// `messages` has all of them in the order in which they were made, each with the index of the one before it (-1 at the root); `shown`
// is the index of the last one on the page.

/** Conversations of earlier versions were a list. A parent comes before its child, whatever storage says: so every path ends. */
export function grown(conversation) {
  const { messages } = conversation;
  messages.forEach((message, n) => {
    if (!(Number.isInteger(message.parent) && message.parent >= -1 && message.parent < n)) message.parent = n - 1;
  });
  if (!messages[conversation.shown]) conversation.shown = messages.length - 1;
  return conversation;
}

/** The messages from the root to `last`. */
export function path({ messages, shown }, last = messages[shown]) {
  const found = [];
  for (let each = last; each; each = messages[each.parent]) found.unshift(each);
  return found;
}

/** Adds a message after another one (null: at the root), and shows it. */
export function add(conversation, message, after) {
  const { messages } = conversation;
  conversation.shown = messages.push(Object.assign(message, { parent: messages.indexOf(after) })) - 1;
  return message;
}

export const before = ({ messages }, { parent }) => messages[parent] ?? null;

/** A message and what stands in its place on other branches. */
export const versions = ({ messages }, { parent }) => messages.filter((each) => each.parent === parent);

/** Shows the branch of a message, down to what was added to it last. */
export function choose(conversation, message) {
  const { messages } = conversation;
  let at = messages.indexOf(message);
  for (let next = at; next >= 0; next = messages.findLastIndex((each) => each.parent === at)) at = next;
  conversation.shown = at;
}
