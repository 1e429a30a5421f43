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

async function bundled(entry) {
  const made = await build({
    absWorkingDir: here,
    entryPoints: [entry],
    bundle: true,
    charset: "utf8",
    format: "iife",
    minify: true,
    target: "es2022",
    write: false,
    logLevel: "warning",
  });
  const [{ contents }] = made.outputFiles;
  if (contents.length > LARGEST_BUNDLE_BYTES) {
    throw new Error(
      `${entry} makes ${contents.length} bytes, more than the ${LARGEST_BUNDLE_BYTES} that it may have.`,
    );
  }
  return contents;
}

const contents = await bundled("src/hosts/federation.ts");
const page = await bundled("src/hosts/page.ts");
const hash = createHash("sha256").update(contents).digest("hex").slice(0, 16);
const load = `static/remoteEntry.${hash}.js`;

rmSync(draft, { recursive: true, force: true });
mkdirSync(`${draft}/${manifest.name}/static`, { recursive: true });
writeFileSync(`${draft}/${manifest.name}/${load}`, contents);
writeFileSync(`${draft}/page.js`, page);
const { name, version, description, license } = manifest;
const described = {
  name,
  version,
  description,
  license,
  jupyterlab: { _build: { load, extension: "./extension", mimeExtension: "./mimeExtension" } },
};
writeFileSync(`${draft}/${name}/package.json`, `${JSON.stringify(described, null, 2)}\n`);

// Written beside and moved, so that a build that is cut short leaves no half of one.
rmSync(goal, { recursive: true, force: true });
renameSync(draft, goal);
const sizes = [contents, page].map(({ length }) => `${(length / 1024).toFixed(1)} KB`);
process.stdout.write(`front end built: JupyterLab ${sizes[0]}, page ${sizes[1]}\n`);
