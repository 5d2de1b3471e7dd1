// A gateway of our own for the tests: a port that the system chooses, a data folder that goes with it.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const BINARY = process.env.IMGATE_BINARY ?? fileURLToPath(new URL("../../target/debug/imgate", import.meta.url));
const PATIENCE_MS = 30_000;

export class Gateway {
  #process = null;
  #folder = null;
  #port = 0;
  #admin = 0;
  #tls = 0;
  #more;

  /** @param {string[]} more further settings */
  constructor(more = []) {
    this.#more = more;
  }

  /** The admin port. */
  get adminUrl() {
    return `http://127.0.0.1:${this.#admin}`;
  }

  get url() {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Where it speaks TLS, if its settings have it do so. */
  get tlsUrl() {
    return `https://localhost:${this.#tls}`;
  }

  /** Makes so many users before the first start: `[id, token]` each, in ascending order. */
  async seed(count) {
    this.#folder ??= await mkdtemp(join(tmpdir(), "imgate-browser-"));
    const file = join(this.#folder, "tokens");
    await promisify(execFile)(BINARY, ["seed", "--users", String(count), "--tokens", file, "--data", this.#folder]);
    const lines = (await readFile(file, "utf8")).trim().split("\n").map((line) => line.split(/\s+/));
    return lines.sort(([a], [b]) => Number(a) - Number(b));
  }

  /** Starts it; again on the same port and data after `stop`. */
  async start() {
    this.#folder ??= await mkdtemp(join(tmpdir(), "imgate-browser-"));
    const settings = ["--listen", `127.0.0.1:${this.#port}`, "--admin", "127.0.0.1:0", "--data", this.#folder, "--shards", "2", "--log", "info", ...this.#more];
    const child = spawn(BINARY, settings, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, NO_COLOR: "1" } });
    this.#process = child;
    let log = "";
    this.#port = await new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`the gateway does not say that it listens:\n${log}`)), PATIENCE_MS);
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`the gateway ended with ${code}:\n${log}`)));
      child.stderr.on("data", (bytes) => {
        // Kept short: only the start is of interest, but the pipe must be read.
        log = (log + bytes).slice(-20_000);
        // eslint-disable-next-line no-control-regex
        const plain = log.replace(/\u001b\[[0-9;]*m/g, "");
        const found = /listening.*?127\.0\.0\.1:(\d+)/.exec(plain);
        const admin = /admin address=127\.0\.0\.1:(\d+)/.exec(plain);
        if (!found || !admin) return;
        this.#admin = Number(admin[1]);
        // Announced behind the others.
        this.#tls = Number([...plain.matchAll(/listening.*?127\.0\.0\.1:(\d+)/g)].at(-1)[1]);
        clearTimeout(late);
        resolve(Number(found[1]));
      });
    });
    child.removeAllListeners("exit");
  }

  /** Lets it do nothing at all, as a machine that is out of memory or a process under a debugger. */
  freeze() {
    this.#process.kill("SIGSTOP");
  }

  thaw() {
    this.#process?.kill("SIGCONT");
  }

  async stop(signal = "SIGTERM") {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  async remove() {
    await this.stop();
    if (this.#folder) await rm(this.#folder, { recursive: true, force: true });
  }
}
