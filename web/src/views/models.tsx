/** Models and adapters that are here: what each is, its licence, what it takes; and new ones, learnt of pictures. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get, type Memory, type Model } from "../api";
import { faces, form, loadModels, models, set } from "../form";
import { t } from "../i18n";
import { kindName, partName } from "../names";
import { Face } from "../parts/face";
import { Train } from "./models/train";
import { useIt } from "./models/use";

const DRAWN_WITH = ["embedding", "hypernetwork", "controlnet"]; // besides models and LoRAs, which can be switched off here, too

const bytes = (n: number | null): string => n === null ? "" : n >= 1e9 ? `${(n / 1e9).toFixed(1)} GB` : n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${Math.ceil(n / 1e3)} kB`;

/** What memory models take, by their names; or why that cannot be said. */
const memory = signal<Record<string, Memory | string>>({});

async function count(name: string): Promise<void> {
  if (memory.value[name]) return;
  const found = await get<Memory>(`/memory?model=${encodeURIComponent(name)}`).catch((error: Error) => error.message);
  memory.value = { ...memory.value, [name]: found };
}

export function Models() {
  useEffect(() => void loadModels().catch(() => undefined), []);
  const kinds = [...new Set(models.value.map((one) => one.kind))];
  return <div class="models">
    <Train />
    <h2>{t("models_here")}</h2>
    <p class="muted">{t("models_hint")}</p>
    {kinds.map((kind) => <section key={kind} aria-label={kindName(kind)}>
      <h3>{kindName(kind)}</h3>
      <div class="shelf">{models.value.filter((one) => one.kind === kind).map((one) => <Card key={one.name} one={one} />)}</div>
    </section>)}
  </div>;
}

function Card({ one }: { one: Model }) {
  const used = form.value.model === one.name, { loras } = form.value, on = loras.some((lora) => lora.name === one.name);
  return <article class="card">
    <h4 class="titled">{(one.kind === "model" || one.kind === "lora") && <Face name={one.name} url={faces.value[one.kind === "model" ? "models" : "loras"][one.name]} />}{one.name} {one.loaded && <span class="count">{t("loaded")}</span>}</h4>
    <p class="muted">{one.what}</p>
    <dl class="settings">
      {one.licence && <div><dt>{t("licence")}</dt><dd>{one.licence}</dd></div>}
      {one.size !== null && <div><dt>{t("file_size")}</dt><dd>{bytes(one.size)}</dd></div>}
    </dl>
    {one.kind === "model" && <details onToggle={(event) => event.currentTarget.open && void count(one.name)}><summary>{t("memory")}</summary><Plan of={memory.value[one.name]} /></details>}
    {one.kind === "model" && <button aria-pressed={used} onClick={() => useIt(one.kind, one.name)}>{t("draw_with")}</button>}
    {DRAWN_WITH.includes(one.kind) && <button onClick={() => useIt(one.kind, one.name)}>{t("draw_with")}</button>}
    {one.kind === "lora" && <button aria-pressed={on} onClick={() => set({ loras: on ? loras.filter((lora) => lora.name !== one.name) : [...loras, { name: one.name, weight: 1 }] })}>{t("draw_with")}</button>}
  </article>;
}

function Plan({ of }: { of: Memory | string | undefined }) {
  if (of === undefined) return <p class="muted" role="status">{t("reading")}</p>;
  if (typeof of === "string") return <p class="note" role="status">{of}</p>;
  const rows: [string, number][] = [
    ...Object.entries(of.weights).map(([part, size]): [string, number] => [`${t("memory_weights")}: ${partName(part)}`, size]),
    [t("memory_loading"), of.loading], [t("memory_drawing", { size: `${of.width}×${of.height}` }), of.drawing],
  ];
  return <dl class="settings">{rows.map(([name, size]) => <div key={name}><dt>{name}</dt><dd>{bytes(size)}</dd></div>)}<div><dt>{t("memory_precision")}</dt><dd>{of.dtype}</dd></div></dl>;
}
