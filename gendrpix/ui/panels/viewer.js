// The keyboard of the slider, and the loupe. Runs as js_on_load of viewer.py's gr.HTML: element, props, watch are Gradio's.
// Gradio's ImageSlider has no keys and its divider no interface: the divider is moved by the mouse events it listens to.

const view = element.closest("#view");
const lenses = element.querySelector(".lenses");
const zoom = element.querySelector("input");
const LENS_STEP_PX = 8;
let point = null; // of the loupe: across and down, 0 to 1
let size = null; // of the pictures, in pixels

const handle = () => view.querySelector('#slider [data-testid="slider"]');
const images = () => [...view.querySelectorAll("#slider img")];

// Where a picture's pixels are within a box that is not of its shape: centred, as large as they fit.
function contained(box, image) {
  const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
  const width = image.naturalWidth * scale;
  const height = image.naturalHeight * scale;
  return { left: box.left + (box.width - width) / 2, top: box.top + (box.height - height) / 2, width, height };
}

// The divider ---------------------------------------------------------------------------------------------------------

function dividerShare() {
  const frame = handle().parentElement.getBoundingClientRect();
  const area = contained(images()[0].parentElement.getBoundingClientRect(), images()[0]);
  const shift = new DOMMatrix(getComputedStyle(handle()).transform).m41;
  return Math.min(1, Math.max(0, (frame.left + shift - area.left) / area.width));
}

function moveDivider(share) {
  const bar = handle();
  const area = contained(images()[0].parentElement.getBoundingClientRect(), images()[0]);
  const from = bar.getBoundingClientRect();
  const y = from.top + from.height / 2;
  const grabbed = area.left + dividerShare() * area.width;
  const mouse = (type, x) => new MouseEvent(type, { bubbles: true, cancelable: true, view: window, clientX: x, clientY: y });
  bar.dispatchEvent(mouse("mousedown", grabbed));
  window.dispatchEvent(mouse("mousemove", area.left + Math.min(1, Math.max(0, share)) * area.width));
  window.dispatchEvent(mouse("mouseup", area.left));
  requestAnimationFrame(describe);
}

// What Tab and a screen reader find. Gradio makes the divider anew with the first picture.
function describe() {
  const bar = handle();
  if (!bar || !images().length) return;
  const named = (id) => view.querySelector(`#${id} input:checked`)?.closest("label").innerText.trim() ?? "";
  const shown = Math.round(100 * dividerShare());
  const said = {
    role: "slider",
    tabindex: "0",
    "aria-label": "Divider between the left and the right picture",
    "aria-valuemin": "0",
    "aria-valuemax": "100",
    "aria-valuenow": String(shown),
    "aria-valuetext": `${shown}% ${named("left")}, ${100 - shown}% ${named("right")}`,
  };
  for (const [name, value] of Object.entries(said)) if (bar.getAttribute(name) !== value) bar.setAttribute(name, value);
  images().forEach((image, side) => {
    const alt = `${["Left", "Right"][side]}: ${named(["left", "right"][side])}`;
    if (image.alt !== alt) image.alt = alt;
  });
}

new MutationObserver(() => requestAnimationFrame(describe)).observe(view, { childList: true, subtree: true });
view.addEventListener("mouseup", () => requestAnimationFrame(describe));

const STEPS = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 };

view.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !handle()) return;
  const digit = /^Digit([1-9])$/.exec(event.code)?.[1];
  if (digit) {
    const side = event.shiftKey ? "left" : "right";
    view.querySelectorAll(`#${side} input[type=radio]`)[digit - 1]?.click();
  } else if (event.key.toLowerCase() === "f") {
    moveDivider(dividerShare() > 0.5 ? 0 : 1);
  } else if (event.key.toLowerCase() === "l") {
    point ??= [0.5, 0.5];
    magnify();
    lenses.focus();
  } else if (event.target === handle() && event.key in STEPS) {
    moveDivider(dividerShare() + STEPS[event.key] * (event.shiftKey ? 5 : 1));
  } else if (event.target === lenses && moveLoupe(event.key)) {
    // the loupe has moved
  } else {
    return;
  }
  event.preventDefault();
});

// The loupe -----------------------------------------------------------------------------------------------------------

let pressed = null;
view.addEventListener("pointerdown", (event) => {
  pressed = event.target.matches("#slider img") ? [event.clientX, event.clientY] : null;
});
view.addEventListener("pointerup", (event) => {
  if (!pressed || Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > 4) return;
  const image = images()[0];
  const area = contained(image.getBoundingClientRect(), image);
  point = [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height];
  handle().focus({ preventScroll: true });
  magnify();
});

function moveLoupe(key) {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  if (steps) point = point.map((place, axis) => place + (steps[axis] * LENS_STEP_PX) / size[axis]);
  else if (key === "+" || key === "-") zoom.value = Number(zoom.value) + (key === "+" ? 1 : -1);
  else return false;
  magnify();
  return true;
}

// Every lens shows the same place, each pixel of the picture as a square of `zoom` pixels.
function magnify() {
  const image = images()[0];
  const pictures = props.value ?? [];
  if (!point || !pictures.length || !image?.naturalWidth) return;
  element.querySelector(".loupe").hidden = false;
  size = [image.naturalWidth, image.naturalHeight];
  point = point.map((place) => Math.min(1, Math.max(0, place)));
  lenses.replaceChildren(...pictures.map(({ label, file }) => {
    const figure = document.createElement("figure");
    const lens = document.createElement("div");
    lens.style.backgroundImage = `url(${JSON.stringify(file.url)})`;
    const caption = document.createElement("figcaption");
    caption.textContent = label;
    figure.append(lens, caption);
    return figure;
  }));
  for (const lens of lenses.querySelectorAll("figure > div")) {
    const room = [lens.clientWidth, lens.clientHeight];
    const places = point.map((place, axis) => {
      const length = size[axis] * zoom.value;
      const start = Math.round(room[axis] / 2 - place * length);
      return length <= room[axis] ? (room[axis] - length) / 2 : Math.min(0, Math.max(room[axis] - length, start));
    });
    lens.style.backgroundSize = size.map((length) => `${length * zoom.value}px`).join(" ");
    lens.style.backgroundPosition = places.map((place) => `${place}px`).join(" ");
  }
  const where = point.map((place, axis) => Math.min(size[axis] - 1, Math.floor(place * size[axis])));
  element.querySelector("output").textContent = `${zoom.value}× at ${where[0]}, ${where[1]}`;
}

zoom.addEventListener("input", magnify);
window.addEventListener("resize", magnify);
// The slider's picture gives the size; it may load after the list of pictures has come.
view.addEventListener("load", (event) => event.target.matches("#slider img") && magnify(), true);
watch("value", magnify);
