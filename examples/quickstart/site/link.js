// Step 1: a link, and what the browser gets of it.

import { $, announce, busy, colored, el, klavi, marked, save, showProblem, state, t } from './page.js';
import { KlaviProblem } from './klavi.js';
import { search } from './search.js';

export function start() {
  $('link-form').addEventListener('submit', (event) => {
    event.preventDefault();
    busy($('create-link'), create);
  });
  $('cpf').addEventListener('input', () => showFieldError(false));
  if (state.cpf !== undefined) $('cpf').value = state.cpf;
  document.addEventListener('link', render);
  setInterval(renderExpiry, 5000);
}

async function create() {
  const cpf = $('cpf').value.trim();
  showFieldError(false);
  $('link-problem').replaceChildren();
  try {
    // Back to the name under which this page was opened: sessionStorage belongs to it.
    await klavi.createLink({ ...(cpf && { personalTaxId: cpf }), redirectURL: `${location.origin}/` });
  } catch (err) {
    if (err instanceof KlaviProblem && err.type === 'invalid-field' && err.field === 'personalTaxId') {
      showFieldError(true);
      $('cpf').focus();
      return;
    }
    showProblem($('link-problem'), err);
    return;
  }
  state.cpf = cpf;
  delete state.consent;
  delete state.returned;
  save();
  document.dispatchEvent(new Event('link'));
  announce(t('link.created'));
}

let wrong = false;

function showFieldError(is) {
  wrong = is;
  $('cpf').setAttribute('aria-invalid', String(is));
  $('cpf-error').hidden = !is;
  $('cpf-error').textContent = is ? t('link.cpf.error') : '';
}

export function render() {
  showFieldError(wrong);
  const { link } = klavi;
  $('link-empty').hidden = Boolean(link);
  $('link-result').hidden = !link;
  $('link-fields').hidden = !link;
  if (!link) return;
  $('link-status').textContent = state.answer ? `${state.answer.status} · ${state.answer.took} ms ·` : '';
  $('link-json').replaceChildren(...colored(link));
  renderExpiry();

  const text = state.answer?.text ?? JSON.stringify(link);
  const found = search(text);
  const row = (key, is) => finding(key, is ? 'found' : 'nowhere');
  $('link-search').replaceChildren(
    row('link.key.access', found.accessKey),
    row('link.key.secret', found.secretKey),
    row('link.key.token', found.accessToken),
    ...(found.linkToken ? [finding('link.key.link', 'explained')] : []));
  $('link-searched').textContent = t('link.searched', { count: text.length });
}

function finding(key, verdict) {
  return el('li', { className: verdict }, el('span', {}, ...marked(t(key))), el('strong', {}, t(`link.${verdict}`)));
}

function renderExpiry() {
  const { link, goodUntil } = klavi.toJSON();
  if (!link) return;
  const minutes = Math.ceil((goodUntil - Date.now()) / 60000);
  $('link-expiry').textContent = minutes > 0 ? t('link.good', { minutes }) : t('link.over');
}
