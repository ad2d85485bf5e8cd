"""Pulling from a hub of our own on loopback, with every fault that a network has."""

import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

import sfumato
from sfumato.errors import SfumatoError
from sfumato.hub import licence_acceptance, local_models, transfer

Hub = Any  # tests/hub/conftest.py
DATA = bytes(range(256)) * 1024  # what it serves
REPOSITORY = "stable-diffusion-v1-5/stable-diffusion-v1-5"
NAME = "v1-5-pruned-emaonly.safetensors"


def pull(**options: object) -> Path:
    return sfumato.pull("sd1.5", accept_licence=True, **options)


def leftovers(home: Path) -> list[int]:
    """The sizes of what unfinished downloads left."""
    return [path.stat().st_size for path in (home / "models" / ".partial").iterdir() if path.suffix != ".lock"]


def test_a_file_arrives_whole_and_is_not_fetched_twice(hub: Hub, home: Path) -> None:
    told: list[tuple[str, int, int]] = []
    path = pull(progress=lambda *what: told.append(what))
    assert path == home / "models" / NAME and path.read_bytes() == DATA
    assert told[-1] == (NAME, len(DATA), len(DATA)) and leftovers(home) == []
    asked = len(hub.requests)
    assert pull() == path and len(hub.requests) == asked
    assert local_models.find("sd1.5").path == path


def test_a_broken_connection_goes_on_where_it_broke(hub: Hub) -> None:
    hub.break_after, hub.breaks = 100_000, 2
    assert pull().read_bytes() == DATA
    assert hub.downloads() == [None, "bytes=100000-", "bytes=200000-"]


def test_a_later_pull_goes_on_where_the_first_gave_up(hub: Hub, home: Path) -> None:
    hub.break_after, hub.breaks = 0, 100
    hub.repositories[REPOSITORY][NAME] = DATA
    (home / "models" / ".partial").mkdir(parents=True)
    part = home / "models" / ".partial" / hashlib.sha256(DATA).hexdigest()
    part.write_bytes(DATA[:5000])
    with pytest.raises(SfumatoError, match=f"the connection to {hub.address} failed .*what came is kept"):
        pull()
    assert hub.downloads() == ["bytes=5000-"] * transfer.TRIES and leftovers(home) == [5000]
    assert not (home / "models" / NAME).exists()
    hub.breaks = 0
    assert pull().read_bytes() == DATA


def test_an_interrupt_keeps_what_came(hub: Hub, home: Path) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(progress=stop)
    assert not (home / "models" / NAME).exists() and len(leftovers(home)) == 1
    assert pull().read_bytes() == DATA


def test_a_hub_that_does_not_resume_is_read_from_the_beginning(hub: Hub) -> None:
    hub.break_after, hub.breaks, hub.ignore_range = 100_000, 1, True
    assert pull().read_bytes() == DATA


def test_a_partial_file_that_is_too_long_is_begun_again(hub: Hub, home: Path) -> None:
    (home / "models" / ".partial").mkdir(parents=True)
    (home / "models" / ".partial" / hashlib.sha256(DATA).hexdigest()).write_bytes(DATA + b"more")
    assert pull().read_bytes() == DATA


def test_damaged_bytes_are_refused_and_deleted(hub: Hub, home: Path) -> None:
    hub.damaged.add(NAME)
    with pytest.raises(SfumatoError, match="arrived damaged"):
        pull()
    assert leftovers(home) == [] and not (home / "models" / NAME).exists()


def test_a_hub_that_sends_too_much_or_nothing_is_given_up(hub: Hub, home: Path) -> None:
    hub.extra = b"more"
    with pytest.raises(SfumatoError, match="arrived damaged"):
        pull()
    hub.extra, hub.silent = b"", True
    with pytest.raises(SfumatoError, match=f"{hub.address} sends nothing of {NAME}"):
        pull()
    assert leftovers(home) == [0] and len(hub.downloads()) == 1 + transfer.TRIES


def test_another_file_than_was_released_is_not_downloaded(hub: Hub) -> None:
    hub.repositories[REPOSITORY][NAME] = b"another" * 1000
    with pytest.raises(SfumatoError, match=r"holds another v1-5.* \(its SHA-256 differs\)"):
        pull()
    assert hub.downloads() == []


def test_a_file_of_the_users_own_is_not_replaced(hub: Hub, home: Path) -> None:
    (home / "models").mkdir(parents=True)
    (home / "models" / NAME).write_bytes(b"mine")
    with pytest.raises(SfumatoError, match="is not the released file; move it away"):
        pull()
    assert (home / "models" / NAME).read_bytes() == b"mine"


