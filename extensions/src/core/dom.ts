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
