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

// Waits until the server computes nothing.
export async function idle() {
  for (let i = 0; ; i++) {
    const health = await (await fetch(process.env.CLIENTS_URL + "/health")).json();
    if (health.n_running === 0) return;
    assert.ok(i < 100, "it still runs");
    await new Promise((done) => setTimeout(done, 100));
  }
}
