/** More: what can be done with a picture, and with several requests at once. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { dataUrl, pictureFile, post, type Recipe, type Shown } from "../api";
import { take, valueName } from "../form";
import { t, type Key } from "../i18n";
import { optionName } from "../names";
import { draw } from "../parts/composer";
import { Latest } from "../parts/latest";
import { dropped, open, sent } from "../place";
import { Compare } from "./more/compare";
import { Grid } from "./more/grid";
import { Interpolate } from "./more/interpolate";
import { Compress, Enlarge, Interrogate, Vary } from "./more/picture";

/** The picture that is worked on: its file, what its file says, and its place in the gallery if it has one. */
export interface Working { url: string; file: Blob; name: string; recipe: Recipe | null; problem: string; shown: Shown | null }
const working = signal<Working | null>(null);
const TOOLS = { grid: Grid, compare: Compare, interpolate: Interpolate } as const;
const chosen = signal<keyof typeof TOOLS>("grid");

async function takeUp(file: Blob, name: string, shown: Shown | null): Promise<void> {
  if (working.value) URL.revokeObjectURL(working.value.url);
  const one: Working = { url: URL.createObjectURL(file), file, name, shown, recipe: null, problem: "" };
  working.value = one;
  try {
    working.value = { ...one, recipe: await post<Recipe>("/replay", { picture: await dataUrl(file) }) };
  } catch (error) {
    working.value = { ...one, problem: (error as Error).message };
  }
}

export function More() {
  useEffect(() => {
    const file = dropped.value, one = sent.value;
    dropped.value = sent.value = null;
    if (file) void takeUp(file, file.name, null);
    else if (one) void pictureFile(one.url).then((blob) => takeUp(blob, one.prompt || one.kind, one));
  }, [dropped.value, sent.value]);
  const one = working.value, Tool = TOOLS[chosen.value];
  return <div class="more-view">
    <h2 class="hidden">{t("view_more")}</h2>
    <section class="card" aria-label={t("with_picture")}>
      <h3>{t("with_picture")}</h3>
      <p class="muted">{t("with_picture_hint")}</p>
      <label class="button">{t("open_picture")}<input class="hidden" type="file" accept="image/*,.txt,.json" onChange={(event) => { const file = event.currentTarget.files?.[0]; if (file) void takeUp(file, file.name, null); }} /></label>
      {one && <div class="working">
        <img src={one.url} alt={one.name} />
        <div class="fields-column">
          <Read one={one} />
          <Enlarge one={one} />{one.shown && <Vary shown={one.shown} />}<Interrogate one={one} /><Compress one={one} />
        </div>
      </div>}
      {!one && <Latest most={9} choose={(chosen) => { sent.value = chosen; }} />}
    </section>
    <section class="card" aria-label={t("with_words")}>
      <div class="chips" role="group" aria-label={t("with_words")}>{(Object.keys(TOOLS) as (keyof typeof TOOLS)[]).map((name) =>
        <button key={name} type="button" class="chip" aria-pressed={chosen.value === name} onClick={() => { chosen.value = name; }}>{t(`more_${name}` as Key)}</button>)}</div>
      <Tool />
    </section>
  </div>;
}

/** What was read of a picture's file, and what was not. */
function Read({ one }: { one: Working }) {
  const { recipe } = one;
  if (one.problem) return <p class="note" role="status">{one.problem}</p>;
  if (!recipe) return <p class="muted">{t("reading")}</p>;
  return <div class="recipe" role="status">
    <h4>{t("drawn_by", { program: recipe.program })}</h4>
    <p>{recipe.prompt}</p>
    {recipe.negative && <p class="muted">{t("negative")}: {recipe.negative}</p>}
    <dl class="settings">{[["seed", recipe.seed], ...Object.entries(recipe.options)].filter(([name, value]) => value !== null && name !== "n").filter(([name], k) => k === 0 || name !== "seed")
      .map(([name, value]) => <div key={String(name)}><dt>{optionName(String(name))}</dt><dd>{typeof value === "object" ? JSON.stringify(value) : valueName(String(name), String(value))}</dd></div>)}</dl>
    {recipe.rules.length > 0 && <><h4>{t("followed")}</h4><ul>{recipe.rules.map((line) => <li key={line}>{line}</li>)}</ul></>}
    {recipe.lost.length > 0 && <><h4>{t("not_honoured")}</h4><ul class="lost">{recipe.lost.map((line) => <li key={line}>{line}</li>)}</ul></>}
    <div class="actions">
      <button type="button" onClick={() => { take(recipe); open("draw"); void draw(); }}>{t("draw_again")}</button>
      <button type="button" onClick={() => { take(recipe); open("draw"); }}>{t("use_settings")}</button>
    </div>
  </div>;
}
