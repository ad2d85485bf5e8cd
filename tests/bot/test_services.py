"""The adapters: the services' own libraries against stand-ins of the services on this machine."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("aiohttp", reason='needs the extras of the bots: pip install "sfumato[test]"')

from bot_stand_ins.services import Discord, Homeserver, Telegram, serving, until
from bot_stand_ins.studio import Studio, png
from sfumato.bot.core import Bot
from sfumato.errors import SfumatoError


@pytest.fixture
def studio() -> Studio:
    return Studio()


@pytest.fixture
def bot(studio: Studio) -> Bot:
    return Bot(studio, watch=0.01, seed=lambda: 77)  # type: ignore[arg-type]


def test_telegram(bot: Bot, studio: Studio) -> None:
    from sfumato.bot import telegram

    service = Telegram()

    def keys() -> list[dict[str, str]]:
        shown = [one for one in (*service.of("sendMessage"), *service.of("sendPhoto")) if "reply_markup" in one]
        return [key for row in json.loads(shown[-1]["reply_markup"])["inline_keyboard"] for key in row]

    async def talk() -> None:
        async with serving(*service.routes) as address:
            made = telegram.application("1:token", bot, address)
            async with made:
                await made.post_init(made)  # type: ignore[misc]
                await made.updater.start_polling(poll_interval=0, timeout=1)  # type: ignore[union-attr]
                await made.start()
                service.write("/imagine@painter_bot a cat --n 2")
                await until(lambda: service.of("sendMediaGroup") and "Again" in service.last)
                assert {key["text"] for key in keys()} == {"V1", "V2", "U1", "U2", "Again"}
                service.press(next(key["callback_data"] for key in keys() if key["text"] == "U2"))
                await until(lambda: service.of("sendPhoto"))
                service.write("/describe", photo=service.photo())
                await until(lambda: any("a cat (0.91)" in str(one) for one in service.of("editMessageText")))
                service.write("/blend mixed", photo=service.photo(), media_group_id="9")
                service.write("", photo=service.photo(), media_group_id="9")
                await until(lambda: studio.last.get("prompt") == "mixed")
                service.write("/imagine@other_bot a dog")
                service.write("/imagine a secret --private")
                await until(lambda: len(service.of("sendPhoto")) == 3)
                await made.updater.stop()  # type: ignore[union-attr]
                await made.stop()

    asyncio.run(talk())
    names = [one["command"] for one in json.loads(service.of("setMyCommands")[0]["commands"])]
    assert names == ["imagine", "blend", "describe", "queue", "help"]
    first = service.of("sendMessage")[0]
    assert first["text"] == "Waiting, 2 before it" and first["chat_id"] == "-5"
    assert [one["prompt"] for one in studio.requests if "prompt" in one] == ["a cat", "a cat", "", "mixed", "a secret"]
    assert service.of("answerCallbackQuery") and service.of("deleteMessage")
    assert service.of("sendPhoto")[-1]["chat_id"] == "7", "a private picture goes to the person"


def test_matrix(bot: Bot, studio: Studio) -> None:
    from sfumato.bot import matrix

    service = Homeserver()

    async def talk() -> None:
        async with serving(*service.routes) as address:
            with pytest.raises(SfumatoError, match="refuses the token: Unknown token"):
                await matrix.Matrix(address, bot).run("bad")
            running = asyncio.create_task(matrix.Matrix(address, bot).run("good"))
            service.write("good morning")
            service.write("!imagine a cat")
            await until(lambda: "!press r." in service.last)
            lines = service.of("studio")[-1]["m.new_content"]["body"].splitlines()
            service.write("> answered\n\n" + next(one for one in lines if one.startswith("U1")).partition(": ")[2])
            await until(lambda: len(service.of("upload")) == 2)
            for _ in range(2):
                service.send_picture()
            service.write("!blend mixed")
            await until(lambda: studio.last.get("prompt") == "mixed")
            await until(lambda: len(service.of("upload")) == 3)
            service.write("!imagine a secret --private")
            await until(lambda: len(service.of("upload")) == 4 and "press r" in service.last)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(talk())
    said = service.of("studio")
    assert said[0] == {"msgtype": "m.notice", "body": said[0]["body"]} and "Waiting, 2 before it" in said[0]["body"]
    assert said[1]["m.relates_to"]["rel_type"] == "m.replace"
    pictures = [one for one in said if one["msgtype"] == "m.image"]
    assert len(pictures) == 3 and pictures[0]["info"] == {"mimetype": "image/png", "size": len(png()), "w": 64, "h": 64}
    assert service.of("upload")[0]["file"] == png()
    assert studio.requests[1]["kind"] == "upscale" and studio.requests[2]["kind"] == "img2img"
    assert service.of("createRoom")[0]["invite"] == [service.ADA]
    assert any(one["msgtype"] == "m.image" for one in service.of("alone"))


def test_discord(bot: Bot, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    import discord
    import yarl

    from sfumato.bot.discord import Discord as Program
    from sfumato.bot.discord import run

    service = Discord()

    async def talk() -> None:
        async with serving(*service.routes) as address:
            service.address = address
            monkeypatch.setattr(discord.http.Route, "BASE", f"{address}/api")
            gateway = yarl.URL(address.replace("http", "ws") + "/gateway/")
            monkeypatch.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", gateway)
            with pytest.raises(SfumatoError, match="Discord refuses the token"):
                await asyncio.to_thread(run, "bad", bot)
            program = Program(bot)
            running = asyncio.create_task(program.start("good"))
            await until(program.is_ready)
            await service.command("imagine", {"name": "prompt", "type": 3, "value": "a cat"},
                                  {"name": "n", "type": 4, "value": 2})  # fmt: skip
            await until(lambda: "U2" in service.last)
            buttons = [one for row in service.of("edit")[-1]["components"] for one in row["components"]]
            assert [one["label"] for one in buttons] == ["V1", "V2", "U1", "U2", "Again"]
            assert service.of("edit")[-1]["files[1]"] == png()
            await service.press(next(one["custom_id"] for one in buttons if one["label"] == "U2"), "U2")
            await until(lambda: studio.last.get("kind") == "upscale" and "U1" in service.last)
            pictures = ({"name": name, "type": 11, "value": str(k)} for k, name in enumerate(("first", "second")))
            await service.command("blend", *pictures, {"name": "prompt", "type": 3, "value": "mixed"}, files=2)
            await until(lambda: studio.last.get("prompt") == "mixed" and "Again" in service.last)
            await service.command("imagine", {"name": "prompt", "type": 3, "value": "a secret"},
                                  {"name": "private", "type": 5, "value": True})  # fmt: skip
            await until(lambda: studio.last.get("prompt") == "a secret" and "Again" in service.last)
            await service.command("imagine", {"name": "prompt", "type": 3, "value": "a cat"},
                                  {"name": "size", "type": 3, "value": "huge"})  # fmt: skip
            await until(lambda: "512x768" in service.last)
            await service.press("x.77", "Cancel")
            await until(lambda: "only the person who asked" in service.last)
            await program.close()
            await running

    asyncio.run(talk())
    commands = {one["name"]: one for one in service.of("commands")[0]["all"]}
    assert set(commands) == {"imagine", "blend", "describe", "queue", "help"}
    options = {one["name"]: one for one in commands["imagine"]["options"]}
    assert options["prompt"]["required"] and options["steps"]["description"] == "How many steps."
    assert service.intents == 0, "the bot reads no messages"
    hidden = [one.get("data", {}).get("flags", 0) for one in service.of("callback")]
    assert hidden == [0, 0, 0, 64, 64, 0]
    kinds = [one["type"] for one in service.of("callback")]
    assert kinds == [5, 5, 5, 5, 5, 6], "an answer comes, but for Cancel, below whose message nothing else is to stand"
    assert service.of("edit")[-1]["flags"] == 64
