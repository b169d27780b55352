/* Gradio gives the example photos' buttons no name for screen readers: the photo's file name is one. */
() => {
  const name = () => document.querySelectorAll("button.gallery-item:not([aria-label])").forEach((button) => {
    const image = button.querySelector("img");
    if (image) button.setAttribute("aria-label", "Example photo " + decodeURIComponent(image.src.split("/").pop()));
  });
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
  name();
}
