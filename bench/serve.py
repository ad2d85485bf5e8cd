"""Many clients at one server: pictures a second, and how long each waits, with and without merging their steps.

Two servers take turns: one draws requests side by side, the other one after the other. Each client asks for its next
picture when it has the last. A further client asks for small things all the while.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from sfumato.server.config import Config
from sfumato.server.serve import serve

PROMPTS = ("a red heart", "two cats and a dog", "a rocket on a blue background", "สุนัข", "яблуко", "花")


@contextmanager
def serving(config: Config) -> Iterator[str]:
    """The address of a server, in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ours, its = spawn.Pipe()
    process = spawn.Process(target=serve, args=(replace(config, port=0), its.send))
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def call(url: str, body: object = None) -> bytes:
    """What the server answers."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"})) as reply:
        return reply.read()


def picture(address: str, number: int, steps: int) -> float:
    """Seconds from asking for a picture until it is there."""
    began = time.perf_counter()
    options = {"steps": steps, "seed": number}
    job = json.loads(call(f"{address}/api/jobs", {"prompt": PROMPTS[number % len(PROMPTS)], "options": options}))
    call(f"{address}/api/jobs/{job['id']}/events")  # ends when the job does
    call(f"{address}/api/jobs/{job['id']}/pictures/0")
    return time.perf_counter() - began


def round_of(address: str, clients: int, each: int, steps: int) -> tuple[float, list[float], list[float]]:
    """Seconds in all, of every picture, and of every small request, while `clients` draw `each` pictures."""
    small: list[float] = []
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.05):
            began = time.perf_counter()
            call(f"{address}/api/jobs?count=1")
            small.append(time.perf_counter() - began)

    def client(k: int) -> list[float]:
        return [picture(address, k * each + j, steps) for j in range(each)]

    asking = threading.Thread(target=ask)
    asking.start()
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        waits = [one for several in pool.map(client, range(clients)) for one in several]
    seconds = time.perf_counter() - began
    done.set()
    asking.join()
    return seconds, waits, small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--each", type=int, default=2, help="pictures that each client draws in a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    table = Table(title=f"the embedded model, 256 px, {given.steps} steps")
    for name in ("clients", "drawn", "pictures a second", "ratio", "p50 s", "p99 s", "small requests p99 ms"):
        table.add_column(name, justify="right")
    with ExitStack() as stack:
        ways = {}
        for name, at_once in (("one by one", 1), ("side by side", None)):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ways[name] = stack.enter_context(serving(Config(folder=folder, at_once=at_once)))
            picture(ways[name], 0, given.steps)  # loads the model
        for clients in given.clients:
            found: dict[str, list[tuple[float, list[float], list[float]]]] = {name: [] for name in ways}
            for k in range(given.rounds):
                for name in list(ways)[:: 1 if k % 2 else -1]:
                    found[name].append(round_of(ways[name], clients, given.each, given.steps))
            rates = {name: clients * given.each / np.median([one[0] for one in runs]) for name, runs in found.items()}
            for name, runs in found.items():
                waits, small = (np.concatenate([one[k] for one in runs]) for k in (1, 2))
                p50, p99 = np.percentile(waits, (50, 99))
                rate, ratio = rates[name], rates[name] / rates["one by one"]
                quick = 1000 * np.percentile(small, 99) if len(small) else float("nan")
                table.add_row(
                    str(clients), name, f"{rate:.2f}", f"{ratio:.2f}", f"{p50:.2f}", f"{p99:.2f}", f"{quick:.0f}"
                )
    Console().print(table)


if __name__ == "__main__":
    main()
