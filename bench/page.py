"""What the page costs: bytes, first paint, and how fast it answers with thousands of pictures in the gallery.

    python bench/page.py [--pictures 5000]

Needs playwright and a Chromium of the system. The pictures are made up, not drawn.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

from sfumato.server.app import create_app
from sfumato.server.config import Config
from sfumato.server.dialects.page.site import FOLDER
from sfumato.server.jobs.job import JobRequest, SavedPicture, State
from sfumato.server.jobs.store import Store

THINGS = ("a red fox", "a blue heron", "a paper crane", "two cats", "a rocket", "a green frog", "a cup of tea")
A_JOB = 4  # pictures
FRAME = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def fill(config: Config, count: int) -> None:
    """Puts so many pictures into the gallery of a server that does not run yet."""
    (config.outputs / "made").mkdir(parents=True)
    for k in range(len(THINGS)):
        Image.new("RGB", (256, 256), (36 * k, 255 - 30 * k, 128)).save(config.outputs / "made" / f"{k}.png")
    with Store(config.database) as store:
        for number in range(count // A_JOB):
            k = number % len(THINGS)
            job, _ = store.add(JobRequest(prompt=THINGS[k]), user="", dialect="api")
            for index in range(A_JOB):
                text = f"{THINGS[k]}\nSteps: 12, Sampler: Euler, Seed: {number + index}"
                store.picture(job.id, SavedPicture(index=index, file=f"made/{k}.png", seed=number + index,
                                                   infotext=text, width=256, height=256))  # fmt: skip
            store.finish(job.id, State.DONE)


@contextmanager
def served(config: Config) -> Iterator[str]:
    """The address of a server that runs as long as the `with`."""
    server = uvicorn.Server(uvicorn.Config(create_app(config), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(60)


class Clock:
    """Measures how long the page takes to answer: by the clock, and in processor time of its thread alone."""

    def __init__(self, page: Any):
        self._page, self._session = page, page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def _busy(self) -> float:
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    def median(self, act: Callable[[], object], times: int = 15) -> str:
        """From an action to the second frame after it."""
        taken, busy = [], []
        for _ in range(times):
            began, before = time.perf_counter(), self._busy()
            act()
            self._page.evaluate(FRAME)
            taken.append(1000 * (time.perf_counter() - began))
            busy.append(1000 * (self._busy() - before))
        return f"{statistics.median(taken):.0f} ms, of which {statistics.median(busy):.0f} ms are the page's own work"


def measure(page: Any, address: str) -> Iterator[tuple[str, str]]:
    """Rows of the table."""
    clock = Clock(page)
    page.goto(address)
    page.wait_for_selector("#prompt")
    page.wait_for_timeout(500)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    yield "first contentful paint", f"{paint:.0f} ms"
    page.goto(address + "/#gallery")
    page.wait_for_selector(".tile img")
    yield "pictures in the gallery", page.inner_text(".count-line")
    yield "tiles that are in the page", str(page.locator(".tile").count())
    yield "scrolling to another place", clock.median(lambda: page.mouse.wheel(0, 2500))
    page.evaluate("scrollTo(0, 0)")
    page.focus("[type=search]")
    yield "a letter in the search", clock.median(lambda: page.keyboard.press("a"))
    page.fill("[type=search]", "")
    page.goto(address + "/#draw")
    page.focus("#prompt")
    yield "a letter in the prompt", clock.median(lambda: page.keyboard.press("a"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5000)
    count = parser.parse_args().pictures
    files = [path for path in FOLDER.iterdir() if path.suffix in (".js", ".css", ".html", ".svg")]
    first = [path for path in files if path.name.startswith(("index", "icon"))]
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("needs chromium on this machine")
    print(f"| {'all files, gzipped':32} | {sum(len(gzip.compress(one.read_bytes())) for one in files) / 1e3:.0f} kB |")
    print(f"| {'in English, gzipped':32} | {sum(len(gzip.compress(one.read_bytes())) for one in first) / 1e3:.0f} kB |")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        config = Config(folder=Path(folder))
        fill(config, count)
        with served(config) as address:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            for name, figure in measure(browser.new_page(viewport={"width": 1280, "height": 900}), address):
                print(f"| {name:32} | {figure} |", flush=True)
            browser.close()


if __name__ == "__main__":
    main()
