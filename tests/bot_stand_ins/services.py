"""What the chat services answer over HTTP, as their documentation and the libraries' own types describe it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar

from aiohttp import WSMsgType, web

from bot_stand_ins.studio import png

Heard = list[tuple[str, dict[str, Any]]]


@asynccontextmanager
async def serving(*routes: web.RouteDef) -> AsyncIterator[str]:
    """The address of a server on this machine with these routes."""
    app = web.Application(client_max_size=1 << 26)
    app.add_routes(routes)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def until(true: Callable[[], object], seconds: float = 120) -> None:
    """Waits until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        await asyncio.sleep(0.01)


class Service:
    """What all have: `heard` is what the bot sent, as (call, fields); files are in fields as bytes."""

    def __init__(self) -> None:
        self.heard: Heard = []

    @property
    def last(self) -> str:
        """What it sent last, as text."""
        return str(self.heard[-1:])

    def of(self, call: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.heard if name == call]


def _json(value: Any, status: int = 200) -> web.Response:
    """A reply whose type says nothing of characters, as Discord's does."""
    return web.Response(body=json.dumps(value).encode(), status=status, content_type="application/json")


async def fields_of(request: web.Request) -> dict[str, Any]:
    if not request.content_type.startswith("multipart/"):
        data = await request.read()
        return json.loads(data) if request.content_type == "application/json" and data else dict(await request.post())
    found: dict[str, Any] = {}
    for name, value in (await request.post()).items():
        found[name] = value.file.read() if isinstance(value, web.FileField) else value
    return found


class Telegram(Service):
    """The Bot API: https://core.telegram.org/bots/api."""

    BOT: ClassVar[dict[str, Any]] = {"id": 1, "is_bot": True, "first_name": "Painter", "username": "painter_bot"}
    ADA: ClassVar[dict[str, Any]] = {"id": 7, "is_bot": False, "first_name": "Ada"}
    GROUP: ClassVar[dict[str, Any]] = {"id": -5, "type": "group", "title": "Studio"}

    def __init__(self) -> None:
        super().__init__()
        self._updates: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._numbers = iter(range(1, 1000))

    @property
    def routes(self) -> list[web.RouteDef]:
        return [web.post("/bot{token}/{method}", self._call), web.get("/file/bot{token}/{path:.*}", self._file)]

    def write(self, text: str, **more: Any) -> None:
        """Somebody writes to the group; with a photo the text is its caption."""
        entities = [{"type": "bot_command", "offset": 0, "length": len(text.split()[0])}] if text else []
        kind = "caption" if "photo" in more else "text"
        words = {kind: text, f"{'caption_' if kind == 'caption' else ''}entities": entities} if text else {}
        self._updates.put_nowait({"message": {**self._message(), "from": self.ADA, **words, **more}})

    def press(self, data: str) -> None:
        query = {"id": "1", "from": self.ADA, "chat_instance": "1", "data": data, "message": self._message()}
        self._updates.put_nowait({"callback_query": query})

    def photo(self) -> list[dict[str, Any]]:
        return [{"file_id": "f1", "file_unique_id": "u1", "width": 64, "height": 64}]

    def _message(self, **more: Any) -> dict[str, Any]:
        return {"message_id": next(self._numbers), "date": int(time.time()), "chat": self.GROUP, **more}

    async def _call(self, request: web.Request) -> web.Response:
        method, fields = request.match_info["method"], await fields_of(request)
        result: Any = True
        if method == "getMe":
            result = self.BOT
        elif method == "getUpdates":
            try:
                update = await asyncio.wait_for(self._updates.get(), 0.2)
                result = [{"update_id": next(self._numbers), **update}]
            except TimeoutError:
                result = []
        elif method == "getFile":
            result = {"file_id": "f1", "file_unique_id": "u1", "file_path": "photos/1.png"}
        else:
            self.heard.append((method, fields))
            if method == "sendMediaGroup":
                result = [self._message()]
            elif method.startswith(("send", "edit")):
                result = self._message(text="")
        return _json({"ok": True, "result": result})

    async def _file(self, request: web.Request) -> web.Response:
        return web.Response(body=png("red"), content_type="image/png")


