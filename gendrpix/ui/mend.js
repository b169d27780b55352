/* What Gradio's markup lacks for keyboards and screen readers: the example photos' buttons have no name, the photo's
   file name is one; tables wider than their place can only be scrolled by keyboard if they can be focused. */
() => {
  const mend = () => {
    document.querySelectorAll("button.gallery-item:not([aria-label])").forEach((button) => {
      const image = button.querySelector("img");
      if (image) button.setAttribute("aria-label", "Example photo " + decodeURIComponent(image.src.split("/").pop()));
    });
    document.querySelectorAll(":is(#scorecard, .scores):not([tabindex])").forEach((table) => {
      table.tabIndex = 0;
      table.setAttribute("role", "region");
      table.setAttribute("aria-label", "Table of figures");
    });
  };
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
  mend();
}
