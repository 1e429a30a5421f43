// A linear probe as it arrives, and the reading of untrusted data into it.  Called by result.ts.
import { bounded, type Fields, layersOf, line, names, numbers, record } from "./fields.ts";
import { type MapChoice, mapChoiceOf } from "./maps-result.ts";

/** A figure with what it lies between. */
export interface Interval {
  mean: number[];
  low: number[];
  high: number[];
}

/** Accuracies are flat, (layer, position); effects (layer, position, towards, column). */
export interface ProbeData {
  kind: "probe";
  view: MapChoice;
  layers: number[];
  positions: string[];
  classes: string[];
  /** Accuracy of always saying the most frequent class. */
  chance: number;
  accuracy: Interval;
  /** Probes on shuffled labels: their mean, least and most. */
  control: Interval;
  towards: string[];
  strengths: number[];
  /** Columns: one for each strength, then swapped and interchanged; undefined where none were computed. */
  effects: Interval | undefined;
  /** Why there are none. */
  lacking: string;
  unit: string;
}

export function readProbe(fields: Fields): ProbeData {
  const layers = layersOf(fields);
  const positions = names(fields, "positions", 4000);
  const cells = bounded(layers.length * positions.length);
  const towards = names(fields, "towards", 100);
  const strengths = Array.isArray(fields.strengths)
    ? numbers(fields, "strengths", fields.strengths.length)
    : [];
  const columns = strengths.length + 2;
  bounded(layers.length * (columns + 2));
  const { accuracy, low, high } = fields;
  return {
    kind: "probe",
    view: mapChoiceOf(fields),
    layers,
    positions,
    classes: names(fields, "classes", 100),
    chance: numbers({ chance: [fields.chance] }, "chance", 1)[0] as number,
    accuracy: intervalOf({ mean: accuracy, low, high }, cells),
    control: intervalOf(record(fields.control, "Its control"), cells),
    towards,
    strengths,
    effects:
      fields.effects == null
        ? undefined
        : intervalOf(record(fields.effects, "Its effects"), cells * towards.length * columns),
    lacking: line(fields, "lacking") ?? "name answers=…",
    unit: line(fields, "unit") ?? "",
  };
}

function intervalOf(fields: Fields, count: number): Interval {
  const of = (name: string): number[] => numbers(fields, name, count);
  return { mean: of("mean"), low: of("low"), high: of("high") };
}
