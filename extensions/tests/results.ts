// Results that the tests draw.
export const PARIS = {
  kind: "next_tokens",
  title: "Next token",
  provenance: {
    model: "edif/smollm2-135m-demo",
    dtype: "float32",
    prompt: "The Eiffel Tower is in the city of",
    bos: false,
  },
  tokens: [
    { id: 7042, text: " Paris", probability: 0.656, logit: 18.42 },
    { id: 12057, text: " Rome", probability: 0.038, logit: 15.57 },
    { id: 198, text: "\n", probability: 0.0001234, logit: -9.851 },
  ],
  foot: "1 forward · 0.3 s on the server · 12 KB received",
};

/** PARIS with some fields changed. */
export function paris(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return { ...structuredClone(PARIS), ...changes };
}