class Homeserver(Service):
    """The client-server API: https://spec.matrix.org/latest/client-server-api/."""

    BOT, ADA, ROOM = "@painter:here", "@ada:here", "!studio:here"

    def __init__(self) -> None:
        super().__init__()
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._numbers = iter(range(1, 1000))

    @property
    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/_matrix/{path:.*}", self._call)]

    def write(self, body: str, **more: Any) -> None:
        self._event({"msgtype": "m.text", "body": body, **more})

    def send_picture(self) -> None:
        self._event({"msgtype": "m.image", "body": "a.png", "url": "mxc://here/abc", "info": {}})

    def _event(self, content: dict[str, Any]) -> None:
        self._events.put_nowait({
            "type": "m.room.message", "event_id": f"$e{next(self._numbers)}", "sender": self.ADA, "content": content,
            "origin_server_ts": int(time.time() * 1000), "unsigned": {},
        })  # fmt: skip

    async def _call(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        if path.endswith("/whoami"):
            if "Bearer good" not in request.headers.get("Authorization", ""):
                return _json({"errcode": "M_UNKNOWN_TOKEN", "error": "Unknown token"}, status=401)
            return _json({"user_id": self.BOT, "device_id": "D"})
        if path.endswith("/sync"):
            return _json(await self._sync("since" in request.query))
        if "/download/" in path:
            return web.Response(body=png("blue"), content_type="image/png")
        if path.endswith("/upload"):
            self.heard.append(("upload", {"file": await request.read()}))
            return _json({"content_uri": f"mxc://here/{len(self.heard)}"})
        fields = await fields_of(request)
        if path.endswith("/createRoom"):
            self.heard.append(("createRoom", fields))
            return _json({"room_id": "!alone:here"})
        room = "alone" if "alone" in path else "studio"
        self.heard.append((room, fields))
        return _json({"event_id": f"$b{len(self.heard)}"})

    async def _sync(self, later: bool) -> dict[str, Any]:
        events = []
        if later:
            with suppress(TimeoutError):
                events.append(await asyncio.wait_for(self._events.get(), 0.2))
        room = {
            "timeline": {"events": events, "limited": False, "prev_batch": "p"},
            "state": {"events": []}, "ephemeral": {"events": []}, "account_data": {"events": []},
        }  # fmt: skip
        rooms = {"join": {self.ROOM: room} if events else {}, "invite": {}, "leave": {}}
        return {
            "next_batch": f"s{next(self._numbers)}", "rooms": rooms, "presence": {"events": []},
            "to_device": {"events": []}, "device_lists": {"changed": [], "left": []},
            "device_one_time_keys_count": {},
        }  # fmt: skip


class Discord(Service):
    """The HTTP API and the gateway: https://discord.com/developers/docs."""

    BOT: ClassVar[dict[str, Any]] = {
        "id": "1",
        "username": "painter",
        "discriminator": "0",
        "avatar": None,
        "bot": True,
        "global_name": None,
    }
    ADA: ClassVar[dict[str, Any]] = {
        "id": "7",
        "username": "ada",
        "discriminator": "0",
        "avatar": None,
        "global_name": "Ada",
    }
    APP: ClassVar[dict[str, Any]] = {
        "id": "1", "name": "painter", "description": "", "icon": None, "bot_public": True,
        "bot_require_code_grant": False, "verify_key": "k", "owner": ADA, "flags": 0,
    }  # fmt: skip
    CHANNEL: ClassVar[dict[str, Any]] = {"id": "30", "type": 1, "last_message_id": None, "recipients": [ADA]}

    def __init__(self) -> None:
        super().__init__()
        self._numbers = iter(range(100, 1000))
        self._socket: web.WebSocketResponse | None = None
        self.intents: int | None = None
        self.address = ""

    @property
    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/gateway/", self._gateway),
            web.get("/files/a.png", self._file),
            web.route("*", "/api/{path:.*}", self._call),
        ]

    async def command(self, name: str, *options: dict[str, Any], files: int = 0) -> None:
        url = f"{self.address}/files/a.png"
        found = {
            str(k): {"id": str(k), "filename": "a.png", "size": 1, "url": url, "proxy_url": url} for k in range(files)
        }
        data = {"id": "20", "name": name, "type": 1, "options": list(options), "resolved": {"attachments": found}}
        await self._interaction(2, data)

    async def press(self, action: str, label: str) -> None:
        button = {"type": 2, "style": 2, "label": label, "custom_id": action, "id": 1}
        message = self._message(components=[{"type": 1, "id": 2, "components": [button]}])
        await self._interaction(3, {"component_type": 2, "custom_id": action}, message=message)

    async def _interaction(self, kind: int, data: dict[str, Any], **more: Any) -> None:
        number = str(next(self._numbers))
        await self._say(0, "INTERACTION_CREATE", {
            "id": number, "application_id": "1", "type": kind, "data": data, "token": f"t{number}", "version": 1,
            "channel_id": "30", "channel": self.CHANNEL, "user": self.ADA, "locale": "en-US", "entitlements": [],
            "authorizing_integration_owners": {}, "context": 1, "attachment_size_limit": 1 << 23,
            "app_permissions": "0", **more,
        })  # fmt: skip

    def _message(self, **more: Any) -> dict[str, Any]:
        return {
            "id": str(next(self._numbers)), "channel_id": "30", "author": self.BOT, "content": "", "attachments": [],
            "embeds": [], "mentions": [], "mention_roles": [], "mention_everyone": False, "pinned": False,
            "tts": False, "timestamp": "2025-01-01T00:00:00+00:00", "edited_timestamp": None, "type": 0,
            "components": [], "flags": 0, **more,
        }  # fmt: skip

    async def _call(self, request: web.Request) -> web.Response:
        path, fields = request.match_info["path"], await fields_of(request)
        if request.headers.get("Authorization") == "Bot bad":
            return _json({"message": "401: Unauthorized", "code": 0}, status=401)
        if path == "users/@me":
            return _json(self.BOT)
        if path == "oauth2/applications/@me":
            return _json(self.APP)
        if path.endswith("/commands"):
            self.heard.append(("commands", {"all": fields}))
            return _json([{
                "id": str(next(self._numbers)), "application_id": "1", "version": "1", "type": 1,
                "default_member_permissions": None, **one,
            } for one in fields])  # fmt: skip
        if path.endswith("/callback"):
            self.heard.append(("callback", fields))
            return _json({"interaction": {"id": path.split("/")[1], "type": 2}})
        self.heard.append(("edit", {**fields, **json.loads(fields.get("payload_json", "{}"))}))
        return _json(self._message())

    async def _gateway(self, request: web.Request) -> web.WebSocketResponse:
        self._socket = web.WebSocketResponse()
        await self._socket.prepare(request)
        await self._say(10, None, {"heartbeat_interval": 41250})
        async for message in self._socket:
            if message.type != WSMsgType.TEXT:
                break
            said = json.loads(message.data)
            if said["op"] == 2:
                self.intents = said["d"]["intents"]
                await self._say(0, "READY", {
                    "v": 10, "user": self.BOT, "guilds": [], "session_id": "s", "application": {"id": "1", "flags": 0},
                    "resume_gateway_url": self.address.replace("http", "ws") + "/gateway/",
                })  # fmt: skip
            elif said["op"] == 1:
                await self._say(11, None, None)
        return self._socket

    async def _file(self, request: web.Request) -> web.Response:
        return web.Response(body=png("red"), content_type="image/png")

    async def _say(self, op: int, name: str | None, data: Any) -> None:
        assert self._socket is not None
        await self._socket.send_json({"op": op, "t": name, "s": next(self._numbers) if op == 0 else None, "d": data})
