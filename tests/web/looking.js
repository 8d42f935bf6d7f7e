/* Runs in the page: what is drawn wrongly, as sentences. tests/web/test_views.py says what it is for. */
() => {
  const found = [];
  const CLOSE = 1.5;
  const name = (element) =>
    element.tagName.toLowerCase() +
    (typeof element.className === "string" && element.className ? "." + element.className.trim().split(/\s+/).join(".") : "") +
    ` "${(element.textContent ?? "").trim().slice(0, 30)}"`;
  const style = new Map();
  const styleOf = (element) => {
    if (!style.has(element)) style.set(element, getComputedStyle(element));
    return style.get(element);
  };
  const ancestors = (element) => {
    const all = [];
    for (let at = element; at !== null && at !== document.body; at = at.parentElement) all.push(at);
    return all;
  };
  const visible = (element) => element.checkVisibility({ visibilityProperty: true }) && !ancestors(element).some((at) => at.matches(".for-readers"));
  const dialog = document.querySelector("dialog[open]");
  const root = dialog ?? document.getElementById("app");
  // Word by word: blanks at the end of a line may hang out of their box, and nobody sees them.
  const wordsOf = (node) =>
    [...node.data.matchAll(/\S+/g)].flatMap((word) => {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      return [...range.getClientRects()];
    });
  const scrolls = (element) => /auto|scroll/.test(styleOf(element).overflowY);

  if (document.documentElement.scrollWidth > innerWidth) found.push(`the page is ${document.documentElement.scrollWidth} wide, the window ${innerWidth}`);

  // Text stays in all boxes around it, up to one that cuts it with an ellipsis or scrolls.
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (node.data.trim() === "" || !visible(parent) || parent.closest("textarea")) continue;
    for (const rect of wordsOf(node)) {
      if (rect.width === 0) continue;
      for (const at of ancestors(parent)) {
        const box = at.getBoundingClientRect();
        // Boxes of flex and grid draw none, and cut.
        const ellipsis = styleOf(at).textOverflow === "ellipsis" && styleOf(at).overflowX === "hidden" && !/flex|grid/.test(styleOf(at).display);
        if (ellipsis) break;
        // A badge sits on the edge of what it belongs to.
        if (at !== parent && ancestors(parent).slice(0, ancestors(parent).indexOf(at)).some((inner) => styleOf(inner).position === "absolute")) break;
        if (styleOf(at).display === "inline") continue;
        if (rect.left < box.left - CLOSE || rect.right > box.right + CLOSE) {
          found.push(`text of ${name(parent)} leaves ${name(at)} sideways: ${rect.left}..${rect.right} of ${box.left}..${box.right}`);
          break;
        }
        if (scrolls(at) || at.matches(".person-name, .change-text")) break;
        if (rect.top < box.top - 3 || rect.bottom > box.bottom + 3) {
          found.push(`text of ${name(parent)} leaves ${name(at)} up or down: ${rect.top}..${rect.bottom} of ${box.top}..${box.bottom}`);
          break;
        }
      }
    }
    if (found.length > 20) break;
  }

  for (const element of root.querySelectorAll("*")) {
    if (!visible(element) || element.closest("svg") !== null) continue;
    const rect = element.getBoundingClientRect();
    if (rect.width > 0 && (rect.left < -CLOSE || rect.right > innerWidth + CLOSE) && !ancestors(element.parentElement).some((at) => styleOf(at).overflowX !== "visible")) {
      found.push(`${name(element)} is beyond the window`);
    }
    // Siblings don't cover each other, unless they are meant to.
    if (!/flex|grid/.test(styleOf(element).display)) continue;
    const boxes = [...element.children].filter((child) => visible(child) && !/absolute|fixed|sticky/.test(styleOf(child).position)).map((child) => [child, child.getBoundingClientRect()]);
    boxes.forEach(([one, a], i) => {
      for (const [other, b] of boxes.slice(i + 1)) {
        const over = Math.min(a.right, b.right) - Math.max(a.left, b.left) > CLOSE && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > CLOSE;
        if (over && a.width > 0 && b.width > 0) found.push(`${name(one)} covers ${name(other)}`);
      }
    });
    // A flex item that is squeezed to nothing can't be read.
    for (const [child, box] of boxes) if (box.width < 4 && (child.textContent ?? "").trim() !== "" && !child.matches("bdi, .error, .hint")) found.push(`${name(child)} has no width`);
  }

  // On narrow screens fingers need 44 pixels.
  if (innerWidth < 720) {
    for (const element of root.querySelectorAll("button, input, textarea, .chat-link")) {
      const rect = element.getBoundingClientRect();
      if (visible(element) && (rect.width < 43.5 || rect.height < 43.5)) found.push(`${name(element)} is ${rect.width} × ${rect.height}: too small for a finger`);
    }
  }
  return [...new Set(found)].slice(0, 20);
}
