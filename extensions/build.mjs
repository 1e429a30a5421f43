// Bundles the front end into edif_widgets/labextension/, in the shape that JupyterLab serves.  Called by build.sh.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const LARGEST_BUNDLE_BYTES = 150 * 1024;

const here = fileURLToPath(new URL(".", import.meta.url));
const goal = `${here}edif_widgets/labextension`;
const draft = `${here}node_modules/.edif-draft`;
const manifest = JSON.parse(readFileSync(`${here}package.json`, "utf8"));

const bundle = await build({
  absWorkingDir: here,
  entryPoints: ["src/hosts/federation.ts"],
  bundle: true,
  charset: "utf8",
  format: "iife",
  minify: true,
  target: "es2022",
  write: false,
  logLevel: "warning",
});
const [{ contents }] = bundle.outputFiles;
if (contents.length > LARGEST_BUNDLE_BYTES) {
  throw new Error(
    `The bundle has ${contents.length} bytes, more than the ${LARGEST_BUNDLE_BYTES} that it may have.`,
  );
}
const hash = createHash("sha256").update(contents).digest("hex").slice(0, 16);
const load = `static/remoteEntry.${hash}.js`;

rmSync(draft, { recursive: true, force: true });
mkdirSync(`${draft}/${manifest.name}/static`, { recursive: true });
writeFileSync(`${draft}/${manifest.name}/${load}`, contents);
const { name, version, description, license } = manifest;
const described = {
  name,
  version,
  description,
  license,
  jupyterlab: { _build: { load, mimeExtension: "./mimeExtension" } },
};
writeFileSync(`${draft}/${name}/package.json`, `${JSON.stringify(described, null, 2)}\n`);

// Written beside and moved, so that a build that is cut short leaves no half of one.
rmSync(goal, { recursive: true, force: true });
renameSync(draft, goal);
process.stdout.write(`front end built: ${(contents.length / 1024).toFixed(1)} KB\n`);
