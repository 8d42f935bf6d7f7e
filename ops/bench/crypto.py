"""`signet bench crypto`: what encryption costs a client. No engine takes part: what would leave goes nowhere."""

import asyncio
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

import msgspec

from ops.progress import progress_bar
from signet_client import Client, Conversation, Outgoing, matrix, wire
from signet_client.crypto.lists import KeysFound, Link
from signet_client.messages import encode_body

MESSAGES: Final = 2_000
BATCH: Final = 100
"""How many messages one transaction has."""
DEVICES: Final = 100
TEXT: Final = "x" * 140
"""A body of some 200 bytes, as in the other benches."""
SERVER: Final = "bench.example"

_FIGURES: Final = ("client_messages_per_s", "received_messages_per_s", "share_100_devices_ms", "share_100_devices_kb")


class CryptoMeasured(msgspec.Struct, frozen=True, kw_only=True):
    client_messages_per_s: int
    """Encrypted, signed, and stored in the outbox with the ratchet, in batches, fsync on."""
    received_messages_per_s: int
    """Verified, decrypted, stored and acknowledged by signed receipts, in pages of the same size, fsync on."""
    share_100_devices_ms: float
    """A conversation's key for a hundred devices that were never written to: their signed one-time keys checked,
    sessions begun, the key encrypted for each, all of it stored."""
    share_100_devices_kb: float
    """What leaves for them."""


def measure_crypto(runs: int) -> dict[str, Any]:
    """The medians, their spread, and every run."""
    measured: list[CryptoMeasured] = []
    with progress_bar("runs") as bar:
        task = bar.add_task("crypto", total=runs)
        for _ in range(runs):
            measured.append(asyncio.run(_measure()))
            bar.advance(task)
    return {
        **{figure: statistics.median(getattr(run, figure) for run in measured) for figure in _FIGURES},
        "spread": {
            figure: [min(getattr(run, figure) for run in measured), max(getattr(run, figure) for run in measured)]
            for figure in _FIGURES
        },
        "messages": MESSAGES,
        "batch": BATCH,
        "body_bytes": len(encode_body(TEXT, kind="text", reply_to=None)),
        "runs": measured,
    }


