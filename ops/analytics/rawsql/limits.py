"""The first wall: a handle of ClickHouse that reads, and not for long; and what to say where it stops.

    client = get_client(interface="chdb", path=…, database="signet", settings=READ_ONLY)
    answer = read(client, check(sql, …))

ClickHouse looks at the clock between blocks of rows, so that a single call with a large argument goes on past its time,
and it allows each of several buffers max_memory_usage. Whoever runs this must stop the process, too, if it takes much
longer than max_execution_time, or grows past four times max_memory_usage.
"""

import re
from typing import Any, Final, Protocol

import msgspec

from ops.analytics.warehouse import Answer, Field, WarehouseError

READ_ONLY: Final[dict[str, str | int]] = {
    "max_execution_time": 30,  # seconds
    "max_memory_usage": 1 << 30,
    "max_temporary_data_on_disk_size_for_query": 1 << 30,
    "max_result_rows": 100_000,
    "max_result_bytes": 64 << 20,
    "max_threads": 2,
    "max_query_size": 4 << 20,  # counts for the JSON of the tree, which is some hundred times as long as the text
    "readonly": 1,
}
"""For a handle that nothing else uses, in this order: after the last one none can be set. Sizes are in bytes."""

_FORMAT: Final = "JSONCompactEachRowWithNamesAndTypes"
_DECODER: Final = msgspec.json.Decoder(list[Any])
_ANSWER_BYTES_MAX: Final = 64 << 20
_PIECE_BYTES: Final = 1 << 20
_TOO_LARGE_CODE: Final = 396

TOO_DEEP: Final = "it is nested too deeply: name its parts by WITH"
_TOO_LARGE: Final = f"it gives more than {READ_ONLY['max_result_rows']} rows, or 64 MiB: add a LIMIT, or count them"
_LIMITS: Final = {
    159: f"it took longer than {READ_ONLY['max_execution_time']} s: ask for a shorter span of time",
    167: TOO_DEEP,
    168: "it has too many parts: ask in several queries",
    241: "it needs more than 1 GiB of memory: ask for a shorter span of time, or for fewer groups",
    243: "it needs more than 1 GiB of disk: ask for a shorter span of time, or for fewer groups",
    306: "it is nested too deeply, or calls itself without end: name its parts by WITH, or end it",
    _TOO_LARGE_CODE: _TOO_LARGE,
}
_WORDS_MAX: Final = 300


class Client(Protocol):
    """What is needed of a client of clickhouse-connect."""

    def query(self, query: str, /) -> Any: ...

    def raw_stream(self, query: str, /, *, fmt: str) -> Any: ...

    def close(self) -> None: ...


def read(client: Client, text: str) -> Answer:
    """What a query gives: times and decimals of any size as ClickHouse prints them, no number (nan) as None.
    Raises WarehouseError, and closes the client then: chDB 4.4 puts the rest of an answer that broke off
    before the next one of the same client."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    try:
        lines = _DECODER.decode_lines(_read_bytes(client, text).decode(errors="replace"))
    except ClickHouseError as error:
        client.close()
        raise in_words(error) from error
    except WarehouseError:
        client.close()
        raise
    except msgspec.DecodeError as error:
        client.close()
        raise WarehouseError("ClickHouse broke its answer off") from error
    columns, types, *rows = lines
    return Answer([Field(name, kind) for name, kind in zip(columns, types, strict=True)], rows)


def _read_bytes(client: Client, text: str) -> bytes:
    """Counted as they come: ClickHouse takes a long constant for small, however many rows repeat it, and as objects of
    Python they would need many times as much memory."""
    data = bytearray()
    with client.raw_stream(text, fmt=_FORMAT) as stream:
        while piece := stream.read(_PIECE_BYTES):
            data += piece
            if len(data) > _ANSWER_BYTES_MAX:
                raise WarehouseError(_TOO_LARGE, _TOO_LARGE_CODE)
    return bytes(data)


def in_words(error: Exception) -> WarehouseError:
    """What a client's error says, for the author of the query: the limit that it ran into, or ClickHouse's words."""
    found = re.search(r"Code: (\d+)\. DB::Exception: (.*)", str(error), re.DOTALL)
    if not found:
        return WarehouseError(str(error))
    code = int(found[1])
    return WarehouseError(_LIMITS.get(code, _shortened(found[2])), code)


def _shortened(words: str) -> str:
    """Without the query, which its author knows, the list of all that might follow, and the version."""
    words = re.split(r"[:.] In scope | \(version |\. Expected one of| \([A-Z_]+\)$", words, maxsplit=1)[0].strip()
    return words if len(words) <= _WORDS_MAX else words[:_WORDS_MAX] + "…"
