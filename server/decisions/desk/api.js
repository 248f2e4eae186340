// Calls to the service, and what each way of failing means in words.

const PATIENCE_MS = 20_000;
const MEANINGS = {
  403: "trouble.role", 404: "trouble.missing", 409: "trouble.conflict",
  413: "trouble.large", 422: "trouble.input", 429: "trouble.often", 503: "trouble.paused",
};

/** A call that failed; `key` names the text that tells what to do. */
export class Trouble extends Error {
  constructor(key, { status = 0, field = null, values = {} } = {}) {
    super(key);
    Object.assign(this, { key, status, field, values });
  }
}

/** Calls made with one token. `get` and `post` give the answer's JSON and its headers. */
export function client(token) {
  const expired = token.startsWith("fa_") ? "trouble.expired" : "trouble.key";

  async function call(method, path, body, signal) {
    const patience = AbortSignal.timeout(PATIENCE_MS);
    const options = {
      method,
      headers: { Authorization: `Bearer ${token}`, ...(body ? { "Content-Type": "application/json" } : {}) },
      body: body ? JSON.stringify(body) : undefined,
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
      cache: "no-store",
      credentials: "omit",
    };
    let answer;
    try {
      answer = await fetch(path, options);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Trouble("trouble.network");
    }
    if (!answer.ok) throw await troubleOf(answer, expired);
    return { data: await answer.json(), headers: answer.headers };
  }

  return {
    get: (path) => call("GET", path),
    post: (path, body = {}, signal = undefined) => call("POST", path, body, signal),
  };
}

async function troubleOf(answer, expired) {
  const problem = await answer.json().catch(() => ({}));
  const key = answer.status === 401 ? expired : MEANINGS[answer.status] ?? "trouble.server";
  const seconds = answer.headers.get("Retry-After") ?? "60";
  return new Trouble(key, { status: answer.status, field: problem.field ?? null, values: { seconds } });
}
