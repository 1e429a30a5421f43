// Makes elements out of data without ever parsing data as markup.  Called by every view of the core.

export interface Traits {
  class?: string;
  text?: string;
  attributes?: Record<string, string>;
  style?: Record<string, string>;
}

/** An element of this document; `text` becomes a text node, so nothing in a result can become markup. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  traits: Traits = {},
  ...children: Node[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (traits.class !== undefined) made.className = traits.class;
  if (traits.text !== undefined) made.textContent = traits.text;
  for (const [name, value] of Object.entries(traits.attributes ?? {})) made.setAttribute(name, value);
  for (const [name, value] of Object.entries(traits.style ?? {})) made.style.setProperty(name, value);
  made.append(...children);
  return made;
}

/** An element of a drawing of lines. */
export function line<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Record<string, string | number>,
  ...children: Node[]
): SVGElementTagNameMap[K] {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}
