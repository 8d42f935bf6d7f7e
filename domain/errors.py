"""Refusals: what a decision says no to, each named for the rule that was broken.

    Rejected
    ├── NoSuchAccount
    ├── NoSuchDevice
    ├── NoSuchConversation
    ├── NoSuchMessage
    ├── DeviceNotActive
    ├── DeviceExists
    ├── IdTaken
    ├── NotAMember
    ├── NotAllowed
    ├── NotAGroup
    ├── BadMembers
    ├── LastOwner
    ├── TooManyMembers
    ├── BeyondHead
    ├── StaleMembers
    ├── NotEncrypted
    ├── NoKeys
    ├── NoKeysLeft
    ├── TooManyKeys
    ├── NoSuchMedia
    ├── MediaGone
    ├── NotUploaded
    ├── WrongSize
    └── WrongDigest
    KeyringUnavailable

`code` is the reply code on the wire. Nothing is stored of a rejected command.
"""

from typing import ClassVar


class Rejected(Exception):
    """A rule of the domain refuses the command; the same command will be refused again."""

    code: ClassVar[str]


class NoSuchAccount(Rejected):
    code = "no_such_account"


class NoSuchDevice(Rejected):
    code = "no_such_device"


class NoSuchConversation(Rejected):
    """There is none, or the account was never in it: a stranger can't tell the two apart."""

    code = "no_such_conversation"


class NoSuchMessage(Rejected):
    code = "no_such_message"


class DeviceNotActive(Rejected):
    """The device was revoked or never linked."""

    code = "device_revoked"


class DeviceExists(Rejected):
    """The account has a device of this name with another key, or had one that was revoked."""

    code = "device_exists"


class IdTaken(Rejected):
    """The command id was used for another command; nothing is said of whose."""

    code = "id_taken"


class NotAMember(Rejected):
    code = "not_a_member"


class NotAllowed(Rejected):
    code = "not_allowed"


class NotAGroup(Rejected):
    code = "not_a_group"


class BadMembers(Rejected):
    """A direct conversation has exactly one other member; a list of members names nobody twice and not oneself."""

    code = "bad_members"


class LastOwner(Rejected):
    code = "last_owner"


class TooManyMembers(Rejected):
    code = "too_many_members"


class BeyondHead(Rejected):
    code = "beyond_head"


class StaleMembers(Rejected):
    """The message was encrypted for members who are not those of now: its sender takes in what it lacks, and encrypts
    it anew."""

    code = "stale_members"


class NotEncrypted(Rejected):
    """The conversation is end-to-end encrypted, and the body is not."""

    code = "not_encrypted"


class NoKeys(Rejected):
    """One-time keys of a device that has not published its identity keys yet."""

    code = "no_keys"


class NoKeysLeft(Rejected):
    code = "no_keys_left"


class TooManyKeys(Rejected):
    code = "too_many_keys"


class NoSuchMedia(Rejected):
    """There is none, or it is another account's: the two can't be told apart."""

    code = "no_such_media"


class MediaGone(Rejected):
    """No message has named it in time."""

    code = "media_expired"


class NotUploaded(Rejected):
    code = "not_uploaded"


class WrongSize(Rejected):
    """What was uploaded is longer or shorter than what was reserved."""

    code = "wrong_size"


class WrongDigest(Rejected):
    """What was uploaded is not what was reserved."""

    code = "wrong_digest"


class KeyringUnavailable(Exception):
    """The keys that seal personal texts can't be read or saved now; the same command may succeed later."""

    code: ClassVar[str] = "unavailable"
