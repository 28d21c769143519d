// Certificates of an authority of the tests' own, made by openssl, in a folder that is removed at the end.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** An authority, and what it has signed. */
export class Authority {
  constructor(name) {
    this.directory = mkdtempSync(join(tmpdir(), "switchboard-certificates-"));
    process.on("exit", () => rmSync(this.directory, { recursive: true, force: true }));
    this.ca = this.file("ca.pem");
    this.caKey = this.file("ca-key.pem");
    this.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
      "-subj", `/CN=${name}`, "-days", "2", "-keyout", this.caKey, "-out", this.ca);
  }

  file(name) {
    return join(this.directory, name);
  }

  openssl(...words) {
    execFileSync("openssl", words, { stdio: ["ignore", "ignore", "pipe"] });
  }

  /** Signs a certificate that holds for some names; returns the files of it and its key. */
  sign(name, names = "IP:127.0.0.1,DNS:localhost") {
    const [certificate, key] = [this.file(`${name}.pem`), this.file(`${name}-key.pem`)];
    const [request, extensions] = [this.file(`${name}.csr`), this.file(`${name}.ext`)];
    writeFileSync(extensions, `subjectAltName=${names}\n`);
    this.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
      "-subj", `/CN=${name}`, "-keyout", key, "-out", request);
    this.openssl("x509", "-req", "-in", request, "-CA", this.ca, "-CAkey", this.caKey, "-CAcreateserial",
      "-days", "2", "-extfile", extensions, "-out", certificate);
    return { certificate, key, ca: this.ca };
  }
}
