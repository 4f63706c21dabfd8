// Lints one AsyncAPI document with the AsyncAPI project's own parser: node lint.mjs FILE
// Exit 0: no error (warnings and hints are printed); 1: errors; 2: wrong use.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Parser, fromFile } from "@asyncapi/parser";

const SEVERITIES = ["error", "warning", "information", "hint"];

const file = process.argv[2];
if (!file) {
  console.error("usage: node lint.mjs FILE");
  process.exit(2);
}
readFileSync(file); // a missing file is an error of its own, not an empty document
const { diagnostics } = await fromFile(new Parser(), resolve(file)).parse();
const errors = diagnostics.filter((one) => one.severity === 0);
for (const { severity, code, path, range, message } of diagnostics) {
  if (severity > 1) continue;
  const line = (range?.start?.line ?? 0) + 1;
  console.error(`${file}:${line}: ${SEVERITIES[severity]} ${code} at ${path.join(".")}: ${message}`);
}
process.exit(errors.length ? 1 : 0);
