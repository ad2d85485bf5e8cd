"""Matrix, by matrix-nio, in rooms that are not encrypted.

It has no buttons: under a picture stands what to write instead, `!press ...`.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections import defaultdict, deque
from typing import Any

from nio import (
    AsyncClient,
    DownloadError,
    InviteMemberEvent,
    MatrixRoom,
    RoomCreateError,
    RoomGetEventResponse,
    RoomMessageImage,
    RoomMessageText,
    RoomSendError,
    SyncError,
    UploadError,
)
from PIL import Image

from sfumato.bot.core import MOST_BLENDED, Bot, Message
from sfumato.bot.words import COMMANDS
from sfumato.errors import SfumatoError

HOMESERVER = "https://matrix.org"
PRESS = "press"
SIGN = "!"  # of commands, because clients use / for commands of their own
WAIT = 30_000  # milliseconds that a request for news may take


class Room:
    """The room where a command was given; private answers go to a room with that person alone."""

    sign = SIGN

    def __init__(self, chat: Matrix, room: str, person: str):
        self._chat, self._room, self._person = chat, room, person
        self._shown: str | None = None

    async def show(self, message: Message) -> None:
        room = await self._chat.own_room(self._person) if message.private else self._room
        for number, file in enumerate(message.pictures, 1):
            await self._chat.send(room, await self._chat.picture(file, f"picture-{number}.png"))
        text = "\n".join([message.text, *(f"{one.label}: {SIGN}{PRESS} {one.action}" for one in message.buttons)])
        content: dict[str, Any] = {"msgtype": "m.notice", "body": text}
        if self._shown is not None:
            content = {**content, "body": f"* {text}", "m.new_content": dict(content)}
            content["m.relates_to"] = {"rel_type": "m.replace", "event_id": self._shown}
        sent = await self._chat.send(room, content)
        self._shown = self._shown or sent


class Matrix:
    """The program that answers on a homeserver as the user whose access token it has."""

    def __init__(self, homeserver: str, bot: Bot):
        self.client, self._bot = AsyncClient(homeserver), bot
        self._rooms: dict[str, str] = {}
        self._sent: dict[tuple[str, str], deque[str]] = defaultdict(lambda: deque(maxlen=MOST_BLENDED))
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, token: str) -> None:
        """Runs until it is stopped. Raises SfumatoError for an invalid token."""
        self.client.access_token = token
        try:
            who = await self.client.whoami()
            if not hasattr(who, "user_id"):
                raise SfumatoError(f"the homeserver refuses the token: {getattr(who, 'message', who)}")
            self.client.user_id = who.user_id
            first = await self.client.sync(timeout=0, full_state=True)  # what was written before is not answered
            if isinstance(first, SyncError):
                raise SfumatoError(f"the homeserver says nothing: {first.message}")
            self.client.add_event_callback(self._heard, RoomMessageText)
            self.client.add_event_callback(self._saw, RoomMessageImage)
            self.client.add_event_callback(self._invited, InviteMemberEvent)
            for room in list(self.client.invited_rooms):
                await self.client.join(room)
            await self.client.sync_forever(timeout=WAIT)
        finally:
            await self.client.close()

    async def send(self, room: str, content: dict[str, Any]) -> str:
        """Sends a message and returns its id. Raises SfumatoError where the homeserver refuses."""
        sent = await self.client.room_send(room, "m.room.message", content, ignore_unverified_devices=True)
        if isinstance(sent, RoomSendError):
            raise SfumatoError(f"the homeserver refuses the message: {sent.message}")
        return sent.event_id

    async def picture(self, file: bytes, name: str) -> dict[str, Any]:
        """Uploads a PNG file and returns the message that shows it. Raises SfumatoError if it is refused."""
        sent, _ = await self.client.upload(io.BytesIO(file), "image/png", name, filesize=len(file))
        if isinstance(sent, UploadError):
            raise SfumatoError(f"the homeserver refuses the picture: {sent.message}")
        width, height = Image.open(io.BytesIO(file)).size
        info = {"mimetype": "image/png", "size": len(file), "w": width, "h": height}
        return {"msgtype": "m.image", "body": name, "url": sent.content_uri, "info": info}

    async def own_room(self, person: str) -> str:
        """Returns the room with one person alone; makes it if needed. Raises SfumatoError if that fails."""
        if person not in self._rooms:
            made = await self.client.room_create(is_direct=True, invite=[person])
            if isinstance(made, RoomCreateError):
                raise SfumatoError(f"the homeserver could not create a private room: {made.message}")
            self._rooms[person] = made.room_id
        return self._rooms[person]

    async def _invited(self, room: MatrixRoom, event: InviteMemberEvent) -> None:
        if event.membership == "invite" and event.state_key == self.client.user_id:
            await self.client.join(room.room_id)

    async def _heard(self, room: MatrixRoom, event: RoomMessageText) -> None:
        recent = time.time() - event.server_timestamp / 1000 < 300
        head, _, text = event.body.rpartition("\n\n")[2].partition(" ")  # before that stands what is answered
        name = head.removeprefix(SIGN).lower()
        if event.sender != self.client.user_id and recent and head[:1] == SIGN and name in (*COMMANDS, PRESS):
            task = asyncio.create_task(self._answer(room.room_id, event, name, text))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, room: str, event: RoomMessageText, name: str, text: str) -> None:
        place = Room(self, room, event.sender)
        if name == PRESS:
            await self._bot.press(text.strip(), event.sender, place)
            return
        pictures = await self._pictures(name, room, event) if name in ("imagine", "blend", "describe") else []
        await self._bot.command(name, text, event.sender, place, pictures)

    async def _saw(self, room: MatrixRoom, event: RoomMessageImage) -> None:
        self._sent[room.room_id, event.sender].append(event.url)

    async def _pictures(self, name: str, room: str, event: RoomMessageText) -> list[bytes]:
        """Returns the picture that the command replies to; without a reply, pictures that the person sent before.

        Those are the last picture for describe, the last ones that blend can take for blend, and none for imagine.
        """
        relation = event.source.get("content", {}).get("m.relates_to", {})
        answered = relation.get("m.in_reply_to", {}).get("event_id")
        sent = self._sent[room, event.sender]
        urls = {"describe": list(sent)[-1:], "blend": list(sent)}.get(name, [])
        if answered:
            got = await self.client.room_get_event(room, answered)
            if isinstance(got, RoomGetEventResponse) and isinstance(got.event, RoomMessageImage):
                urls = [got.event.url]
        if name == "blend":
            sent.clear()
        files = [await self.client.download(url) for url in urls]
        return [bytes(one.body) for one in files if not isinstance(one, DownloadError)]


def run(token: str, bot: Bot, address: str | None = None) -> None:
    """Runs the bot at the homeserver `address` until it is stopped. Raises SfumatoError for an invalid token."""
    asyncio.run(Matrix(address or HOMESERVER, bot).run(token))
