// What this tab remembers until it is closed, a reload included. Where the browser refuses storage, it remembers until the reload.

const memory = new Map();

export function recall(name) {
  try {
    return sessionStorage.getItem(name) ?? memory.get(name) ?? null;
  } catch {
    return memory.get(name) ?? null;
  }
}

export function remember(name, text) {
  memory.set(name, text);
  try {
    sessionStorage.setItem(name, text);
  } catch {
    // Memory has it.
  }
}
