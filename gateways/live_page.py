"""The AsyncAPI document as a page for people: plain HTML, no script, and nothing from any other server."""

import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, Final

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""The page's Content-Security-Policy."""

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
code, pre { font: 14px/1.4 ui-monospace, monospace; background: #f4f4f4 } code { padding: 0 .2em }
pre { padding: .7em; overflow-x: auto } table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem }
td, th { border-bottom: 1px solid #ddd; padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top }
h2 { margin-top: 2.5rem; border-bottom: 2px solid #222 } h3 { margin-bottom: 0 }
@media (prefers-color-scheme: dark) {
  body { background: #181818; color: #ddd } code, pre { background: #282828 } td, th { border-color: #444 }
  h2 { border-color: #ddd } a { color: #8cf }
}
"""


def render(document: dict[str, Any]) -> str:
    """The whole page."""
    channel = document["channels"]["live"]
    schemas = document["components"]["schemas"]
    messages = document["components"]["messages"]
    held = [name for name in schemas if not any(message["title"] == name for message in messages.values())]
    parts = [
        _tag("h1", escape(document["info"]["title"])),
        _prose(document["info"]["description"]),
        _tag("p", f'For machines: <a href="/asyncapi.json">AsyncAPI</a>. Address: {_code(channel["address"])}'),
        *(part for action in ("receive", "send") for part in _operations(document, action)),
        _tag("h2", "What frames hold"),
        *(part for name in held for part in _struct(name, schemas[name])),
        _tag("h2", "Why the server closes"),
        _table(("close", "code", "", "reconnect"), map(_row, channel["x-close-codes"])),
        _tag("h2", "Why it refuses"),
        _table(("code", "", "retry", "HTTP"), map(_row, channel["x-reply-codes"])),
    ]
    head = f'<meta charset="utf-8"><title>{escape(document["info"]["title"])}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _operations(document: dict[str, Any], action: str) -> Iterator[str]:
    yield _tag("h2", "What a client says" if action == "receive" else "What the server says by itself")
    shown: set[str] = set()
    for operation in document["operations"].values():
        if operation["action"] == action:
            yield _prose(operation["summary"])
            for reference in [*operation["messages"], *operation.get("reply", {}).get("messages", ())]:
                name = reference["$ref"].rpartition("/")[2]
                if name not in shown:
                    shown.add(name)
                    yield from _message(document, name)


def _message(document: dict[str, Any], name: str) -> Iterator[str]:
    message = document["components"]["messages"][name]
    yield from _struct(name, document["components"]["schemas"][message["title"]])
    yield from (_tag("pre", escape(json.dumps(each["payload"], ensure_ascii=False))) for each in message["examples"])


def _struct(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f'<h3 id="{escape(name)}">{_code(name)}</h3>'
    yield _prose(schema.get("description", ""))
    needed = schema.get("required", ())
    rows = (
        (_code(field), escape(_kind(told)), "" if field in needed else "optional", _inline(told.get("description", "")))
        for field, told in schema["properties"].items()
        if field != "t"
    )
    yield _table(("field", "", "", ""), rows)


def _kind(told: dict[str, Any]) -> str:
    """A type in a few words, with its bounds."""
    if "$ref" in told:
        return str(told["$ref"].rpartition("/")[2])
    if "enum" in told:
        return " | ".join(map(str, told["enum"]))
    if "anyOf" in told:
        return " | ".join(_kind(each) for each in told["anyOf"] if each.get("type") != "null")
    if told["type"] == "array":
        return f"list of {_kind(told['items'])}" + (f", at most {told['maxItems']}" if "maxItems" in told else "")
    if told["type"] == "object":
        return f"object of {_kind(told['additionalProperties'])}"
    long = told.get("maxLength")
    return str(told["type"]) if long is None else f"{told['type']}, at most {long} characters"


def _row(code: dict[str, Any]) -> list[str]:
    said = {True: "yes", False: "no"}
    return [_inline(said[each] if isinstance(each, bool) else str(each)) for each in code.values()]


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(_tag("th", each) for each in heads)
    body = "".join(_tag("tr", "".join(_tag("td", cell) for cell in row)) for row in rows)
    return _tag("table", _tag("tr", head) + body) if body else ""


def _prose(text: str) -> str:
    return "".join(_tag("p", _inline(part)) for part in text.split("\n\n"))


def _inline(text: str) -> str:
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))


def _code(text: str) -> str:
    return _tag("code", escape(text))


def _tag(name: str, content: str) -> str:
    return f"<{name}>{content}</{name}>"
