import WebSocket from "ws";
import { BASE, tell } from "./shop.mjs";

const socket = new WebSocket(`${BASE.replace("https", "wss")}/socket`);
socket.on("open", () => socket.send("hello"));
socket.on("message", (data) => {
  tell("own", data.toString());
  socket.close();
});
socket.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
socket.on("close", () => process.exit(0));
