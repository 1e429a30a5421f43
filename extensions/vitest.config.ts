// Unit tests of the drawing core, in a DOM without a browser.  Called by `npm test`.
import { defineConfig } from "vitest/config";

// biome-ignore lint/style/noDefaultExport: vitest reads the default export.
export default defineConfig({
  test: { environment: "jsdom", include: ["tests/**/*.test.ts"], testTimeout: 10_000 },
});
