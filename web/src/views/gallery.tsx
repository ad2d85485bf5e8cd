/** Gallery: all pictures, of which only those in sight are in the page. */
import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { get, type Found, type Shown } from "../api";
import { t } from "../i18n";
import { news } from "../jobs";
import { exportZip, mark, remove } from "../parts/actions";
import { detail } from "../place";
import { toast } from "../toasts";

interface Query { words: string; model: string; seed: string; after: string; before: string; folder: string; favourite: boolean }
const EMPTY: Query = { words: "", model: "", seed: "", after: "", before: "", folder: "", favourite: false };
const PAGE = 100, GAP = 10, SIDE = 168, BEYOND = 3; // rows beyond those in sight

const query = signal<Query>(EMPTY);
const total = signal(0);
const loaded = signal<Record<number, Shown>>({});
const facets = signal<{ models: string[]; folders: string[] }>({ models: [], folders: [] });
const picked = signal<Record<string, Shown>>({});
/** What the pictures are like, while they are sorted by likeness. */
const likeness = signal<string | null>(null);
let asked = new Set<number>();

function address(one: Query, offset: number): string {
  const said = new URLSearchParams({ offset: String(offset), count: String(PAGE) });
  for (const name of ["words", "model", "seed", "folder"] as const) if (one[name]) said.set(name, one[name]);
  if (one.favourite) said.set("favourite", "true");
  if (one.after) said.set("after", String(Date.parse(one.after) / 1000));
  if (one.before) said.set("before", String(Date.parse(one.before) / 1000 + 86_400));
  return "/gallery?" + said;
}

async function load(page: number, fresh = false): Promise<void> {
  if (asked.has(page) && !fresh) return;
  asked.add(page);
  const one = query.value;
  try {
    const found = await get<Found>(address(one, page * PAGE));
    if (one !== query.value || likeness.value !== null) return;
    total.value = found.total;
    loaded.value = { ...loaded.value, ...Object.fromEntries(found.pictures.map((shown, k) => [page * PAGE + k, shown])) };
  } catch (error) {
    asked.delete(page);
    toast((error as Error).message, "error");
  }
}

function search(changed: Partial<Query>): void {
  query.value = { ...query.value, ...changed };
  likeness.value = null;
  asked = new Set();
  loaded.value = {};
  void load(0);
}

async function findSimilar(text: string, one?: Shown): Promise<void> {
  likeness.value = one ? one.prompt || one.kind : text;
  try {
    const said = one ? `job=${one.job}&index=${one.index}` : `text=${encodeURIComponent(text)}`;
    const found = await get<Found>(`/gallery/similar?${said}`);
    total.value = found.total;
    loaded.value = { ...found.pictures };
  } catch (error) {
    toast((error as Error).message, "error");
    search({});
  }
}

addEventListener("similar", (event) => void findSimilar("", (event as CustomEvent<Shown>).detail));

export function Gallery() {
  useEffect(() => {
    if (likeness.value === null) { asked = new Set(); void load(0, true); }
    void get<typeof facets.value>("/gallery/facets").then((found) => { facets.value = found; }).catch(() => undefined);
  }, [news.value]);
  const chosen = Object.values(picked.value);
  return <div class="gallery">
    <h2 class="hidden">{t("view_gallery")}</h2>
    <Search />
    <p class="muted count-line" role="status">{likeness.value !== null ? <>{t("similar_to", { what: likeness.value })} <button class="link" onClick={() => search({})}>{t("show_all")}</button></> : t("pictures_found", { n: total.value })}</p>
    {chosen.length > 0 && <Chosen list={chosen} />}
    {total.value === 0 ? <p class="empty">{filtered() ? <>{t("nothing_found")} <button class="link" onClick={() => search(EMPTY)}>{t("show_all")}</button></> : t("gallery_empty")}</p> : <Grid />}
  </div>;
}

const filtered = (): boolean => likeness.value !== null || Object.values(query.value).some(Boolean);

