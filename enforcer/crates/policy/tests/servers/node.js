// A small file server as many are written in node: the path by URL, and by the older `url.parse` and `path`.
const { createServer } = require("node:http");
const { readFileSync } = require("node:fs");
const path = require("node:path");
const url = require("node:url");
const root = process.argv[2];

const attempt = (read) => { try { return read(); } catch { return ""; } };
const server = createServer((request, response) => {
  const taken = [
    attempt(() => decodeURIComponent(new URL(request.url, "http://localhost").pathname)),
    attempt(() => path.posix.normalize(decodeURIComponent(url.parse(request.url).pathname))),
  ];
  const files = taken.map((taken) => attempt(() => readFileSync(path.join(root, taken), "utf8")));
  response.writeHead(files.some((file) => file) ? 200 : 404, { "X-Taken": taken.map(encodeURI).join(" ") });
  response.end(files.join(""));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
