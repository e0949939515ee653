import { createReadStream } from "node:fs";
import { Agent, request, stream } from "undici";
import { AT, BULK, POSTED, digest, tell } from "./shop.mjs";

const text = async (answer) => (await answer).body.text();
tell("get", await text(request(`${AT}/get`)));
tell("post", await text(request(`${AT}/post`, { method: "POST", body: POSTED })));
const moved = await request(`${AT}/redirect`);
await moved.body.dump();
tell("redirect", await text(request(new URL(moved.headers.location, AT))));
tell("download", await digest((await request(`${AT}/download`)).body));
tell("upload", await text(request(`${AT}/upload`, { method: "PUT", body: createReadStream(BULK) })));
const dispatcher = new Agent({ allowH2: true, pipelining: 4 });
const many = await Promise.all([1, 2, 3].map((page) => text(request(`${AT}/own?page=${page}`, { dispatcher }))));
tell("own", many.map((answer) => JSON.parse(answer).credential));
process.exit(0);
