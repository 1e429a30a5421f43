// The results that this front end can draw, and the reading of untrusted data into them.  Called by draw.ts.
//
// Everything that arrives here is hostile: a saved notebook may hold anything under our MIME type.

import { type AttentionData, readAttention } from "./attention-result.ts";
import { type ComparisonData, readComparison } from "./comparison-result.ts";
import { type Fields, line, MAX_TOKEN_CHARACTERS, record, Unreadable, viewOf } from "./fields.ts";
import { type JobData, readJob } from "./job-result.ts";
import { type LensData, readLens } from "./lens-result.ts";
import { type PatchingData, readPatching, readTrace, type TraceData } from "./maps-result.ts";
import { type ProbeData, readProbe } from "./probe-result.ts";
import { readSteering, type SteeringData } from "./steering-result.ts";
import { readTogether, type TogetherData } from "./together-result.ts";

export { Unreadable };

export const MIME_TYPE = "application/vnd.edif.result.v1+json";
export const VERSION = 1;

/** More rows than this are counted at the end, not drawn. */
export const MAX_ROWS = 200;
export interface Provenance {
  model?: string;
  dtype?: string;
  bos?: string;
  prompt?: string;
}

export interface Token {
  id: number;
  text: string;
  probability: number;
  logit: number;
}

export interface NextTokens extends Frame {
  kind: "next_tokens";
  /** The metric that the reader had chosen. */
  metric: string;
  tokens: Token[];
}

/** What every kind of result has. */
export interface Frame {
  title: string;
  provenance: Provenance;
  foot: string;
  /** What the kernel that has made it calls it, for what can be done next; undefined where nothing can. */
  handle: string | undefined;
  /** The result as it arrived. */
  raw: Fields;
}
export type Lens = Frame & LensData;
export type Patching = Frame & PatchingData;
export type Trace = Frame & TraceData;
export type Attention = Frame & AttentionData;
export type Job = Frame & JobData;
export type Steering = Frame & SteeringData;
export type Probe = Frame & ProbeData;
export type Comparison = Frame & ComparisonData;
export type Together = Frame & TogetherData;
export type Result =
  | Job
  | NextTokens
  | Lens
  | Patching
  | Trace
  | Attention
  | Steering
  | Probe
  | Comparison
  | Together;

/** How each kind is read, and what it is called where it has no title of its own. */
const READERS: Record<string, [string, (fields: Fields) => Data]> = {
  logit_lens: ["Logit lens", readLens],
  activation_patching: ["Activation patching", readPatching],
  causal_trace: ["Causal trace", readTrace],
  attention: ["Attention", readAttention],
  steering: ["Steering", readSteering],
  probe: ["Linear probe", readProbe],
  comparison: ["Two models compared", readComparison],
  together: ["Results together", readTogether],
  job: ["job", readJob],
};
type Data =
  | LensData
  | PatchingData
  | TraceData
  | AttentionData
  | SteeringData
  | ProbeData
  | ComparisonData
  | TogetherData
  | JobData;

/** The result in `data`.  Throws `Unreadable` where `data` is not a result of a kind and version known here. */
export function readResult(data: unknown): Result {
  const fields = record(data, "The result");
  const { version } = fields;
  if (version !== undefined && version !== VERSION) {
    throw new Unreadable(
      `This result is of version ${named(version)}, this viewer reads version ${VERSION}: open it with a newer workbench.`,
    );
  }
  if (fields.kind === "next_tokens") return readNextTokens(fields);
  if (typeof fields.kind === "string" && Object.hasOwn(READERS, fields.kind)) {
    const [title, read] = READERS[fields.kind] as (typeof READERS)[string];
    return { ...readFrame(fields, title), ...read(fields) };
  }
  throw new Unreadable(
    `This viewer does not know the kind of result ${named(fields.kind)}: open it with a newer workbench.`,
  );
}

function readNextTokens(fields: Fields): NextTokens {
  const { tokens } = fields;
  if (!Array.isArray(tokens) || tokens.length === 0) {
    throw new Unreadable("This result cannot be drawn: it has no list of tokens.");
  }
  return {
    kind: "next_tokens",
    ...readFrame(fields, "Next token"),
    metric: line(viewOf(fields), "metric") ?? "",
    tokens: tokens.map(readToken),
  };
}

function readFrame(fields: Fields, title: string): Frame {
  return {
    title: line(fields, "title") ?? title,
    provenance: readProvenance(fields.provenance ?? {}),
    foot: line(fields, "foot") ?? "",
    handle: handleOf(fields),
    raw: fields,
  };
}

/** It goes into code, so it is letters and digits or nothing. */
function handleOf({ handle }: Fields): string | undefined {
  return typeof handle === "string" && /^[a-z0-9]{1,40}$/.test(handle) ? handle : undefined;
}

function readProvenance(data: unknown): Provenance {
  const fields = record(data, "Its provenance");
  const read: Provenance = {};
  for (const name of ["model", "dtype", "prompt"] as const) {
    const value = line(fields, name);
    if (value !== undefined) read[name] = value;
  }
  const bos = typeof fields.bos === "boolean" ? (fields.bos ? "BOS" : "no BOS") : line(fields, "bos");
  if (bos !== undefined) read.bos = bos;
  return read;
}

function readToken(data: unknown, index: number): Token {
  const fields = record(data, `Token ${index + 1}`);
  const { text } = fields;
  if (typeof text !== "string" || text.length > MAX_TOKEN_CHARACTERS) {
    throw new Unreadable(
      `This result cannot be drawn: token ${index + 1} has no text, or more than a token has.`,
    );
  }
  const probability = finite(fields.probability, index, "probability");
  if (probability < 0 || probability > 1.000_001) {
    throw new Unreadable(
      `This result cannot be drawn: the probability of token ${index + 1} is not within 0 and 1.`,
    );
  }
  return {
    id: finite(fields.id, index, "id"),
    text,
    probability: Math.min(probability, 1),
    logit: finite(fields.logit, index, "logit"),
  };
}

function finite(value: unknown, index: number, name: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) {
    throw new Unreadable(`This result cannot be drawn: the ${name} of token ${index + 1} is not a number.`);
  }
  return value;
}

function named(value: unknown): string {
  if (typeof value === "string") return `“${value.slice(0, 80)}”`;
  return typeof value === "number" ? String(value) : "(none)";
}
