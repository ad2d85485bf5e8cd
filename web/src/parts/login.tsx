/** Asks for the token, where the server wants one: an address that has it is changed for a cookie. */
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "../api";
import { t } from "../i18n";

export function Login() {
  const dialog = useRef<HTMLDialogElement>(null), [wrong, setWrong] = useState("");
  useEffect(() => dialog.current?.showModal(), []);
  return <dialog ref={dialog} class="login" aria-labelledby="login-title" onCancel={(event) => event.preventDefault()}>
    <form onSubmit={(event) => {
      event.preventDefault();
      const data = new FormData(event.currentTarget), user = String(data.get("user") ?? ""), token = String(data.get("token"));
      get("/jobs?count=1&token=" + encodeURIComponent(user ? `${user}:${token}` : token)).then(() => location.reload(),
        (error: { status?: number; message: string }) => setWrong(error.status === 401 ? t("login_wrong") : error.message));
    }}>
      <h2 id="login-title">{t("login")}</h2>
      <p>{t("login_hint")}</p>
      <label>{t("user")}<input name="user" autocomplete="username" /></label>
      <label>{t("token")}<input name="token" type="password" autocomplete="current-password" required /></label>
      {wrong && <p class="note" role="alert">{wrong}</p>}
      <button class="primary">{t("enter")}</button>
    </form>
  </dialog>;
}
