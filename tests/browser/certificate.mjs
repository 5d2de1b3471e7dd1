// A certificate that a browser of the tests believes, as if an authority had signed it.
import { execFile } from "node:child_process";
import { X509Certificate, createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

/**
 * For localhost and 127.0.0.1. `flag` is for the browser: nothing else about TLS is taken more lightly with it. `remove` deletes the files.
 */
export async function makeCertificate() {
  const folder = await mkdtemp(join(tmpdir(), "imgate-tls-"));
  const [certificate, key] = ["one.pem", "one.key"].map((name) => join(folder, name));
  await promisify(execFile)("openssl", [
    "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj", "/CN=localhost",
    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate,
  ]);
  const { publicKey } = new X509Certificate(await readFile(certificate));
  const pin = createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("base64");
  return {
    certificate, key,
    flag: `--ignore-certificate-errors-spki-list=${pin}`,
    settings: ["--listen-tls", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key],
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
