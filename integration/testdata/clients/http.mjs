// A walk with node:http or node:https, on connections that are kept.
import http from 'node:http';
import https from 'node:https';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { walk } from './walk.mjs';

const { base, steps } = JSON.parse(await text(process.stdin));
const lib = base.startsWith('https:') ? https : http;
const agent = new lib.Agent({ keepAlive: true });

function ask({ method, path, headers, body, stream }) {
	return new Promise((resolve, reject) => {
		const request = lib.request(base + path, { method, headers, agent });
		request.on('response', async (response) => resolve({ status: response.statusCode, body: await text(response) }));
		request.on('error', reject);
		if (stream) {
			Readable.from([body.slice(0, 7), body.slice(7)]).pipe(request);
		} else {
			request.end(body ?? undefined);
		}
	});
}

console.log(JSON.stringify(await walk(steps, ask)));
agent.destroy();
