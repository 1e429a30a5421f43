// A job's line as it arrives, and the reading of untrusted data into it.  Called by result.ts.
import { type Fields, line, record, whole } from "./fields.ts";

const MOST_LINES = 1000;
const STATES = [
  "RECEIVED",
  "QUEUED",
  "PROVISIONING",
  "DEPLOYING",
  "DISPATCHED",
  "RUNNING",
  "COMPLETED",
  "ERROR",
  "CANCELLED",
] as const;
export type JobState = (typeof STATES)[number];

export interface JobData {
  kind: "job";
  state: JobState;
  /** Why it waits, or how it ended. */
  description: string;
  done: number;
  total: number;
  /** Seconds that are left; undefined where nobody knows. */
  left: number | undefined;
  /** Since it was sent. */
  seconds: number;
  log: string[];
  error: { line: string; cause: string } | undefined;
  /** Whether the result says all there is to say. */
  folded: boolean;
  /** What is known so far, as a result of its own. */
  result: unknown;
}

export function readJob(fields: Fields): JobData {
  const { error, log, left_s: left, seconds, result } = fields;
  const said = error == null ? undefined : record(error, "Its error");
  return {
    kind: "job",
    state: STATES.find((name) => name === fields.state) ?? "RECEIVED",
    description: line(fields, "description") ?? "",
    done: whole(fields, "done", 0, 1e9),
    total: whole(fields, "total", 0, 1e9),
    left: finite(left),
    seconds: finite(seconds) ?? 0,
    log: (Array.isArray(log) ? log : []).filter((one) => typeof one === "string").slice(-MOST_LINES),
    error: said && { line: line(said, "line") ?? "", cause: line(said, "cause") ?? "" },
    folded: fields.folded === true,
    result,
  };
}

function finite(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}