function Search() {
  const one = query.value, { models, folders } = facets.value;
  return <form class="card search" role="search" onSubmit={(event) => event.preventDefault()}>
    <input type="search" aria-label={t("search_words")} placeholder={t("search_words")} value={one.words} onInput={(event) => search({ words: event.currentTarget.value })} />
    <button type="button" disabled={!one.words.trim()} onClick={() => void findSimilar(one.words)}>{t("looks_like")}</button>
    <label class="check"><input type="checkbox" checked={one.favourite} onChange={(event) => search({ favourite: event.currentTarget.checked })} />★ {t("favourites")}</label>
    <details><summary>{t("filters")}</summary><div class="fields">
      <label>{t("model")}<select value={one.model} onChange={(event) => search({ model: event.currentTarget.value })}><option value="">{t("any")}</option>{models.map((name) => <option key={name}>{name}</option>)}</select></label>
      <label>{t("folder")}<select value={one.folder} onChange={(event) => search({ folder: event.currentTarget.value })}><option value="">{t("any")}</option>{folders.map((name) => <option key={name}>{name}</option>)}</select></label>
      <label>{t("seed")}<input inputMode="numeric" value={one.seed} onInput={(event) => search({ seed: event.currentTarget.value.trim() })} /></label>
      <label>{t("from_date")}<input type="date" value={one.after} onInput={(event) => search({ after: event.currentTarget.value })} /></label>
      <label>{t("to_date")}<input type="date" value={one.before} onInput={(event) => search({ before: event.currentTarget.value })} /></label>
    </div></details>
  </form>;
}

function Chosen({ list }: { list: Shown[] }) {
  const done = () => { picked.value = {}; };
  return <div class="card chosen" role="toolbar" aria-label={t("chosen", { n: list.length })}>
    <b>{t("chosen", { n: list.length })}</b>
    <button onClick={() => { void mark(list, { favourite: true }); done(); }}>★ {t("favourite")}</button>
    <button onClick={() => { const folder = prompt(t("folder_name")); if (folder !== null) { void mark(list, { folder }); done(); } }}>{t("to_folder")}</button>
    <button onClick={() => void exportZip(list)}>{t("export")}</button>
    <button class="danger" onClick={() => { void remove(list); done(); }}>{t("delete")}</button>
    <button class="link" onClick={done}>{t("choose_none")}</button>
  </div>;
}

const sight = signal({ top: 0, height: 800, width: 800 });

function Grid() {
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const measure = (): void => {
      const rect = box.current!.getBoundingClientRect();
      sight.value = { top: -rect.top, height: innerHeight, width: rect.width };
    };
    measure();
    addEventListener("scroll", measure, { passive: true });
    addEventListener("resize", measure);
    return () => { removeEventListener("scroll", measure); removeEventListener("resize", measure); };
  }, []);
  const { top, height, width } = sight.value, columns = Math.max(2, Math.floor((width + GAP) / (SIDE + GAP)));
  const side = (width - GAP * (columns - 1)) / columns, row = side + GAP, rows = Math.ceil(total.value / columns);
  const first = Math.max(0, Math.floor(top / row) - BEYOND) * columns;
  const last = Math.min(total.value, (Math.ceil((top + height) / row) + BEYOND) * columns);
  useEffect(() => {
    if (likeness.value !== null) return;
    for (let page = Math.floor(first / PAGE); page * PAGE < last; page++) void load(page);
  }, [first, last, query.value]);
  const move = (event: KeyboardEvent, k: number): void => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const next = Math.min(total.value - 1, Math.max(0, k + by));
    document.querySelector<HTMLElement>(`[data-k="${next}"]`)?.focus();
  };
  return <div ref={box} class="grid" role="list" style={{ height: `${rows * row}px` }}>
    {Array.from({ length: Math.max(0, last - first) }, (_, j) => {
      const k = first + j, one = loaded.value[k];
      const style = { transform: `translate(${(k % columns) * row}px, ${Math.floor(k / columns) * row}px)`, width: `${side}px`, height: `${side}px` };
      return <div key={k} class="tile" role="listitem" style={style}>{one && <>
        <button class="thumb" data-k={k} aria-haspopup="dialog" onKeyDown={(event) => move(event, k)} onClick={() => { detail.value = { shown: one, list: near(k) }; }}>
          <img src={one.small} alt={one.prompt || one.kind} decoding="async" /></button>
        <input type="checkbox" class="pick" aria-label={t("choose_picture", { prompt: one.prompt || one.kind })} checked={one.url in picked.value} onChange={() => {
          const { [one.url]: was, ...rest } = picked.value;
          picked.value = was ? rest : { ...picked.value, [one.url]: one };
        }} />
        {one.favourite && <span class="star" aria-label={t("favourite")} role="img">★</span>}
      </>}</div>;
    })}
  </div>;
}

/** The loaded pictures around a place, between which the large view goes. */
const near = (k: number): Shown[] => Object.entries(loaded.value).filter(([at]) => Math.abs(Number(at) - k) < PAGE).map(([, one]) => one);
