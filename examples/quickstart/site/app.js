// The page: its language, and its four steps.

import { $, closeNotice, lang, marked, renderNotice, save, state, t } from './page.js';
import * as link from './link.js';
import * as consent from './consent.js';
import * as reports from './reports.js';
import * as breakout from './breakout.js';

const steps = [link, consent, reports, breakout];
const switches = { 'en': $('lang-en'), 'pt-BR': $('lang-pt') };

function render() {
  document.documentElement.lang = lang();
  document.title = t('title');
  for (const node of document.querySelectorAll('[data-text]')) node.replaceChildren(...marked(t(node.dataset.text)));
  for (const node of document.querySelectorAll('[data-label]')) node.setAttribute('aria-label', t(node.dataset.label));
  for (const [language, button] of Object.entries(switches)) button.setAttribute('aria-pressed', String(language === lang()));
  for (const step of steps) step.render();
  renderNotice();
}

for (const [language, button] of Object.entries(switches)) {
  button.addEventListener('click', () => {
    state.lang = language;
    save();
    render();
  });
}
$('notice-close').addEventListener('click', closeNotice);
for (const step of steps) step.start();
render();
