import { createReadStream } from "node:fs";
import got from "got";
import { AT, BULK, POSTED, digest, tell } from "./shop.mjs";

tell("get", await got(`${AT}/get`).text());
tell("post", await got.post(`${AT}/post`, { body: POSTED }).text());
tell("redirect", await got(`${AT}/redirect`).text());
tell("download", await digest(got.stream(`${AT}/download`)));
tell("upload", await got.put(`${AT}/upload`, { body: createReadStream(BULK) }).text());
const answer = await got(`${AT}/own`, { http2: true, responseType: "json" });
tell("own", `HTTP/${answer.httpVersion} ${answer.body.credential}`);
process.exit(0);
