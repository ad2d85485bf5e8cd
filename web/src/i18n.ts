/** Words of the page in the reader's language; English where there is no other. */
import { signal } from "@preact/signals";
import english from "./messages/en.json";

export const LANGUAGES = { en: "English", th: "ไทย", zh: "中文", id: "Bahasa Indonesia", uk: "Українська", ja: "日本語" } as const;
export type Language = keyof typeof LANGUAGES;
export type Key = keyof typeof english;

const files = import.meta.glob<{ default: Record<string, string> }>(["./messages/*.json", "!./messages/en.json"]);
const messages = signal<Record<string, string>>(english);
export const language = signal<Language>("en");

/** The language that was chosen before, else the browser's. */
export function preferred(): Language {
  const wanted = [localStorage.getItem("language") ?? "", ...navigator.languages].map((one) => one.slice(0, 2));
  return (wanted.find((one) => one in LANGUAGES) as Language | undefined) ?? "en";
}

export async function chooseLanguage(name: Language): Promise<void> {
  messages.value = name === "en" ? english : { ...english, ...(await files[`./messages/${name}.json`]!()).default };
  language.value = name;
  document.documentElement.lang = name;
}

/** The text of a key, with {names} filled in. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  return (messages.value[key] ?? key).replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

export function duration(seconds: number): string {
  const whole = Math.max(1, Math.round(seconds));
  return whole < 90 ? t("seconds", { n: whole }) : t("minutes", { n: Math.round(whole / 60) });
}

export function date(seconds: number): string {
  return new Date(seconds * 1000).toLocaleString(language.value, { dateStyle: "medium", timeStyle: "short" });
}
