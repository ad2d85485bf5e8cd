/** Short messages: seen for some seconds, and spoken by screen readers. */
import { signal } from "@preact/signals";
import { t } from "./i18n";

interface Toast { id: number; text: string; kind: "info" | "error"; action?: { label: string; run: () => void } }
const toasts = signal<Toast[]>([]);
const spoken = signal("");
let last = 0;

export function toast(text: string, kind: Toast["kind"] = "info", action?: Toast["action"]): void {
  const id = ++last;
  toasts.value = [...toasts.value.slice(-2), { id, text, kind, action }];
  setTimeout(() => drop(id), kind === "error" || action ? 12_000 : 4000);
}

/** Has screen readers say something that is seen elsewhere. */
export function say(text: string): void {
  spoken.value = spoken.value === text ? text + "\u00a0" : text;
}

const drop = (id: number): void => { toasts.value = toasts.value.filter((one) => one.id !== id); };

export function Toasts() {
  return <>
    <div class="hidden" role="status" aria-live="polite">{spoken.value}</div>
    <div class="toasts" role="log" aria-live="polite" aria-label={t("messages")}>
      {toasts.value.map((one) => <div key={one.id} class={"toast " + one.kind}>
        <span>{one.text}</span>
        {one.action && <button class="link" onClick={() => { drop(one.id); one.action!.run(); }}>{one.action.label}</button>}
        <button class="icon" aria-label={t("close")} onClick={() => drop(one.id)}>×</button>
      </div>)}
    </div>
  </>;
}
