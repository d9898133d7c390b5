for (const math of document.querySelectorAll(".arithmatex")) {
  const tex = math.textContent.slice(2, -2); // without \( \) or \[ \]
  katex.render(tex, math, {displayMode: math.tagName === "DIV", throwOnError: false});
  const after = math.nextSibling;
  const marks = /^[.,;:!?)]+/.exec(after?.data);
  if (marks) { // into the unbreakable end of the formula, so that no line begins with a comma
    math.querySelector(".katex-html").lastChild.append(marks[0]);
    after.data = after.data.slice(marks[0].length);
  }
}

const pane = document.querySelector(".reading details pre");
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
let pinned = null; // the key of what was clicked, or of where the keyboard is
let follows = true; // whether the code follows the text; a click that scrolls the text pauses it
let here = null; // the key of the equation that is being read

// Lights up what has this key, and nothing else.
function light(key) {
  for (const lit of document.querySelectorAll(".lit")) lit.classList.remove("lit");
  for (const tied of document.querySelectorAll(`[data-key="${key}"]`)) tied.classList.add("lit");
}

// Scrolls the pane so that a line stands a third down.
function scrollPane(line, behavior) {
  const distance = line.getBoundingClientRect().top - pane.getBoundingClientRect().top;
  pane.scrollTo({top: pane.scrollTop + distance - pane.clientHeight / 3, behavior});
}

// Shows the other side of what was pointed at. The side where the reader is stays where it is.
function showOther(from) {
  const behavior = calm ? "auto" : "smooth";
  if (from.matches(".equation")) {
    const line = pane.querySelector(".line.lit");
    if (line) scrollPane(line, behavior);
  } else {
    follows = false;
    document.querySelector(".equation.lit")?.scrollIntoView({block: "center", behavior});
  }
}

// Shows the lines of the equation that is being read: the last one above the middle of the text.
function follow() {
  if (!follows || pinned || document.querySelector(".equation:hover")) return;
  const visible = matchMedia("(max-width: 76.2344em)").matches ? 0.6 : 1; // the code covers the rest
  const middle = innerHeight * visible / 2;
  let read = null;
  for (const equation of document.querySelectorAll(".equation")) {
    if (equation.getBoundingClientRect().top < middle) read = equation;
  }
  const key = read?.dataset.key ?? null;
  if (key === here) return;
  here = key;
  for (const old of document.querySelectorAll(".here")) old.classList.remove("here");
  if (key === null) return;
  for (const tied of document.querySelectorAll(`[data-key="${key}"]`)) tied.classList.add("here");
  const line = pane.querySelector(".line.here");
  if (line) scrollPane(line, calm ? "auto" : "smooth");
}

function readerScrolls(event) {
  if (event.target.closest?.(".reading details pre")) return;
  follows = true;
  if (pinned === null) return;
  pinned = null;
  light(null);
}

function tied(event) {
  return event.target.closest?.("[data-key]");
}

if (pane) {
  const lines = [...pane.querySelectorAll(".line")];
  const algorithm = lines.find(line => line.textContent.startsWith("# ── 5"));
  if (algorithm) scrollPane(algorithm, "instant");

  document.addEventListener("scroll", () => requestAnimationFrame(follow), {passive: true});
  document.addEventListener("wheel", readerScrolls, {passive: true});
  document.addEventListener("touchmove", readerScrolls, {passive: true});

  document.addEventListener("pointerover", event => {
    if (event.pointerType !== "mouse") return;
    const element = tied(event);
    light(element ? element.dataset.key : pinned);
    if (element?.matches(".equation")) showOther(element);
  });

  document.addEventListener("focusin", event => {
    const element = tied(event);
    if (!element) return;
    pinned = element.dataset.key;
    light(pinned);
    if (element.matches(".equation")) showOther(element);
  });

  document.addEventListener("click", event => {
    if (event.target.closest("a[href]:not([href^='#'])")) return;
    const element = tied(event);
    pinned = element ? element.dataset.key : null;
    light(pinned);
    if (element) {
      showOther(element);
      event.preventDefault();
    }
  });

  document.addEventListener("keydown", event => {
    if (/^(Page|Arrow|Home|End| )/.test(event.key)) readerScrolls(event);
    if (event.key !== "Escape") return;
    pinned = null;
    light(null);
  });
}
