import { readFileSync } from "node:fs";
import WebSocket from "ws";
import { BASE, BULK, digest, tell } from "./shop.mjs";

const failed = (error) => {
  console.error(error);
  process.exit(1);
};
const open = (path, options) =>
  new Promise((done) => {
    const socket = new WebSocket(`${BASE.replace("https", "wss")}${path}`, options);
    socket.on("open", () => done(socket)).on("error", failed);
  });
const said = (socket) => new Promise((done) => socket.once("message", (data) => done(data.toString())));

const socket = await open("/moved/socket", { followRedirects: true });
socket.send("hello");
const words = await said(socket);
// Everything comes back, piece by piece.
const bulk = readFileSync(BULK);
const pieces = [];
const all = new Promise((done) => {
  socket.on("message", (data) => {
    pieces.push(data);
    if (pieces.length * (1 << 18) >= bulk.length) done();
  });
});
for (let at = 0; at < bulk.length; at += 1 << 18) socket.send(bulk.subarray(at, at + (1 << 18)));
await all;
socket.removeAllListeners("message");
tell("download", await digest(pieces));
socket.send("done");
tell("own", `${words}, ${await said(socket)}`);
socket.close();
socket.on("close", () => process.exit(0));
