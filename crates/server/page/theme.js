// Which colours does the page start in? A classic script, so that a chosen theme is there before the first paint.
try {
  const theme = JSON.parse(localStorage.getItem('worker-orcd.settings') || '{}').theme;
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch { /* Storage may be blocked: the system's colours then. */ }
