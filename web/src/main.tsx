import { render } from "preact";
import { App } from "./app";
import { chooseLanguage, preferred } from "./i18n";
import { follow } from "./jobs";
import "./style.css";
import "./views.css";

void chooseLanguage(preferred()).then(() => {
  render(<App />, document.getElementById("app")!);
  follow();
});
