import { createReadStream, statSync } from "node:fs";
import axios from "axios";
import { AT, BULK, POSTED, digest, tell } from "./shop.mjs";

tell("get", (await axios.get(`${AT}/get`)).data);
tell("post", (await axios.post(`${AT}/post`, POSTED, { headers: { "Content-Type": "text/plain" } })).data);
tell("redirect", (await axios.get(`${AT}/redirect`)).data);
tell("download", await digest((await axios.get(`${AT}/download`, { responseType: "stream" })).data));
const headers = { "Content-Length": statSync(BULK).size };
const whole = { headers, maxRedirects: 0, maxBodyLength: Infinity };
tell("upload", (await axios.put(`${AT}/upload`, createReadStream(BULK), whole)).data);
const many = await Promise.all([1, 2, 3].map((page) => axios.get(`${AT}/own`, { params: { page } })));
tell("own", many.map((answer) => answer.data.credential));
process.exit(0);
