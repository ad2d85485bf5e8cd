/** The pictures that were drawn last, as small buttons. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get, type Found, type Shown } from "../api";
import { t } from "../i18n";
import { news } from "../jobs";
import { open } from "../place";

const LATEST = 18;
const latest = signal<Shown[]>([]);

/** At most `most` pictures; `dialog` says that a choice opens the large view. */
export function Latest({ choose, dialog, most = LATEST }: { choose: (one: Shown, list: Shown[]) => void; dialog?: boolean; most?: number }) {
  useEffect(() => void get<Found>(`/gallery?count=${LATEST}`).then((found) => { latest.value = found.pictures; }).catch(() => undefined), [news.value]);
  if (!latest.value.length) return null;
  return <section class="latest" aria-label={t("latest")}>
    <h3>{t("latest")} <button type="button" class="link" onClick={() => open("gallery")}>{t("all")}</button></h3>
    <div class="strip">{latest.value.slice(0, most).map((one) => <button key={one.url} type="button" class="thumb" aria-haspopup={dialog ? "dialog" : undefined} onClick={() => choose(one, latest.value)}>
      <img src={one.small} alt={one.prompt || one.kind} loading="lazy" /></button>)}</div>
  </section>;
}
