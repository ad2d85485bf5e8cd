"""Telegram, by python-telegram-bot."""

from __future__ import annotations

import asyncio
import io
from typing import Any

from telegram import Bot as Api
from telegram import (
    BotCommand,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaPhoto,
    MessageEntity,
    Update,
)
from telegram import Message as Written
from telegram.error import BadRequest, Forbidden
from telegram.ext import Application, CallbackQueryHandler, ContextTypes, MessageHandler, filters

from sfumato.bot.core import Bot, Message
from sfumato.bot.words import COMMANDS

IN_A_ROW = 4  # buttons
ALBUMS, ALBUM_COMES = 64, 1.5  # that are remembered; seconds until all pictures of one are there
CAPTION = 1024  # characters of a caption at most
Context = ContextTypes.DEFAULT_TYPE


class Chat:
    """The chat where a command was given; private answers go to the person's own chat with the bot."""

    sign = "/"

    def __init__(self, api: Api, chat: int, person: int):
        self._api, self._chat, self._person = api, chat, person
        self._shown: Written | None = None

    async def show(self, message: Message) -> None:
        chat = self._person if message.private else self._chat
        keys = _keyboard(message)
        try:
            if message.pictures:
                await self._pictures(chat, message, keys)
            elif self._shown is not None:
                await self._shown.edit_text(message.text, reply_markup=keys)
            else:
                self._shown = await self._api.send_message(chat, message.text, reply_markup=keys)
        except Forbidden:  # the person never wrote to the bot alone
            await self._api.send_message(self._chat, "Start a private chat with me first; then I can answer there.")
        except BadRequest as error:
            if "not modified" not in str(error):
                raise

    async def _pictures(self, chat: int, message: Message, keys: InlineKeyboardMarkup | None) -> None:
        if self._shown is not None:
            await self._shown.delete()
            self._shown = None
        text = message.text[:CAPTION]
        if len(message.pictures) == 1:
            await self._api.send_photo(chat, message.pictures[0], caption=text, reply_markup=keys)
            return
        await self._api.send_media_group(chat, [InputMediaPhoto(one) for one in message.pictures])
        await self._api.send_message(chat, text, reply_markup=keys)


def application(token: str, bot: Bot, base: str | None = None) -> Application:
    """Returns the program that answers in Telegram; `base` is the address of its API, if it is not the usual one."""
    builder = Application.builder().token(token).concurrent_updates(True).post_init(_introduce)
    if base is not None:
        builder = builder.base_url(f"{base}/bot").base_file_url(f"{base}/file/bot")
    made = builder.build()
    albums: dict[str, list[Written]] = {}  # pictures that were sent together come one by one

    async def album(update: Update, context: Context) -> None:
        written = update.effective_message
        if written is not None and written.media_group_id is not None:
            albums.setdefault(written.media_group_id, []).append(written)
            while len(albums) > ALBUMS:
                del albums[next(iter(albums))]

    async def command(update: Update, context: Context) -> None:
        written = update.effective_message
        if written is None or written.from_user is None:
            return
        name, text = _command(written, context.bot.username)
        if name in (*COMMANDS, "start"):
            sent = [written]
            if written.media_group_id is not None:
                await asyncio.sleep(ALBUM_COMES)
                sent = albums.get(written.media_group_id, sent)
            pictures = [await _file(one) for one in (*sent, written.reply_to_message) if one and one.photo]
            place = Chat(context.bot, written.chat_id, written.from_user.id)
            await bot.command(name, text, str(written.from_user.id), place, pictures)

    async def press(update: Update, context: Context) -> None:
        query = update.callback_query
        if query is None or query.data is None or query.message is None:
            return
        await query.answer()
        place = Chat(context.bot, query.message.chat.id, query.from_user.id)
        await bot.press(query.data, str(query.from_user.id), place)

    asked = filters.COMMAND | filters.CaptionEntity(MessageEntity.BOT_COMMAND)
    made.add_handler(MessageHandler(asked, command))
    made.add_handler(CallbackQueryHandler(press))
    made.add_handler(MessageHandler(filters.PHOTO, album), group=-1)  # before the command itself
    return made


def run(token: str, bot: Bot, address: str | None = None) -> None:
    """Runs the bot until it is stopped. `address` is that of your own server of Telegram's API, if you have one."""
    application(token, bot, address).run_polling(allowed_updates=["message", "callback_query"])


async def _introduce(made: Application) -> None:
    await made.bot.set_my_commands([BotCommand(name, does) for name, (_, does) in COMMANDS.items()])


def _command(written: Written, own: str) -> tuple[str, str]:
    """Returns the command and the text after it; "" as the command if it is meant for another bot."""
    head, _, text = (written.text or written.caption or "").partition(" ")
    name, _, whose = head.removeprefix("/").partition("@")
    return ("" if whose and whose.lower() != own.lower() else name.lower()), text


async def _file(written: Written) -> bytes:
    file = await written.photo[-1].get_file()
    content = io.BytesIO()
    await file.download_to_memory(content)
    return content.getvalue()


def _keyboard(message: Message) -> InlineKeyboardMarkup | None:
    keys: list[Any] = [InlineKeyboardButton(one.label, callback_data=one.action) for one in message.buttons]
    rows = [keys[k : k + IN_A_ROW] for k in range(0, len(keys), IN_A_ROW)]
    return InlineKeyboardMarkup(rows) if rows else None
