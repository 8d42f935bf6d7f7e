"""A client of Signet in 170 lines, written from docs/protocol.md alone. Its device lives in one file.

python examples/minimal_client.py http://127.0.0.1:8700 anna.json Anna           tells Anna's account, and listens
python examples/minimal_client.py http://127.0.0.1:8700 ben.json Ben ACCOUNT     sends her each line that you type
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import random
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx
from nacl.signing import SigningKey
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

DEVICE = "minimal"
FATAL = {1002, 1003, 1007, 1009, *range(4500, 5000)}


def b64(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode()


class Client:
    def __init__(self, url: str, file: Path) -> None:
        self.url, self.file = url, file
        new: dict[str, Any] = {"seed": os.urandom(32).hex(), "registration": str(uuid.uuid4()), "account": ""}
        new |= {"cursors": {}, "items": {}, "outbox": {}}
        self.state = json.loads(file.read_text()) if file.exists() else new
        self.key = SigningKey(bytes.fromhex(self.state["seed"]))
        self.ws: Any = None
        self.welcomed, self.under_way = False, ""
        self.ticks: dict[str, dict[str, int]] = {}
        self.news = asyncio.Event()  # something was stored, or a tick has moved

    def save(self) -> None:
        draft = self.file.with_suffix(".new")
        with draft.open("w") as out:
            json.dump(self.state, out)
            os.fsync(out.fileno())
        draft.rename(self.file)
        self.news.set()

    def messages(self, c: str) -> list[Any]:
        """What is held without a hole, in order."""
        held = self.state["items"].get(c, {})
        return [held[str(seq)] for seq in range(1, self.state["cursors"].get(c, 0) + 1) if str(seq) in held]

    def sign(self, *lines: str) -> str:
        return b64(self.key.sign("\n".join(lines).encode()).signature)

    # By HTTP

    async def call(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(base_url=self.url) as http:
            return (await http.request(method, path, json=body, headers=headers)).raise_for_status().json()

    async def signed(self, purpose: str, *lines: str) -> dict[str, str]:
        given = await self.call("GET", "/v1/challenge")
        return {"nonce": given["nonce"], "signature": self.sign(purpose, given["nonce"], given["server"], *lines)}

    async def register(self, name: str) -> None:
        self.save()  # the key must be safe before the account has it
        id_, key = self.state["registration"], b64(bytes(self.key.verify_key))
        body = {"id": id_, "name": name, "device": DEVICE, "key": key}
        body |= await self.signed("signet.register.v1", id_, DEVICE, key)
        self.state["account"] = (await self.call("POST", "/v1/accounts", body))["account"]
        self.save()

    async def start(self, other: str) -> str:
        login = {"account": self.state["account"], "device": DEVICE}
        login |= await self.signed("signet.hello.v1", self.state["account"], DEVICE)
        token = (await self.call("POST", "/v1/token", login))["token"]
        body = {"id": str(uuid.uuid4()), "kind": "direct", "members": [other], "protection": "none"}
        return str((await self.call("POST", "/v1/conversations", body, token))["conversation"])

    # Live

    async def run(self) -> int:
        """Stays connected; returns the number of a close after which there is no use in coming back."""
        pause, number, url = 0.2, 1006, self.url.replace("http", "ws", 1) + "/v1/live"
        while number not in FATAL:
            await asyncio.sleep(random.uniform(0, pause))
            pause = min(pause * 2, 20)
            try:
                async with connect(url, subprotocols=["signet.v1.json"], max_size=None) as self.ws:  # type: ignore[list-item]
                    async for text in self.ws:
                        pause = 0.2
                        await self.take(json.loads(text))
                    number = self.ws.close_code
            except (OSError, WebSocketException):
                number = self.ws.close_code if self.ws else 1006
            self.ws, self.welcomed, self.under_way = None, False, ""
        return number

    async def say(self, t: str, **fields: Any) -> None:
        with contextlib.suppress(WebSocketException):  # `run` sees it, too
            await self.ws.send(json.dumps({"t": t, **fields}))

    async def take(self, frame: Any) -> None:
        match frame["t"]:
            case "challenge":
                account = self.state["account"]
                signature = self.sign("signet.hello.v1", frame["nonce"], frame["server"], account, DEVICE)
                cursors = self.state["cursors"]
                await self.say("hello", account=account, device=DEVICE, signature=signature, cursors=cursors)
            case "welcome":
                self.welcomed = True
                for each in frame["conversations"]:
                    self.tick(each["c"], each.get("ticks", {}))
                    if each.get("delivered", 0) < (cursor := self.state["cursors"].get(each["c"], 0)):
                        await self.say("ack", c=each["c"], upto=cursor)
                await self.send_next()
            case "message" | "change":
                await self.hold(frame["c"], [frame])
            case "page":
                for target, _ in frame.get("retracted", ()):
                    self.state["items"].get(frame["c"], {}).get(str(target), {}).pop("body", None)
                await self.hold(frame["c"], frame["items"], frame["upto"])
                if frame.get("id") and frame["upto"] < frame["head"]:
                    await self.say("fetch", id="more", c=frame["c"], after=frame["upto"])
            case "receipt":
                self.tick(frame["c"], frame)
            case "accepted" | "refused" if frame["id"] == self.under_way:
                await self.answered(frame)
            case "resync":
                await self.ws.close()

    def tick(self, c: str, told: Any) -> None:
        known = self.ticks.get(c, {})
        self.ticks[c] = {mark: max(known.get(mark, 0), told.get(mark, 0)) for mark in ("delivered", "read")}
        self.news.set()

    async def hold(self, c: str, items: list[Any], upto: int = 0) -> None:
        """Stores items and the cursor that they lead to; acknowledges it, or asks for what is missing."""
        held, before = self.state["items"].setdefault(c, {}), self.state["cursors"].get(c, 0)
        for item in items:
            held.setdefault(str(item["seq"]), item)
            if item["t"] == "message":
                self.state["outbox"].pop(json.loads(item["header"])["id"], None)
            elif item["what"] == "retracted":
                held.get(str(item["target"]), {}).pop("body", None)
        cursor = max(before, upto)
        while str(cursor + 1) in held:
            cursor += 1
        self.state["cursors"][c] = cursor
        self.save()
        if cursor > before:
            await self.say("ack", c=c, upto=cursor)
        if not upto and max(map(int, held)) > cursor:
            await self.say("fetch", id="hole", c=c, after=cursor)

    async def send(self, c: str, text: str) -> None:
        id_, body = str(uuid.uuid4()), json.dumps({"kind": "text", "text": text, "salt": b64(os.urandom(16))})
        fields = {"id": id_, "c": c, "s": self.state["account"], "d": DEVICE, "a": self.state["cursors"].get(c, 0)}
        header = json.dumps({**fields, "h": b64(hashlib.sha256(body.encode()).digest())})
        self.state["outbox"][id_] = {"header": header, "body": body, "signature": self.sign(header)}
        self.save()
        await self.send_next()

    async def send_next(self) -> None:
        """One at a time, so that the messages keep their order."""
        if self.welcomed and not self.under_way and self.state["outbox"]:
            self.under_way = next(iter(self.state["outbox"]))
            await self.say("send", **self.state["outbox"][self.under_way])

    async def answered(self, frame: Any) -> None:
        sent, self.under_way = self.state["outbox"].get(frame["id"]), ""
        if frame["t"] == "accepted" and sent:
            await self.hold(frame["c"], [{**frame, **sent, "t": "message"}])
        elif frame["t"] == "refused" and frame["retry"]:
            await asyncio.sleep(random.uniform(0.2, 2))
        elif frame["t"] == "refused":
            print("refused:", frame["text"], file=sys.stderr)
            del self.state["outbox"][frame["id"]]
        await self.send_next()


async def main(url: str, file: str, name: str, other: str = "") -> None:
    client = Client(url, Path(file))
    if not client.state["account"]:
        await client.register(name)
    print("account:", client.state["account"])
    running = asyncio.create_task(client.run())
    while other and (line := await asyncio.to_thread(sys.stdin.readline)):
        await client.send(await client.start(other), line.rstrip())
    print("closed for good:", await running)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
