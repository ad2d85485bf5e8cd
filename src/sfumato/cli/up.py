"""`sfumato up`: from an installation to the page, without a question."""

from __future__ import annotations

import socket
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.doctor import device_line, gigabytes
from sfumato.cli.status import status

if TYPE_CHECKING:
    from sfumato.hub.proposals import Proposal
    from sfumato.runtime.machine import Device

PORT = 7860
SLOW = "cpu"  # the device on which a large model takes minutes for a picture


def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; if it is taken, a free one is used.")] = PORT,
    folder: Annotated[Path | None, typer.Option(help="Folder for jobs and pictures.", show_default=False)] = None,
    choose: Annotated[bool, typer.Option("--choose", help="Ask which model to draw with.")] = False,
    browser: Annotated[
        bool,
        typer.Option("--open/--no-open", help="Open the page in the browser, but never over ssh or without a screen."),
    ] = True,
    test: Annotated[bool, typer.Option("--test/--no-test", help="Run the self-test, once for each version.")] = True,
) -> None:
    """Test this machine, start the server, and open its page in the browser. Ctrl-C stops the server.

    Draws with the best model on this machine that fits, or with the one that ships; prints which other release would
    fit, its size and its licence. If the server is already running, only opens its page.

    Example: sfumato up
    """
    from sfumato.runtime.machine import has_screen, measure
    from sfumato.server.config import Config, own_folder
    from sfumato.server.serve import running, serve

    place = folder or own_folder()
    show = browser and has_screen()
    if (address := running(place)) is not None:
        status.say(f"sfumato is up already: {address}")
        _open(address, show)
        return
    machine = measure()
    device = machine.devices[0]
    status.say(f"this machine: {device_line(device)}; {machine.cores} cores, {gigabytes(machine.free)} of memory free")
    if test:
        _self_test()
    model = _chosen(device) if choose else _best(device)
    if model is not None:
        status.say(f"model: {model.name}, {_terms(model)}")

    def started(address: str) -> None:
        status.say(f"sfumato is up: {address} (Ctrl-C stops it)")
        _open(address, show)
        if not choose:
            threading.Thread(target=_propose, args=(device, model is None), daemon=True).start()

    serve(
        Config(folder=place, port=port if _is_free(port) else 0, model=None if model is None else model.name), started
    )


def _self_test() -> None:
    from sfumato.verify.doctor import passed_before, self_test

    if passed_before():
        status.say("self-test: passed at an earlier start; `sfumato doctor` runs it again")
        return
    result = self_test(lambda name: status.loading(f"the self-test ({name})"))
    good = sum(one.passed for one in result.checks)
    advice = "" if result.passed else "; pictures may be wrong here: `sfumato doctor` says more"
    status.say(f"self-test: {good} of {len(result.checks)} passed in {result.seconds:.1f} s{advice}")


def _best(device: Device) -> Proposal | None:
    """What is here already and fits, on a device that is fast enough for it; else None, for the model that ships."""
    from sfumato.hub.local_models import models
    from sfumato.hub.proposals import WANTED, proposals

    own = any(one.release in WANTED and one.path is not None for one in models())  # without any, no plans are made
    fitting = [one for one in proposals(device) if one.here] if own and device.name != SLOW else []
    return fitting[0] if fitting else None


def _chosen(device: Device) -> Proposal:
    from sfumato.hub.proposals import embedded, proposals

    offered = [embedded(device), *proposals(device)]
    for number, one in enumerate(offered, 1):
        status.say(f"{number}  {one.name}: {one.title}, {_terms(one)}")
    number = 0
    while not 1 <= number <= len(offered):
        number = typer.prompt(f"Draw with which (1 to {len(offered)})", default=1, type=int, err=True)
    model = offered[number - 1]
    if not model.here:
        from sfumato.cli.pull import pull

        pull(model.name)
    return model


def _propose(device: Device, ships: bool) -> None:
    """Says what is drawn with, if that `ships`, and what else would fit; after the start, since plans take a while."""
    from sfumato.hub.proposals import embedded, proposals

    if ships:
        own = embedded(device)
        status.say(f"model: {own.name}, {_terms(own)}")
    others = proposals(device)
    if others:
        slow = device.name == SLOW
        one = others[-1] if slow else others[0]  # without a GPU the smallest takes minutes for a picture
        wait = " (minutes for a picture without a GPU)" if slow else ""
        if not one.here:
            status.say(
                f"also for this machine{wait}: {one.title}, {_terms(one)}; `sfumato pull {one.name}`, then up again"
            )


def _terms(one: Proposal) -> str:
    from sfumato.hub.proposals import MEGABITS

    download = "is here" if one.here else f"{gigabytes(one.size)}, {one.minutes:.0f} min at {MEGABITS} Mbit/s"
    return f"licence {one.licence}, {download}, draws in {gigabytes(one.memory)} of memory as {one.dtype}"


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _open(address: str, show: bool) -> None:
    if show:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
