// How does a program of Node.js say what worked? As checks.py does: a line a check, `ok NAME` or `FAILED NAME: why`.

import assert from "node:assert/strict";

// Runs checks in order, given by what they hold; what one returns stands behind its name.
export async function run(checks) {
  for (const [name, check] of Object.entries(checks)) {
    try {
      const result = await check();
      console.log(`ok ${name}` + (result ? ` (${result})` : ""));
    } catch (error) {
      console.log(`FAILED ${name}: ${String(error?.message ?? error).replaceAll("\n", " ").slice(0, 600)}`);
      process.exitCode = 1;
    }
  }
}

// Waits until the server has ended at least so many requests because their client was gone, and gives their number.
export async function disconnected(n) {
  for (let i = 0; ; i++) {
    const metrics = await (await fetch(process.env.CLIENTS_URL + "/metrics")).text();
    const ended = Number(/^worker_requests_total\{[^}]*outcome="disconnected"[^}]*\} (\d+)/m.exec(metrics)?.[1] ?? 0);
    if (ended >= n) return ended;
    assert.ok(i < 100, `${ended} of ${n} streams were cancelled`);
    await new Promise((done) => setTimeout(done, 100));
  }
}
