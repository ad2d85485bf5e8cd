"""Discord, by discord.py: commands with fields, buttons that still work after a restart."""

from __future__ import annotations

import io
import re
from typing import Any

import discord
from discord import app_commands

from sfumato.bot.core import CANCEL, Bot, Message
from sfumato.bot.words import OPTIONS, asked
from sfumato.errors import SfumatoError

LONGEST = 2000  # characters of a message
PRIVATE = ("queue", "help")  # commands that are answered to the person alone
HELPS = {name: one.help for name, one in OPTIONS.items()}
Interaction = discord.Interaction


class Answer:
    """The answer to an interaction, which is shown to the person alone if it is private when it begins."""

    sign = "/"

    def __init__(self, interaction: Interaction):
        self._interaction = interaction

    async def begin(self, private: bool) -> None:
        """Says that an answer comes, which Discord waits for three seconds only."""
        if not self._interaction.response.is_done():
            await self._interaction.response.defer(ephemeral=private, thinking=True)

    async def show(self, message: Message) -> None:
        await self.begin(message.private)
        files = [discord.File(io.BytesIO(one), f"picture-{k}.png") for k, one in enumerate(message.pictures, 1)]
        view = discord.ui.View(timeout=None) if message.buttons else None
        if view is not None:
            for one in message.buttons:
                view.add_item(Press(one.action, one.label))
        text = message.text[:LONGEST]
        await self._interaction.edit_original_response(content=text, attachments=files, view=view)


class Aside:
    """What is said of a button that needs no answer: only problems, to the person alone, below what is there."""

    sign = "/"

    def __init__(self, interaction: Interaction):
        self._interaction = interaction

    async def show(self, message: Message) -> None:
        await self._interaction.followup.send(message.text[:LONGEST], ephemeral=True)


class Press(
    discord.ui.DynamicItem[discord.ui.Button[Any]], template=re.compile(r"(?P<action>[vurx]p?\.[0-9a-z]+(?:\.\d+)?)")
):
    """A button; what it does stands in its id."""

    def __init__(self, action: str, label: str):
        super().__init__(discord.ui.Button(label=label, custom_id=action))
        self.action = action

    @classmethod
    async def from_custom_id(cls, interaction: Interaction, item: Any, match: re.Match[str], /) -> Press:
        return cls(match["action"], item.label or "")

    async def callback(self, interaction: Interaction[Any]) -> None:
        place: Answer | Aside
        if self.action.startswith(CANCEL):
            await interaction.response.defer()
            place = Aside(interaction)
        else:
            place = Answer(interaction)
            await place.begin("p" in self.action.partition(".")[0])
        await interaction.client.bot.press(self.action, str(interaction.user.id), place)


class Discord(discord.Client):
    """The program that answers in Discord. It reads no messages, only its own commands."""

    def __init__(self, bot: Bot):
        super().__init__(intents=discord.Intents.none())
        self.bot = bot
        self.tree = app_commands.CommandTree(self)
        commands: tuple[app_commands.Command[Any, Any, Any], ...] = (_imagine, _blend, _describe, _queue, _help)
        for command in commands:
            self.tree.add_command(command)
        self.add_dynamic_items(Press)

    async def setup_hook(self) -> None:
        await self.tree.sync()


async def _do(
    name: str, interaction: Interaction[Any], prompt: str = "", *files: discord.Attachment | None, **given: Any
) -> None:
    bot, place = interaction.client.bot, Answer(interaction)
    try:
        said = asked(prompt, {key: value for key, value in given.items() if value is not None})
        await place.begin(said.private or name in PRIVATE)
        pictures = [await one.read() for one in files if one is not None]
    except (SfumatoError, discord.HTTPException) as error:
        await place.show(Message(f"Not done: {error}", private=True))
        return
    await bot.command(name, said, str(interaction.user.id), place, pictures)


@app_commands.command(name="imagine", description="Draw pictures from words.")
@app_commands.describe(prompt="What to draw.", picture="A picture to draw on.", **HELPS)
async def _imagine(
    interaction: Interaction,
    prompt: str,
    no: str | None = None,
    steps: int | None = None,
    cfg: float | None = None,
    seed: int | None = None,
    n: int | None = None,
    size: str | None = None,
    sampler: str | None = None,
    model: str | None = None,
    picture: discord.Attachment | None = None,
    strength: float | None = None,
    private: bool | None = None,
) -> None:
    await _do(
        "imagine", interaction, prompt, picture, no=no, steps=steps, cfg=cfg, seed=seed, n=n, size=size,
        sampler=sampler, model=model, strength=strength, private=private,
    )  # fmt: skip


@app_commands.command(name="blend", description="Draw a mixture of two pictures or more.")
@app_commands.describe(**{name: HELPS[name] for name in ("strength", "n", "private")})
async def _blend(
    interaction: Interaction,
    first: discord.Attachment,
    second: discord.Attachment,
    third: discord.Attachment | None = None,
    prompt: str = "",
    strength: float | None = None,
    n: int | None = None,
    private: bool | None = None,
) -> None:
    await _do("blend", interaction, prompt, first, second, third, strength=strength, n=n, private=private)


@app_commands.command(name="describe", description="Say what a picture shows.")
@app_commands.describe(private=HELPS["private"])
async def _describe(interaction: Interaction, picture: discord.Attachment, private: bool | None = None) -> None:
    await _do("describe", interaction, "", picture, private=private)


@app_commands.command(name="queue", description="Say how long the queue is, and how your jobs stand.")
async def _queue(interaction: Interaction) -> None:
    await _do("queue", interaction)


@app_commands.command(name="help", description="What this bot can do.")
async def _help(interaction: Interaction) -> None:
    await _do("help", interaction)


def run(token: str, bot: Bot) -> None:
    """Answers until it is stopped. Raises SfumatoError for a token that is not valid."""
    try:
        Discord(bot).run(token, log_handler=None)
    except discord.LoginFailure as error:
        raise SfumatoError(f"Discord refuses the token: {error}") from error