@pytest.mark.parametrize(("status", "code"), [(401, "GatedRepo"), (403, "GatedRepo"), (403, ""), (401, "RepoNotFound")])
def test_a_gated_repository_says_where_to_accept(hub: Hub, status: int, code: str) -> None:
    hub.refuse[REPOSITORY] = (status, code)
    with pytest.raises(SfumatoError) as error:
        pull()
    assert f"accept its terms at {hub.address}/{REPOSITORY}" in str(error.value) and "HF_TOKEN" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_token_is_sent(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pull()
    assert {token for _, _, token in hub.requests} == {"Bearer hf_secret"}


def test_what_is_gone_is_named(hub: Hub) -> None:
    del hub.repositories[REPOSITORY][NAME]
    with pytest.raises(SfumatoError, match=f"no longer holds {NAME}"):
        pull()
    del hub.repositories[REPOSITORY]
    with pytest.raises(SfumatoError, match=r"has no repository at .*404"):
        pull()


def test_a_hub_out_of_order_is_asked_again_and_then_given_up(hub: Hub) -> None:
    hub.refuse[REPOSITORY] = (503, "")
    with pytest.raises(SfumatoError, match="the hub answers 503"):
        pull()


def test_a_hub_that_hangs_ends_in_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    monkeypatch.setattr(transfer, "TRIES", 2)
    hub.hang = 0.3
    with pytest.raises(SfumatoError, match=r"the connection to .* failed \(.*timed out\)"):
        pull()


def test_no_network_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(SfumatoError, match=f"cannot reach {address} .*; check the network") as error:
        pull()
    assert "\n" not in str(error.value)


def test_a_full_disk_is_told_before_anything_is_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": len(DATA) - 1}))
    with pytest.raises(SfumatoError, match="make room or set SFUMATO_HOME"):
        pull()
    assert hub.downloads() == []


def test_the_licence_comes_before_the_network_and_is_recorded(hub: Hub, home: Path) -> None:
    with pytest.raises(SfumatoError, match=r"CreativeML Open RAIL-M, which you have not accepted.*--accept-licence"):
        sfumato.pull("sd1.5")
    assert hub.requests == []
    pull()
    (record,) = json.loads(licence_acceptance.record_file().read_text())
    assert (record["release"], record["licence"]) == ("sd1.5", "creativeml-openrail-m")
    assert record["accepted"].endswith("+00:00") and record["text"].startswith("https://")
    (home / "models" / NAME).unlink()
    assert sfumato.pull("sd1.5").exists()  # accepted once and for all
    assert len(json.loads(licence_acceptance.record_file().read_text())) == 1
    licence_acceptance.record_file().write_text("{")
    with pytest.raises(SfumatoError, match="cannot read the accepted licences"):
        sfumato.pull("sd1.5")


def folder(weights: dict[str, bytes]) -> dict[str, bytes]:
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "image_encoder": [None, None],
        "../outside": ["x", "y"],
        "..": ["x", "y"],
    }
    return {
        "model_index.json": json.dumps(index).encode(),
        "README.md": b"read",
        "../outside.json": b"{}",
        "tokenizer/vocab.json": b"{}",
        "tokenizer/merges.txt": b"#",
        "unet/config.json": b"{}",
        "safety_checker/model.safetensors": b"huge",
        "image_encoder/config.json": b"{}",
        **weights,
    }


SHARDED = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.mark.parametrize(
    ("weights", "chosen"),
    [
        (("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors", "model.bin"), [0]),
        (("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin"), [0]),
        (("model.safetensors.index.json", *SHARDED, "model.safetensors.index.fp16.json"), [0, 1, 2]),
    ],
)
def test_a_folder_has_what_is_needed_and_its_index_last(
    hub: Hub, home: Path, weights: tuple[str, ...], chosen: list[int]
) -> None:
    index = json.dumps({"weight_map": dict(enumerate(SHARDED))}).encode()
    data = {name: index if ".index." in name else name.encode() * 999 for name in weights}
    hub.repositories[REPOSITORY] = folder({f"unet/{name}": content for name, content in data.items()})
    # First it breaks at the last weight file, and then the same command completes it.
    last = weights[chosen[-1]]
    hub.damaged.add(last)
    with pytest.raises(SfumatoError, match="damaged"):
        pull(layout="diffusers")
    assert not (home / "models" / "sd1.5" / "model_index.json").exists()
    hub.damaged.clear()
    path = pull(layout="diffusers")
    assert path == home / "models" / "sd1.5"
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    expected = {f"unet/{weights[index]}" for index in chosen}
    assert files == {"model_index.json", "tokenizer/vocab.json", "tokenizer/merges.txt", "unet/config.json", *expected}
    assert all((path / "unet" / weights[index]).read_bytes() == data[weights[index]] for index in chosen)
    asked = len(hub.requests)
    assert pull(layout="diffusers") == path and len(hub.requests) == asked


def test_names_and_layouts_that_are_not_there_are_refused(hub: Hub) -> None:
    with pytest.raises(SfumatoError, match=r"no release 'sd1.6'; did you mean sd1\.\d"):
        sfumato.pull("sd1.6")
    with pytest.raises(SfumatoError, match="no layout 'zip'; choose original or diffusers"):
        pull(layout="zip")
    with pytest.raises(SfumatoError, match="no layout 'diffusers'; choose original"):
        sfumato.pull("vae-ft-mse", layout="diffusers")
    assert hub.requests == []


@pytest.mark.parametrize("variable", ["SFUMATO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SfumatoError, match=r"pulling sd1.5 needs the network, which offline mode forbids"):
        pull()
    assert hub.requests == [] and not os.path.exists(licence_acceptance.record_file())
