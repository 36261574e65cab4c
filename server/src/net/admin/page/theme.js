// Light or dark: as the system says, unless somebody chose. A classic script in the head, so that the choice holds before the first paint.
// Invariant: `data-theme` on the root is absent (as the system), `light` or `dark`; the colours follow in style.css.
(() => {
  const THEMES = ['light', 'dark'];

  // Browsers may refuse storage; then the choice lasts as long as the page.
  function stored() {
    try {
      return localStorage.getItem('theme');
    } catch {
      return null;
    }
  }

  function store(theme) {
    try {
      localStorage.setItem('theme', theme);
    } catch {
      // As above.
    }
  }

  function apply(theme) {
    if (THEMES.includes(theme)) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  }

  apply(stored());
  addEventListener('DOMContentLoaded', () => {
    const choice = document.getElementById('theme');
    choice.value = THEMES.includes(stored()) ? stored() : 'auto';
    choice.addEventListener('change', () => {
      apply(choice.value);
      store(choice.value);
    });
  });
})();
