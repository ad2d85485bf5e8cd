/** The frame of the page: navigation, theme, language, and the view that is open. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { locked } from "./api";
import { loadModels } from "./form";
import { chooseLanguage, language, LANGUAGES, t, type Key, type Language } from "./i18n";
import { active, connected } from "./jobs";
import { Detail } from "./parts/detail";
import { Login } from "./parts/login";
import { Toasts } from "./toasts";
import { Draw } from "./views/draw";
import { Edit } from "./views/edit";
import { Gallery } from "./views/gallery";
import { Learn } from "./views/learn";
import { Models } from "./views/models";
import { More } from "./views/more";
import { dropped, open, view, VIEWS, type View } from "./place";

const SHOWN: Record<View, () => preact.JSX.Element> = {
  draw: Draw, edit: Edit, gallery: Gallery, more: More, models: Models, learn: Learn,
};
const SIGNS: Record<View, string> = {
  draw: "M4 20l4-1L19 8l-3-3L5 16zM14 7l3 3", edit: "M4 4h16v16H4zM4 15l5-5 4 4 3-3 4 4",
  gallery: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z", more: "M12 4v16M4 12h16",
  models: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9", learn: "M3 8l9-4 9 4-9 4zM7 10v6c3 2 7 2 10 0v-6",
};
const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];
const theme = signal<Theme>((localStorage.getItem("theme") as Theme | null) ?? "system");

function chooseTheme(name: Theme): void {
  theme.value = name;
  localStorage.setItem("theme", name);
  document.documentElement.dataset.theme = name;
}

export function App() {
  useEffect(() => {
    document.documentElement.dataset.theme = theme.value;
    void loadModels().catch(() => undefined);
  }, []);
  const Shown = SHOWN[view.value];
  return <div class="page" onDragOver={(event) => event.preventDefault()} onDrop={(event) => {
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (file) { dropped.value = file; open("more"); }
  }}>
    <a class="skip" href="#main">{t("skip")}</a>
    <header>
      <h1 class="brand"><span aria-hidden="true" class="dot" />sfumato</h1>
      <nav aria-label={t("nav")}>
        {VIEWS.map((name) => <a key={name} href={"#" + name} aria-current={view.value === name ? "page" : undefined}>
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d={SIGNS[name]} /></svg>
          <span>{t(`view_${name}` as Key)}</span>
          {name === "draw" && active.value.length > 0 && <b class="count" aria-label={t("waiting", { n: active.value.length })}>{active.value.length}</b>}
        </a>)}
      </nav>
      <div class="choices">
        <select aria-label={t("theme")} value={theme.value} onChange={(event) => chooseTheme(event.currentTarget.value as Theme)}>
          {THEMES.map((name) => <option key={name} value={name}>{t(`theme_${name}` as Key)}</option>)}
        </select>
        <select aria-label={t("language")} value={language.value} onChange={(event) => {
          localStorage.setItem("language", event.currentTarget.value);
          void chooseLanguage(event.currentTarget.value as Language);
        }}>
          {Object.entries(LANGUAGES).map(([id, name]) => <option key={id} value={id} lang={id}>{name}</option>)}
        </select>
      </div>
    </header>
    {!connected.value && <p class="banner" role="alert">{t("disconnected")}</p>}
    <main id="main" tabIndex={-1}><Shown /></main>
    <Detail />
    {locked.value && <Login />}
    <Toasts />
  </div>;
}
