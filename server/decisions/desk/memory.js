// What the tab remembers until it is closed: the session's storage, or plain memory where the browser forbids that.

const plain = new Map();

function store() {
  try {
    return window.sessionStorage;
  } catch {
    return null;
  }
}

export function recall(name) {
  return store()?.getItem(name) ?? plain.get(name) ?? null;
}

export function remember(name, value) {
  plain.set(name, value);
  store()?.setItem(name, value);
}

export function forget(name) {
  plain.delete(name);
  store()?.removeItem(name);
}
