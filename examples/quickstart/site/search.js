// Looks for Klavi's credentials in an answer, so that the page says what it has
// seen and not what it hopes.

// Those of this demo, as its Caddyfile has them.
const KEYS = { accessKey: 'sandbox-access-key', secretKey: 'sandbox-secret-key' };

/** Which credentials are in a text, whatever they are wrapped in. */
export function search(text) {
  const folded = text.toLowerCase();
  const holds = (key) => forms(key).some((form) => text.includes(form) || folded.includes(form.toLowerCase()));
  const uses = tokens(text).map((claims) => claims.use);
  return {
    accessKey: holds(KEYS.accessKey),
    secretKey: holds(KEYS.secretKey),
    accessToken: uses.some((use) => use !== 'link'),
    linkToken: uses.includes('link'),
  };
}

/** A key as it is, in hex, URL-encoded, and in base64 at each of the three places where it can begin. */
function forms(key) {
  const base64 = [0, 1, 2].map((before) => {
    const text = btoa('x'.repeat(before) + key);
    // Letters that depend on the neighbours are cut off.
    return text.slice(before ? 4 : 0, -4);
  });
  const hex = Array.from(key, (c) => c.charCodeAt(0).toString(16)).join('');
  const percent = Array.from(key, (c) => `%${c.charCodeAt(0).toString(16)}`).join('');
  return [key, hex, percent, encodeURIComponent(key), ...base64];
}

/** The claims of each token in a text that has the form of a JWT. */
function tokens(text) {
  return Array.from(text.matchAll(/[\w-]{10,}\.([\w-]{10,})\.[\w-]{10,}/g), ([, claims]) => {
    try {
      return JSON.parse(atob(claims.replaceAll('-', '+').replaceAll('_', '/')));
    } catch {
      return {};
    }
  });
}
