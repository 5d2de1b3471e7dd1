// How a program of somebody else uses the SDK, as far as the compiler is concerned.
import {
  DIRECT, GROUP, ImgateClient, IndexedDbStorage, LIMITS, MemoryStorage, PROTOCOL, Refusal, WebStorage, newCid,
  type Body, type ConversationRow, type Message,
} from "../../../src/web/sdk/imgate.js";

const client = new ImgateClient({
  url: () => "wss://chat.example.org/chat", token: "secret", userId: 1, firstPage: 0, device: "desktop",
  storage: new WebStorage(() => localStorage, "chat.1."), WebSocket,
});
const rows = new Map<string, ConversationRow>();
const stop: () => void = client.on("message", ({ kind, dstid, message, live }) => {
  const text: string = message.content ?? "";
  const seq: number | undefined = message.seq;
  const known: boolean = kind === GROUP || dstid === 2 || live;
  if (known) client.read(kind, dstid, seq ?? 0);
  document.title = text;
});
client.on("conversations", ({ rows: page, more }) => {
  for (const row of page) rows.set(`${row.kind}:${row.dstid}`, row);
  const last: Message | undefined = page.at(-1)?.last;
  if (more && last) client.conversations(page.at(-1));
});
client.on("status", ({ state, code }) => state === "closed" && code === 4501 && stop());
client.on("presence", ({ rows: users }) => users.map(({ userid, online }) => `${userid.toFixed()} ${online}`));
const body: Body = { media: 100, type: "poll", choices: ["a", "b"] };
const cid: string = client.send(DIRECT, 2, body, newCid());
await client.connect();
try {
  const { rows: page, more }: { rows: Message[]; more: boolean } = await client.history(DIRECT, 2, { before: 10 });
  client.recall(DIRECT, 2, page[0]?.seq ?? 1);
  client.watch(new Set([1, 2]));
  if (!more) client.drop(DIRECT, 2);
} catch (error) {
  if (error instanceof Refusal && error.code === 10) client.close();
}
new ImgateClient({ url: "ws://h/chat", userId: 2, storage: new MemoryStorage(), random: () => LIMITS.page });
new ImgateClient({ url: async () => "ws://h/chat", token: () => Promise.resolve(null), userId: 2 });
client.on("refused", ({ body: kept }) => kept && client.send(DIRECT, 2, { ...kept, content: "whole" }));
new ImgateClient({ url: "ws://h/chat", userId: 2, storage: new IndexedDbStorage(PROTOCOL) }).hurry();
client.pending().map(({ at }) => at + cid.length);

// What must not compile.
// @ts-expect-error: there is no such event
client.on("massage", () => {});
// @ts-expect-error: a kind is 10 or 11
client.send(12, 2, {});
// @ts-expect-error: whose token it is must be said
new ImgateClient({ url: "ws://h/chat" });
// @ts-expect-error: the state is one of four words
client.on("status", ({ state }) => state === "opened");
