// A walk with Node's own fetch.
import { text } from 'node:stream/consumers';
import { walk, withFetch } from './walk.mjs';

const { base, steps } = JSON.parse(await text(process.stdin));
console.log(JSON.stringify(await walk(steps, withFetch(base))));
