/** A picture shown large, with its settings and all that can be done with it. */
import { useEffect, useRef } from "preact/hooks";
import type { Shown } from "../api";
import { options } from "../form";
import { date, t } from "../i18n";
import { optionName, settingName } from "../names";
import { detail } from "../place";
import { copy, mark, remove, reuse, sendTo, vary } from "./actions";

export function Detail() {
  const dialog = useRef<HTMLDialogElement>(null), found = detail.value;
  useEffect(() => {
    if (found && !dialog.current?.open) dialog.current?.showModal();
    if (!found && dialog.current?.open) dialog.current.close();
  }, [found]);
  return <dialog ref={dialog} class="detail" aria-label={t("picture")} onClose={() => { detail.value = null; }}
    onClick={(event) => { if (event.target === dialog.current) detail.value = null; }}
    onKeyDown={(event) => { if (event.key === "ArrowLeft") step(-1); if (event.key === "ArrowRight") step(1); }}>
    {found && <Inside one={found.shown} />}
  </dialog>;
}

function step(by: number): void {
  const found = detail.value;
  if (!found) return;
  const k = found.list.findIndex((one) => one.url === found.shown.url), next = found.list[k + by];
  if (next) detail.value = { ...found, shown: next };
}

/** Shows a picture with some fields changed. */
function changed(one: Shown, fields: Partial<Shown>): void {
  const next = { ...one, ...fields };
  detail.value = { shown: next, list: detail.value!.list.map((other) => other.url === one.url ? next : other) };
}

function Inside({ one }: { one: Shown }) {
  const away = (run: () => void) => () => { detail.value = null; run(); };
  const list = detail.value!.list, k = list.findIndex((other) => other.url === one.url);
  return <div class="inside">
    <div class="large">
      <img src={one.url} alt={one.prompt || one.kind} />
      {k > 0 && <button class="icon turn before" aria-label={t("previous")} onClick={() => step(-1)}>‹</button>}
      {k >= 0 && k < list.length - 1 && <button class="icon turn after" aria-label={t("next")} onClick={() => step(1)}>›</button>}
    </div>
    <div class="about">
      <button class="icon shut" aria-label={t("close")} onClick={() => { detail.value = null; }}>×</button>
      <h2>{one.prompt || one.kind}</h2>
      <p class="muted">{date(one.created)} · {one.width} × {one.height} · {one.model}</p>
      <div class="actions">
        <button class="primary" onClick={away(() => void reuse(one))}>{t("use_settings")}</button>
        <button onClick={away(() => void vary(one))}>{t("vary")}</button>
        <button onClick={away(() => sendTo("edit", one))}>{t("view_edit")}</button>
        <button onClick={away(() => sendTo("more", one))}>{t("upscale_more")}</button>
        <button onClick={away(() => { location.hash = "gallery"; dispatchEvent(new CustomEvent("similar", { detail: one })); })}>{t("similar")}</button>
        <button aria-pressed={one.favourite} onClick={() => { void mark([one], { favourite: !one.favourite }); changed(one, { favourite: !one.favourite }); }}>{one.favourite ? "★" : "☆"} {t("favourite")}</button>
        <a class="button" href={one.url} download={`${one.job.slice(0, 8)}-${one.index}.png`}>{t("download")}</a>
        <button class="danger" onClick={away(() => void remove([one]))}>{t("delete")}</button>
      </div>
      {one.infotext && <>
        <h3>{t("settings")} <button class="link" onClick={() => void copy(one.infotext)}>{t("copy")}</button></h3>
        <dl class="settings">{fields(one.infotext).map(([name, value]) => <div key={name}><dt>{fieldName(name)}</dt><dd>{value}</dd></div>)}</dl>
      </>}
    </div>
  </div>;
}

/** What a field of a picture's settings is called: as the option that it is written for. */
function fieldName(name: string): string {
  const option = options.value?.options.find((one) => one.infotext === name);
  return name === "Model" ? t("model") : option && name !== "Size" ? optionName(option.name) : settingName(name);
}

/** The fields in the last line of a picture's settings. */
function fields(text: string): [string, string][] {
  const last = text.split("\n").at(-1) ?? "";
  return [...last.matchAll(/([A-Z][\w +/-]*): ("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)/g)].map((found) => [found[1]!, found[2]!]);
}
