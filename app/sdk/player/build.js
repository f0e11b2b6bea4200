/** Write hourglass-player.js from src/: minified, with the digest of its source in the first line. */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { transform } from "esbuild";

const folder = new URL(".", import.meta.url);
const source = readFileSync(new URL("src/hourglass-player.js", folder), "utf8");
const { version } = JSON.parse(readFileSync(new URL("package.json", folder), "utf8"));
if (!source.includes(`VERSION = "${version}"`)) throw new Error("package.json and VERSION differ");
const digest = createHash("sha256").update(source).digest("hex");
// Names that begin with "_" are the module's own; those that a type completes are looked up by their text.
const names = { mangleProps: /^_/, reserveProps: /^_(on|answer|do)_/ };
const { code } = await transform(source, { minify: true, format: "esm", target: "es2018", legalComments: "none", ...names });
const banner = `/*! Hourglass player ${version}, MIT licence. Source: src/hourglass-player.js, sha256 ${digest} */\n`;
writeFileSync(process.argv[2] || new URL("hourglass-player.js", folder), banner + code);
