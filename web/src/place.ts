/** Which view is open, and what another view handed to it. */
import { signal } from "@preact/signals";
import type { Shown } from "./api";

export const VIEWS = ["draw", "edit", "gallery", "more", "models", "learn"] as const;
export type View = (typeof VIEWS)[number];

const here = (): View => (VIEWS.find((one) => one === location.hash.slice(1)) ?? "draw");
export const view = signal<View>(here());
addEventListener("hashchange", () => { view.value = here(); });

export function open(name: View): void {
  location.hash = name;
}

/** A file that was dropped onto the page. */
export const dropped = signal<File | null>(null);
/** A picture of the gallery that another view works on. */
export const sent = signal<Shown | null>(null);
/** The picture that is shown large, and the list that it is one of. */
export const detail = signal<{ shown: Shown; list: Shown[] } | null>(null);
