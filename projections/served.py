"""The read models that serve, by their kind. Another build may take the place of one at any time, so whoever reads asks
for it each time, and keeps none."""

from collections.abc import Mapping
from typing import cast

from projections.attestations import Attestations
from projections.directory import Directory
from projections.inbox import Inbox
from projections.media import Media
from projections.messages import Messages
from projections.receipts import Receipts
from projections.runner import Runner


class Served:
    def __init__(self, runners: Mapping[str, Runner]) -> None:
        """`runners` by the names of the read models."""
        self.runners = runners

    @property
    def messages(self) -> Messages:
        return cast(Messages, self.runners["messages"].model)

    @property
    def inbox(self) -> Inbox:
        return cast(Inbox, self.runners["inbox"].model)

    @property
    def receipts(self) -> Receipts:
        return cast(Receipts, self.runners["receipts"].model)

    @property
    def directory(self) -> Directory:
        return cast(Directory, self.runners["directory"].model)

    @property
    def attestations(self) -> Attestations:
        return cast(Attestations, self.runners["attestations"].model)

    @property
    def media(self) -> Media:
        return cast(Media, self.runners["media"].model)
