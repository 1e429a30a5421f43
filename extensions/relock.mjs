// Makes package-lock.json, or the one named, fit for any registry mirror.  Called by `npm run relock` on a developer's
// machine.
//
// The registry's address goes (integrity hashes stay), and binaries for platforms that the mirror at hand does not carry
// get an entry of their own: npm leaves them out, and `npm ci` then refuses the lock file that npm wrote.
import { readFileSync, writeFileSync } from "node:fs";

const SYSTEMS = [
  "aix",
  "android",
  "darwin",
  "freebsd",
  "linux",
  "netbsd",
  "openbsd",
  "openharmony",
  "sunos",
  "win32",
];
const PROCESSORS = ["arm64", "arm", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "x64"];

const file = process.argv[2] ?? new URL("package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(file, "utf8"));

for (const entry of Object.values(lock.packages)) {
  delete entry.resolved;
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const words = name.split(/[-/]/);
    const system = SYSTEMS.find((word) => words.includes(word));
    const processor = PROCESSORS.find((word) => words.includes(word));
    if (system && processor && !lock.packages[`node_modules/${name}`]) {
      const libc = name.includes("musl") ? { libc: ["musl"] } : {};
      lock.packages[`node_modules/${name}`] = {
        version,
        cpu: [processor],
        dev: true,
        ...libc,
        optional: true,
        os: [system],
      };
    }
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
