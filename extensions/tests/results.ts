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

/** A lens of `layers` layers on two tokens, two tokens a cell; the first one followed, unless said otherwise. */
export function lens(layers = 3, changes: Record<string, unknown> = {}): Record<string, unknown> {
  const cells = layers * 2;
  const each = (make: (cell: number) => unknown) => Array.from({ length: cells }, (_, cell) => make(cell));
  return {
    version: 1,
    kind: "logit_lens",
    title: "Logit lens",
    provenance: { model: "edif/demo", dtype: "float32" },
    foot: "0.3 s beside the weights",
    layers: Array.from({ length: layers }, (_, layer) => layer),
    final: true,
    top: 2,
    targets: [2, 3],
    vocabulary: { ids: [10, 11, 12, 13], texts: ["The", " city", " Paris", "\n"] },
    prompts: [
      {
        prompt: "The city",
        bos: false,
        tokens: [0, 1],
        // the last layer says ␣Paris after ␣city, the ones before a newline
        top: each((cell) => (cell === cells - 1 ? [2, 3] : [3, 1])).flat(),
        probability: each((cell) => [(cell + 1) / (cells + 1), 0.01]).flat(),
        entropy: each((cell) => cell),
        kl: each((cell) => cells - cell - 1),
        next: each((cell) => (cell % 2 === 1 ? null : 1.5)),
        target_probability: each((cell) => [0.1 * cell, 0.001]).flat(),
        target_rank: each((cell) => [cells - cell, 1000]).flat(),
        target_logit: each((cell) => [cell - 2, 0]).flat(),
      },
    ],
    ...changes,
  };
}

/** A map of three layers and three positions, the second prompts' tokens: one site for each position, one with heads. */
export function patching(changes: Record<string, unknown> = {}): Record<string, unknown> {
  const run = (tokens: number[], low: number) => ({
    tokens,
    aligned: [1, 2],
    differs: [1],
    clean: [6, 0.5],
    corrupt: [-4, 0.5],
    defined: [true, false],
    values: {
      // (metric, layer, position): the second position of the first layer brings the clean run back
      residual: [null, 6, low, null, 1, low, null, -4, -4, ...Array(9).fill(0.5)],
      head: [...Array(12).fill(low), 0, 1, 2, 3, 4, 6, ...Array(18).fill(0.5)],
    },
  });
  return {
    version: 1,
    kind: "activation_patching",
    title: "Activation patching",
    provenance: { model: "edif/demo", dtype: "float32" },
    foot: "one pair: no interval",
    layers: [0, 1, 2],
    directions: ["denoise", "noise"],
    metrics: ["logit_difference", "probability"],
    sites: [
      { name: "residual", part: null, parts: 1 },
      { name: "head", part: "head", parts: 2 },
    ],
    together: false,
    pairs: [
      {
        clean: "A Mary",
        corrupt: "A John",
        bos: true,
        answer: [1, 2],
        runs: [run([0, 2, 3], -6), run([0, 1, 3], -4)],
      },
    ],
    mean: null,
    vocabulary: { ids: [1, 2, 3, 4], texts: ["A", " Mary", " John", " to"] },
    ...changes,
  };
}

/** A trace of two kinds on two layers and two tokens, the first of which is the subject. */
export function trace(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    version: 1,
    kind: "causal_trace",
    title: "Causal trace",
    provenance: { model: "edif/demo", dtype: "float32" },
    foot: "4 samples of noise",
    layers: [0, 1],
    kinds: ["state", "mlp"],
    window: 10,
    facts: [
      {
        prompt: "Paris in",
        subject: [0, 1],
        corrupt: null,
        bos: false,
        answer: 2,
        tokens: [0, 1],
        clean: 0.9,
        corrupted: 0.1,
        effect: [0.8, 0, 0.1, 0.4, 0.2, 0, -0.1, 0],
        spread: [0.01, 0, 0.02, 0, 0.03, 0, 0, 0],
      },
    ],
    average: null,
    vocabulary: { ids: [1, 2, 3], texts: ["Paris", " in", " France"] },
    ...changes,
  };
}

/** Two heads on three tokens: the first looks at the token before, the second at the first one. */
export function attention(changes: Record<string, unknown> = {}): Record<string, unknown> {
  const bytes = (...weights: number[]) => btoa(String.fromCharCode(...weights));
  return {
    version: 1,
    kind: "attention",
    title: "Attention",
    provenance: { model: "edif/demo", dtype: "float32" },
    foot: "heads by effect",
    layers: [0, 3],
    heads: [0, 1],
    prompts: [
      {
        prompt: "The city",
        bos: false,
        tokens: [0, 1, 2],
        maps: [
          { layer: 3, head: 1, effect: 0.5, norm: null, weights: bytes(255, 255, 0, 51, 204, 0) },
          { layer: 0, head: 0, effect: null, norm: null, weights: bytes(255, 255, 0, 255, 0, 0) },
        ],
      },
    ],
    vocabulary: { ids: [1, 2, 3], texts: ["The", " city", "\n"] },
    ...changes,
  };
}

