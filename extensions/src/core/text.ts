// Turns token text and figures into what a reader sees.  Called by the views of the core.

const SIGNS: Record<string, string> = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" };

// Control, format (among them: direction overrides, zero-width marks), surrogate and private characters, other blanks.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zs}\p{Zl}\p{Zp}]/gu;

/** Token text with every blank and unseen character made visible: a space is ␣, a newline ↵, others are ⟨U+200B⟩. */
export function visibleToken(text: string): string {
  if (text === "") return "∅";
  return text.replace(UNSEEN, (found) => SIGNS[found] ?? codePoint(found));
}

/** The text of a token that is a place in a vocabulary; a dash where there is none (-1). */
export function wordOf({ texts }: { texts: string[] }, token: number): string {
  return token < 0 ? "–" : visibleToken(texts[token] as string);
}

/** Running text (title, prompt, foot) on one line: plain spaces stay, everything else unseen is made visible. */
export function visibleLine(text: string): string {
  return text.replace(UNSEEN, (found) => (found === " " ? found : (SIGNS[found] ?? codePoint(found))));
}

function codePoint(found: string): string {
  const hex = (found.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0");
  return `⟨U+${hex}⟩`;
}

/** A probability with three decimals, or in powers of ten where three decimals would show nothing. */
export function probabilityFigure(probability: number): string {
  if (probability !== 0 && probability < 0.0005) return probability.toExponential(1).replace("-", "−");
  return probability.toFixed(3);
}

/** A logit with two decimals and a true minus sign. */
export function logitFigure(logit: number): string {
  return (Math.abs(logit) < 1e6 ? logit.toFixed(2) : logit.toExponential(2)).replaceAll("-", "−");
}

/** An effect with its sign and three decimals, or in powers of ten where three decimals would show nothing. */
export function signedFigure(value: number): string {
  const size = Math.abs(value);
  const text = size !== 0 && (size < 0.0005 || size >= 1e6) ? size.toExponential(1) : size.toFixed(3);
  return `${value < 0 ? "−" : size === 0 ? "" : "+"}${text.replace("-", "−")}`;
}
