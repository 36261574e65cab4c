// Modal dialogs. The browser's own `<dialog>` traps focus, closes on Escape and gives focus back to where it was.

import { h, problem } from './dom.js';

let opened = 0;

/**
 * Opens a dialog; resolves when it is closed, to what `submit` returned, or to null when it was dismissed. An error that `submit` throws is
 * shown in the dialog, which stays. `submit` does all that follows from success: the dialog may be dismissed while it works. It is given a
 * function that shows a sentence on how far it is.
 */
export function openDialog({ title, body, action, danger = false, submit }) {
  return new Promise((resolve) => {
    const id = `dialog-${(opened += 1)}`;
    const place = h('div', { role: 'alert' });
    const progress = h('p', { role: 'status', class: 'soft' });
    let result = null;
    let busy = false;

    async function carryOut(event) {
      event.preventDefault();
      if (busy) return;
      busy = true;
      dialog.setAttribute('aria-busy', 'true');
      place.replaceChildren();
      try {
        result = await submit((sentence) => progress.replaceChildren(sentence));
        dialog.close();
      } catch (error) {
        place.replaceChildren(problem(error));
      } finally {
        busy = false;
        progress.replaceChildren();
        dialog.removeAttribute('aria-busy');
      }
    }

    // Dismissal comes first, so that a question without fields opens with the focus on what does no harm.
    const actions = h('p', { class: 'actions' },
      h('button', { type: 'button', click: () => dialog.close() }, 'Cancel'),
      h('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, action));
    const form = h('form', { method: 'dialog', submit: carryOut }, h('h2', { id }, title), body, progress, place, actions);
    const dialog = h('dialog', { 'aria-labelledby': id }, form);
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Asks before something is done that cannot be undone, or is felt by others. `consequences` are sentences; false stands for none. */
export function confirmAction({ title, consequences, action, submit }) {
  const body = consequences.filter(Boolean).map((sentence) => h('p', null, sentence));
  return openDialog({ title, body, action, danger: true, submit });
}

/** Asks for the password; null when nobody gives one. */
export function askPassword(wasRefused) {
  const field = h('input', { type: 'password', autocomplete: 'current-password', required: true });
  const hint = wasRefused ? 'This password was refused.' : 'The nodes of this cluster ask for the password (requirepass).';
  const body = [h('p', null, hint), h('label', null, 'Password ', field)];
  const submit = () => field.value;
  const answer = openDialog({ title: 'Password', body, action: 'Sign in', submit });
  field.focus();
  return answer;
}
