"""The examples of the key directory: Anna's laptop begins to write to Ben's phone."""

from typing import Any, Final

from gateways import keymodels
from gateways.api.examples import ANNA, BEN, CHALLENGE, GROUP, LINK, REGISTER
from signet_client import matrix

_ANNA: Final = matrix.user_id(ANNA, CHALLENGE.server)
_BEN: Final = matrix.user_id(BEN, CHALLENGE.server)
_KEY: Final = REGISTER.key
_SIGNATURE: Final = LINK.signature


def _signed(user: str, device: str, **fields: Any) -> keymodels.Object:
    return {**fields, "signatures": {user: {f"ed25519:{device}": _SIGNATURE}}}


def _device_keys(user: str, device: str) -> keymodels.Object:
    return _signed(
        user,
        device,
        user_id=user,
        device_id=device,
        algorithms=[matrix.OLM, matrix.MEGOLM],
        keys={f"curve25519:{device}": _KEY, f"ed25519:{device}": _KEY},
    )


UPLOAD: Final = keymodels.KeysUpload(
    device_keys=_device_keys(_ANNA, "laptop"),
    one_time_keys={"signed_curve25519:AAAAAAAAAAA": _signed(_ANNA, "laptop", key=_KEY)},
    fallback_keys={"signed_curve25519:AAAAAAAAAAE": _signed(_ANNA, "laptop", key=_KEY, fallback=True)},
)
UPLOADED: Final = keymodels.KeysUploaded(one_time_key_counts={matrix.SIGNED_CURVE25519: 1})
QUERY: Final = keymodels.KeysQuery(device_keys={_BEN: []})
FOUND: Final = keymodels.KeysFound(
    device_keys={_BEN: {"phone": _device_keys(_BEN, "phone")}},
    versions={_BEN: 2},
    links={_BEN: [keymodels.DeviceLink(device="phone", key=_KEY, active=True, by=None, signature=_SIGNATURE)]},
)
CLAIM: Final = keymodels.KeysClaim(
    one_time_keys={_BEN: {"phone": matrix.SIGNED_CURVE25519}}, id="1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"
)
CLAIMED: Final = keymodels.KeysClaimed(
    one_time_keys={_BEN: {"phone": {"signed_curve25519:AAAAAAAAAAA": _signed(_BEN, "phone", key=_KEY)}}}
)
TO_DEVICE: Final = keymodels.ToDevice(
    messages={
        _BEN: {
            "phone": {
                "algorithm": matrix.OLM,
                "sender_key": _KEY,
                "ciphertext": {_KEY: {"type": 0, "body": "AwogQ…"}},
            }
        }
    }
)
TO_DEVICE_TAKEN: Final = keymodels.ToDeviceTaken()
STATEMENTS: Final = keymodels.Statements(
    conversation=GROUP,
    statements=[
        keymodels.Statement(
            account=BEN,
            device="phone",
            delivered=5,
            read=3,
            undecryptable=[],
            repaired=[],
            signature=_SIGNATURE,
        )
    ],
)
