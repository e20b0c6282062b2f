// Takes the steps of a walk one after the other, and returns the answers. {token}
// in a header stands for the link token that came last.
export async function walk(steps, ask) {
	const answers = [];
	let token = '';
	for (const step of steps) {
		const headers = {};
		for (const [name, value] of Object.entries(step.headers ?? {})) {
			headers[name] = value.replace('{token}', token);
		}
		const answer = await ask({ ...step, headers }).catch((error) => {
			throw new Error(`${step.name}: ${error.message}`, { cause: error });
		});
		answers.push(answer);
		token = /"linkToken":"([^"]+)"/.exec(answer.body)?.[1] ?? token;
	}
	return answers;
}

// Asks with fetch, in Node and in a page.
export function withFetch(base, options) {
	return async ({ method, path, headers, body, stream }) => {
		const init = { method, headers, body: body ?? undefined, ...options };
		if (stream) {
			Object.assign(init, { body: new Blob([body]).stream(), duplex: 'half', keepalive: false });
		}
		const response = await fetch(base + path, init);
		return { status: response.status, body: await response.text() };
	};
}

// Asks with XMLHttpRequest.
export function withXHR(base, withCredentials) {
	return ({ method, path, headers, body }) =>
		new Promise((resolve, reject) => {
			const xhr = new XMLHttpRequest();
			xhr.open(method, base + path);
			xhr.withCredentials = withCredentials;
			for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
			xhr.onload = () => resolve({ status: xhr.status, body: xhr.responseText });
			xhr.onerror = () => reject(new Error(`${method} ${path}: a network error`));
			xhr.send(body);
		});
}
