"""What every edge answers with when it says no: a code of the protocol's table, whatever carries it."""

import msgspec

from signet_client.codes import REPLIES


class Refusal(Exception):
    """A command or a read is refused, and nothing of it is stored."""

    def __init__(self, code: str, detail: str = "", *, retry_after_ms: int = 0) -> None:
        """`code` is one of `signet_client.codes.REPLIES`; `detail` says more than the table's text, for a person.
        `retry_after_ms`: before that the same command is sure to be refused again; 0: nobody knows."""
        super().__init__(code)
        self.reply = REPLIES[code]
        self.detail = detail
        self.retry_after_ms = retry_after_ms

    @property
    def code(self) -> str:
        return self.reply.code

    @property
    def problem(self) -> str:
        """As JSON, where no frame or model carries it."""
        content = {"code": self.code, "text": self.text, "retry": self.reply.retry}
        return msgspec.json.encode(content).decode()

    @property
    def text(self) -> str:
        return f"{self.reply.text} ({self.detail})" if self.detail else self.reply.text