/** Two prompts steered on two layers at three strengths, with random directions beside and texts of the first one. */
export function steering(changes: Record<string, unknown> = {}): Record<string, unknown> {
  const prompt = (text: string, half: number) => ({
    prompt: text,
    bos: false,
    tokens: [0, 1],
    answer: [" good", " bad"],
    unsteered: [1, 0],
    // (metric, layer, strength): the second layer turns with the direction
    change: [-1, 0, 1, -4 * half, 0, 4 * half, 0.5, 0, 0.5, 2, 0, 2],
    control: { low: Array(12).fill(-0.5), high: Array(12).fill(0.5) },
    ablated: [-1, -2, 0.1, 0.2],
    top: [1, 2, 2, 1, 1, 2, 1, 2, 2, 1, 1, 2],
    probability: Array(12).fill(0.25),
    texts: ["a", "b", "c", "d", "plain\nwords", "سلام"],
    unsteered_text: "as it was",
  });
  return {
    version: 1,
    kind: "steering",
    title: "Steering",
    provenance: { model: "edif/demo", dtype: "float32" },
    foot: "3 random directions beside",
    layers: [0, 5],
    strengths: [-0.2, 0, 0.2],
    metrics: ["logit_difference", "kl"],
    unit: "norms of the layer’s activations",
    ablations: ["here"],
    top: 2,
    prompts: [prompt("It was", 1), prompt("So it", 0.5)],
    mean: { mean: Array(12).fill(0.5), low: Array(12).fill(0.25), high: Array(12).fill(0.75) },
    vocabulary: { ids: [1, 2, 3], texts: ["It", " was", " great"] },
    ...changes,
  };
}

/** A probe of two layers at two positions, with effects at two strengths. */
export function probe(changes: Record<string, unknown> = {}): Record<string, unknown> {
  const of = (...values: number[]) => ({ mean: values, low: values, high: values });
  const effects = Array.from({ length: 2 * 2 * 2 * 4 }, (_, n) => n / 8 - 2);
  return {
    version: 1,
    kind: "probe",
    title: "Linear probe",
    provenance: { model: "edif/demo", dtype: "float32" },
    foot: "20 prompts",
    layers: [0, 4],
    positions: ["-1 ␣that", "-2"],
    classes: ["she", "he"],
    chance: 0.5,
    unit: "norms of the layer’s activations",
    accuracy: [0.6, 0.5, 1, 0.9],
    low: [0.4, 0.3, 0.8, 0.7],
    high: [0.8, 0.7, 1, 1],
    control: of(0.5, 0.5, 0.5, 0.4),
    towards: ["she", "he"],
    strengths: [-0.4, 0.4],
    effects: of(...effects),
    ...changes,
  };
}

/** Two models that agree on the second token alone, with what each says as a lens. */
export function comparison(changes: Record<string, unknown> = {}): Record<string, unknown> {
  const mean = { mean: [0.5, 1], low: [0.4, 0.9], high: [0.6, 1.1] };
  const side = (model: string) => ({ ...lens(2), title: model, provenance: { model }, targets: [], ...bare });
  const [told] = lens(2).prompts as Record<string, unknown>[];
  const bare = {
    prompts: [
      {
        ...told,
        kl: Array(4).fill(null),
        next: Array(4).fill(null),
        target_probability: [],
        target_rank: [],
        target_logit: [],
      },
    ],
  };
  return {
    version: 1,
    kind: "comparison",
    title: "Two models compared",
    provenance: { model: "one against other", dtype: "float32" },
    foot: "over 12 tokens",
    models: ["one", "other"],
    layers: [
      [0, 1],
      [1, 3],
    ],
    figures: ["kl", "same_top", "rank_correlation"],
    prompts: [
      {
        prompt: "The city",
        tokens: ["The", " city"],
        values: { kl: [2, 0, 1, 0.5], same_top: [0, 1, 0, 1], rank_correlation: [-1, 1, 0, null] },
      },
    ],
    mean: { kl: mean, same_top: mean, rank_correlation: mean },
    sides: [side("one"), side("other")],
    ...changes,
  };
}

/** Traces by window and noise; that of the wide window with much noise was not made. */
export function series(changes: Record<string, unknown> = {}): Record<string, unknown> {
  const [fact] = trace().facts as Record<string, unknown>[];
  const weak = [{ ...fact, effect: [0.4, 0, 0, 0, 0, 0, 0, 0] }];
  return {
    version: 1,
    kind: "together",
    title: "Causal trace",
    layout: "series",
    axes: [
      { name: "window", values: ["5", "10"] },
      { name: "noise", values: ["1", "3"] },
    ],
    places: [0, 1, 2, null],
    results: [trace({ window: 5 }), trace({ window: 5, facts: weak }), trace()],
    ...changes,
  };
}
