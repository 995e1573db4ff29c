// Where data come from and go to: the server, or the page itself where it is one file.
//
// A self-contained file has set window.EMBEDDED: what each address of the server would answer,
// binary answers as base64. Nothing can be saved then.

export const EMBEDDED = window.EMBEDDED ?? null;
const SILENT = "The server does not answer, so nothing was saved. Start `mprm tag` again and " +
  "open its new address, or try again.";

// An answer that says no: one line for the person, the status and the whole answer.
export class Refusal extends Error {
  constructor(line, status, answer = {}) {
    super(line);
    this.status = status;
    this.answer = answer;
  }
}

export async function readJson(path) {
  if (EMBEDDED) return structuredClone(embedded(path));
  return (await request(path)).json();
}

export async function readBytes(path) {
  if (EMBEDDED) return Uint8Array.from(atob(embedded(path)), (c) => c.charCodeAt(0)).buffer;
  return (await request(path)).arrayBuffer();
}

// Resolves once the change is on disk.
export async function send(path, body) {
  if (EMBEDDED) throw new Refusal("This file is for looking only: nothing can be saved.", 405);
  const headers = { "Content-Type": "application/json" };
  return (await request(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

function embedded(path) {
  if (path in EMBEDDED) return EMBEDDED[path];
  throw new Refusal(`${path} is not in this file.`, 404);
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Refusal(SILENT, 0);
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Refusal(answer.error ?? `The server refused (${response.status}).`,
    response.status, answer);
}
