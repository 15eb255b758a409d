/** Where one writes: text, files by button, paste and drop. */
import { el, icon } from "./dom";
import type { Words } from "./words";

const DRAFT_CHARS_MAX = 16_384;

export interface ComposerNeeds {
  words: Words;
  /** Resolves when it is kept; the box is emptied then. */
  onsend: (text: string) => Promise<void>;
  onfiles: (files: File[]) => void;
  ontyping: (on: boolean) => void;
}

export class Composer {
  readonly element: HTMLElement;
  readonly box: HTMLTextAreaElement;
  private readonly sender: HTMLButtonElement;

  constructor(private readonly needs: ComposerNeeds) {
    const { words } = needs;
    this.box = el("textarea", "box", {
      rows: "1",
      dir: "auto",
      enterkeyhint: "send",
      maxlength: String(DRAFT_CHARS_MAX),
      "aria-label": words.say("placeholder"),
    });
    const picker = el("input", "hidden", { type: "file", multiple: true, tabindex: "-1", "aria-hidden": "true" });
    const attach = el("button", "round quiet", { type: "button", "aria-label": words.say("attach"), title: words.say("attach") }, icon("clip"));
    this.sender = el("button", "round send", { type: "submit", "aria-label": words.say("send"), title: words.say("send"), disabled: true }, icon("send"));
    this.element = el("form", "composer", {}, picker, attach, this.box, this.sender);

    attach.addEventListener("click", () => picker.click());
    picker.addEventListener("change", () => {
      needs.onfiles([...(picker.files ?? [])]);
      picker.value = "";
    });
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.send();
    });
    this.box.addEventListener("keydown", (event) => {
      // While an input method composes, Enter chooses a word; old engines say so only by the key code.
      const composing = event.isComposing || event.keyCode === 229;
      if (event.key !== "Enter" || event.shiftKey || composing) return;
      event.preventDefault();
      void this.send();
    });
    this.box.addEventListener("input", () => {
      this.fit();
      needs.ontyping(this.box.value.trim() !== "");
    });
    this.box.addEventListener("blur", () => needs.ontyping(false));
    this.box.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      needs.onfiles(files);
    });
  }

  name(placeholder: string): void {
    this.box.placeholder = placeholder;
    this.box.setAttribute("aria-label", placeholder);
  }

  /** Takes files that are dropped anywhere on `area`. */
  takeDrops(area: HTMLElement, veil: HTMLElement): void {
    const carries = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    area.addEventListener("dragover", (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      veil.hidden = false;
    });
    area.addEventListener("dragleave", (event) => {
      if (!area.contains(event.relatedTarget as Node | null)) veil.hidden = true;
    });
    area.addEventListener("drop", (event) => {
      veil.hidden = true;
      if (!carries(event)) return;
      event.preventDefault();
      this.needs.onfiles([...(event.dataTransfer?.files ?? [])]);
    });
  }

  private async send(): Promise<void> {
    const text = this.box.value.trim();
    if (!text) return;
    const before = this.box.value;
    // Emptied at once, so that a second Enter cannot send it twice; given back when it could not be kept.
    this.box.value = "";
    this.fit();
    try {
      await this.needs.onsend(text);
    } catch {
      if (!this.box.value) this.box.value = before;
      this.fit();
    }
  }

  private fit(): void {
    this.sender.disabled = this.box.value.trim() === "";
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight}px`;
  }
}