async def _measure() -> CryptoMeasured:
    sent_s = received_s = 0.0
    with (
        tempfile.TemporaryDirectory(prefix="signet-bench-") as folder,
        _device(Path(folder), "anna") as anna,
        _device(Path(folder), "ben") as ben,
    ):
        conversation = str(uuid4())
        _introduce(anna, ben, conversation)
        _introduce(ben, anna, conversation)
        anna._machine.begin([ben._machine.me], _claimed([ben]))
        for number in range(MESSAGES // BATCH):
            began = perf_counter()
            sent = _send(anna, ben, conversation)
            sent_s += perf_counter() - began
            _carry(anna, ben)
            began = perf_counter()
            _receive(ben, conversation, sent, after=number * BATCH)
            received_s += perf_counter() - began
        assert [message.text for message in ben.messages(conversation)] == [TEXT] * MESSAGES
        share_ms, share_kb = _share_widely(anna, Path(folder))
    return CryptoMeasured(
        client_messages_per_s=round(MESSAGES / sent_s),
        received_messages_per_s=round(MESSAGES / received_s),
        share_100_devices_ms=round(share_ms, 1),
        share_100_devices_kb=round(share_kb, 1),
    )


@contextmanager
def _device(folder: Path, name: str) -> Iterator[Client]:
    client = Client.prepare("http://127.0.0.1:9", str(uuid4()), folder / f"{name}.db", device=name)
    client._machine.hear_server(SERVER)
    client._store.settle()
    try:
        yield client
    finally:
        client._store.close()


def _introduce(client: Client, other: Client, conversation: str) -> None:
    """As if the server had said it all."""
    _name(client, [client, other])
    client._store.put_members(conversation, {client.account: "member", other.account: "member"})
    client._live.know(
        Conversation(conversation=conversation, kind="direct", protection="end_to_end", title=None, peer=other.account)
    )


def _name(client: Client, devices: list[Client]) -> None:
    """These are the accounts' devices, one each."""
    found = KeysFound(
        device_keys={_user(each): {each.device: _device_keys(each)} for each in devices},
        links={
            _user(each): [Link(device=each.device, key=each.key, active=True, by=None, signature="")]
            for each in devices
        },
    )
    refused = client._machine.lists.take({each.account for each in devices}, found, SERVER)
    assert not refused


def _user(client: Client) -> str:
    return matrix.user_id(client.account, SERVER)


def _device_keys(client: Client) -> matrix.Object:
    return client._identity.device_keys(user=_user(client), device=client.device)


def _claimed(clients: list[Client]) -> dict[str, dict[str, dict[str, matrix.Object]]]:
    """A one-time key of each, as the server hands it out."""
    claimed: dict[str, dict[str, dict[str, matrix.Object]]] = {}
    for client in clients:
        account = client._identity.account
        account.generate_one_time_keys(1)
        ((id_, key),) = account.one_time_keys.items()
        account.mark_keys_as_published()
        signed = client._identity.sign_object({"key": key.to_base64()}, user=_user(client), device=client.device)
        claimed[_user(client)] = {client.device: {f"{matrix.SIGNED_CURVE25519}:{id_}": signed}}
    return claimed


def _send(client: Client, other: Client, conversation: str) -> list[Outgoing]:
    """A batch, with the key of the session that it takes."""
    client._machine.share(conversation, [client.account, other.account])
    client._machine.assume_ready(conversation)
    sent: list[Outgoing] = []
    for _ in range(BATCH):
        clear = encode_body(TEXT, kind="text", reply_to=None)
        message = Outgoing(id=str(uuid4()), conversation=conversation, header="", body="", signature="", clear=clear)
        client._store.put_outgoing(message)
        encrypted = client._live._composing.encrypt(message)
        assert encrypted is not None, "a session lasts for a batch"
        sent.append(encrypted)
    client._store.settle()
    return sent


def _carry(client: Client, other: Client) -> None:
    """What the server does with mail."""
    for number, parcel in enumerate(client._machine.vault.parcels(), start=other._machine.mail_taken + 1):
        content = matrix.canonical(parcel.messages[_user(other)][other.device])
        other._live._take_all([wire.Mail(n=number, type=parcel.type, sender=_user(client), content=content)])
        client._machine.vault.drop_parcel(parcel.transaction)


def _receive(client: Client, conversation: str, sent: list[Outgoing], *, after: int) -> None:
    items: list[wire.Item] = [
        wire.Message(
            c=conversation,
            seq=seq,
            at=seq,
            ordinal=seq,
            own=seq,
            header=message.header,
            body=message.body,
            signature=message.signature,
        )
        for seq, message in enumerate(sent, start=after + 1)
    ]
    head = after + len(sent)
    client._live._take_all([wire.Page(c=conversation, items=items, head=head, upto=head)])


def _share_widely(client: Client, folder: Path) -> tuple[float, float]:
    """Milliseconds, and kilobytes that leave."""
    machine, group = client._machine, str(uuid4())
    with ExitStack() as stack:
        others = [stack.enter_context(_device(folder, f"device-{number}")) for number in range(DEVICES)]
        _name(client, others)
        claimed = _claimed(others)
        members = [each.account for each in others]
        client._store.settle()
        began = perf_counter()
        machine.begin([each._machine.me for each in others], claimed)
        machine.share(group, members)
        client._store.settle()
        took_s = perf_counter() - began
    (parcel,) = machine.vault.parcels()
    served = sum(map(len, parcel.messages.values()))
    assert served == DEVICES, served
    return took_s * 1_000, len(matrix.canonical(parcel.messages)) / 1_000
