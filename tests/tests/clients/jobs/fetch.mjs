// The runtime's own fetch: Node, deno and bun alike.
import { readFileSync } from "node:fs";
import { AT, BASE, BULK, POSTED, digest, tell } from "./shop.mjs";

tell("get", await (await fetch(`${AT}/get`)).text());
tell("post", await (await fetch(`${AT}/post`, { method: "POST", body: POSTED })).text());
tell("redirect", await (await fetch(`${AT}/redirect`)).text());
tell("download", await digest((await fetch(`${AT}/download`)).body));
tell("upload", await (await fetch(`${AT}/upload`, { method: "PUT", body: readFileSync(BULK) })).text());
let text = "";
for await (const piece of (await fetch(`${BASE}/events`)).body) text += new TextDecoder().decode(piece);
tell("own", `${text.match(/^data: /gm).length} events`);
process.exit(0);
