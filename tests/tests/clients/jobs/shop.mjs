// What the JavaScript clients share: where the shop is, and how a job's result is told.
import { createHash } from "node:crypto";

export const BASE = process.env.SHOP;
export const BULK = process.env.BULK;
export const AT = `${BASE}/m/${process.env.CLIENT}`;
export const POSTED = `posted by ${process.env.CLIENT}`;
export const tell = (job, text) => console.log(job, typeof text === "string" ? text : JSON.stringify(text));
export async function digest(pieces) {
  const sha = createHash("sha256");
  for await (const piece of pieces) sha.update(piece);
  return sha.digest("hex");
}
