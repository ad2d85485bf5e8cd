/** What can be done with pictures of the gallery. */
import { get, post, postForFile, wholeNumber, type Request, type Shown } from "../api";
import { takeShown } from "../form";
import { t } from "../i18n";
import { news, submit } from "../jobs";
import { open, sent, type View } from "../place";
import { toast } from "../toasts";

const places = (list: Shown[]) => list.map(({ job, index }) => ({ job, index }));

export async function mark(list: Shown[], changed: { favourite?: boolean; folder?: string; deleted?: boolean }): Promise<void> {
  try {
    await post("/gallery/mark", { pictures: places(list), ...changed });
    news.value++;
  } catch (error) {
    toast((error as Error).message, "error");
  }
}

export async function remove(list: Shown[]): Promise<void> {
  await mark(list, { deleted: true });
  toast(t("deleted", { n: list.length }), "info", { label: t("undo"), run: () => void mark(list, { deleted: false }) });
}

export async function exportZip(list: Shown[]): Promise<void> {
  try {
    const url = URL.createObjectURL(await postForFile("/gallery/export", { pictures: places(list) }));
    const link = Object.assign(document.createElement("a"), { href: url, download: "pictures.zip" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  } catch (error) {
    toast((error as Error).message, "error");
  }
}

export function sendTo(name: View, one: Shown): void {
  sent.value = one;
  open(name);
}

export async function reuse(one: Shown): Promise<void> {
  await takeShown(one);
  open("draw");
}

/** Asks for pictures like this one: the same seed, turned a little towards others. */
export async function vary(one: Shown, n = 4, strength = 0.3): Promise<void> {
  const { request } = await get<{ request: Request }>(`/jobs/${one.job}`);
  open("draw");
  await submit({ ...request, kind: "txt2img", how: {}, pictures: {}, options: { ...request.options, seed: wholeNumber(one.seed || "1"), n,
    variation_seed: Math.floor(Math.random() * 2 ** 32), variation_strength: strength } });
}

export async function copy(text: string): Promise<void> {
  await navigator.clipboard.writeText(text);
  toast(t("copied"));
}
