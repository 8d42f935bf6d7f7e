"""I12: whose devices there are, a server can't make up once it has said it: who comes later was let in by one that is
known."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from signet_client import payloads
from signet_client.crypto.lists import KeysFound
from tests.client.crypto.devices import (
    BEN,
    SERVER,
    Device,
    carry,
    introduced,
    listed,
    message,
    prepare,
    pushed,
    take,
)
from tests.client.fake import TALK


def names(device: Device, account: str) -> list[str]:
    """The devices to which it sends."""
    return [peer.device for peer in device.vault.peers([account])]


def refusals(device: Device, found: KeysFound) -> list[tuple[str, str]]:
    return [(refused.device, refused.why) for refused in take(device, found)]


def test_the_first_list_is_taken_on_trust(anna: Device, ben: Device, tmp_path: Path) -> None:
    laptop = Device(tmp_path, BEN, "laptop", linked_by=ben)
    assert not take(anna, listed([ben, laptop]))
    assert names(anna, BEN) == ["laptop", "phone"]
    assert anna.machine.lists.confirmed(BEN)


def test_what_the_first_list_names_without_a_link_is_refused(anna: Device, ben: Device, tmp_path: Path) -> None:
    """Also what is taken on trust hangs together."""
    stray = Device(tmp_path, BEN, "stray")
    found = listed([ben, stray])
    found.links[ben.user] = [ben.link]
    assert refusals(anna, found) == [("stray", "it is not among the devices that were linked")]
    assert names(anna, BEN) == ["phone"]


def test_a_new_device_that_a_known_one_has_linked_is_trusted(anna: Device, ben: Device, tmp_path: Path) -> None:
    take(anna, listed([ben]))
    laptop = Device(tmp_path, BEN, "laptop", linked_by=ben)
    assert not take(anna, listed([ben, laptop], version=2))
    assert names(anna, BEN) == ["laptop", "phone"]


def test_links_lead_through_a_device_that_was_revoked(anna: Device, ben: Device, tmp_path: Path) -> None:
    """It came and went between two lists; those whom it let in are Ben's all the same."""
    take(anna, listed([ben]))
    between = Device(tmp_path, BEN, "between", linked_by=ben)
    laptop = Device(tmp_path, BEN, "laptop", linked_by=between)
    assert not take(anna, listed([ben, laptop], gone=[between], version=2))
    assert names(anna, BEN) == ["laptop", "phone"]


def test_a_pinned_device_vouches_also_when_it_is_gone(anna: Device, ben: Device, tmp_path: Path) -> None:
    take(anna, listed([ben]))
    laptop = Device(tmp_path, BEN, "laptop", linked_by=ben)
    assert not take(anna, listed([laptop], gone=[ben], version=2))
    assert names(anna, BEN) == ["laptop"]


def test_links_in_a_ring_vouch_for_nobody(anna: Device, ben: Device, tmp_path: Path) -> None:
    take(anna, listed([ben]))
    one, two = Device(tmp_path, BEN, "one"), Device(tmp_path, BEN, "two")
    one.link, two.link = two.let_in(one), one.let_in(two)
    assert {device for device, _ in refusals(anna, listed([ben, one, two], version=2))} == {"one", "two"}
    assert names(anna, BEN) == ["phone"]


def another_first(ben: Device, stray: Device) -> KeysFound:
    """The server says that the account has begun with this device."""
    return listed([ben, stray], version=2)


def of_an_unknown(ben: Device, stray: Device) -> KeysFound:
    stray.link = msgspec.structs.replace(ben.let_in(stray), by="nobody")
    return listed([ben, stray], version=2)


def without_a_link(ben: Device, stray: Device) -> KeysFound:
    found = listed([ben, stray], version=2)
    found.links[ben.user] = [ben.link]
    return found


def signed_by_itself(ben: Device, stray: Device) -> KeysFound:
    stray.link = msgspec.structs.replace(stray.let_in(stray), by="phone")
    return listed([ben, stray], version=2)


def for_another_key(ben: Device, stray: Device) -> KeysFound:
    """The link of a device that Ben has let in, with this one's keys in its place."""
    stray.link = msgspec.structs.replace(ben.let_in(stray), key=ben.identity.key)
    return listed([ben, stray], version=2)


def for_another_account(ben: Device, stray: Device) -> KeysFound:
    payload = payloads.link_payload(server=SERVER, account="other", device="stray", key=stray.identity.key)
    stray.link = msgspec.structs.replace(ben.let_in(stray), signature=ben.identity.sign(payload))
    return listed([ben, stray], version=2)


def on_another_server(ben: Device, stray: Device) -> KeysFound:
    payload = payloads.link_payload(server="other", account=BEN, device="stray", key=stray.identity.key)
    stray.link = msgspec.structs.replace(ben.let_in(stray), signature=ben.identity.sign(payload))
    return listed([ben, stray], version=2)


def by_a_key_that_a_known_one_has_not(ben: Device, stray: Device) -> KeysFound:
    """The known device's link has another key than the known device."""
    stray.link = msgspec.structs.replace(stray.let_in(stray), by="phone")
    found = listed([ben, stray], version=2)
    found.links[ben.user] = [msgspec.structs.replace(ben.link, key=stray.identity.key), stray.link]
    return found


def keys_of_another_signature(ben: Device, stray: Device) -> KeysFound:
    """Linked as it should be, but it has not signed its own keys."""
    stray.link = ben.let_in(stray)
    found = listed([ben, stray], version=2)
    keys = found.device_keys[ben.user]["stray"]
    keys["keys"]["curve25519:stray"] = ben.identity.curve25519
    return found


@pytest.mark.parametrize(
    "forge",
    [
        another_first,
        of_an_unknown,
        without_a_link,
        signed_by_itself,
        for_another_key,
        for_another_account,
        on_another_server,
        by_a_key_that_a_known_one_has_not,
        keys_of_another_signature,
    ],
)
def test_a_device_that_nobody_known_has_let_in_is_refused(
    anna: Device, ben: Device, tmp_path: Path, forge: Callable[[Device, Device], KeysFound]
) -> None:
    """I12: it is named, gets no keys, and what it writes is not believed."""
    introduced(anna, ben)
    stray = Device(tmp_path, BEN, "stray")
    found = forge(ben, stray)
    assert [device for device, _ in refusals(anna, found)] == ["stray"]
    assert names(anna, BEN) == ["phone"]
    take(stray, listed([anna]))
    prepare(stray, [anna])
    assert anna.read(message(stray, "I am Ben", 1)) == "(unknown_device)"
    assert [device for device, _ in refusals(anna, found)] == ["stray"], "asked for again, it is not believed either"
    prepare(anna, [anna, ben, stray])
    assert stray.read(message(anna, "Hello", 2)) == "(no_key)"


def test_a_device_with_changed_keys_is_refused(anna: Device, ben: Device, tmp_path: Path) -> None:
    """I12: it is named; the old keys stay pinned, and get nothing more."""
    introduced(anna, ben)
    prepare(ben, [anna, ben])
    old = message(ben, "before", 1)
    folder = tmp_path / "other"
    folder.mkdir()
    changed = Device(folder, BEN, "phone")
    assert refusals(anna, listed([changed], version=2)) == [("phone", "it has other keys than before")]
    assert names(anna, BEN) == []
    assert anna.vault.peer(BEN, "phone") == ben.peer
    assert anna.read(old) == "before"
    take(changed, listed([anna]))
    prepare(changed, [anna])
    assert anna.read(message(changed, "I am Ben", 2)) == "(forged_header)"
    assert not take(anna, listed([ben], version=3))
    assert names(anna, BEN) == ["phone"]


def test_a_list_that_has_not_changed_stays(anna: Device, ben: Device) -> None:
    take(anna, listed([ben], version=7))
    anna.machine.lose_connection()
    assert not anna.machine.lists.confirmed(BEN)
    assert anna.vault.list_versions([BEN]) == {BEN: 7}
    assert not anna.machine.lists.take({BEN}, KeysFound(device_keys={}), SERVER)
    assert anna.machine.lists.confirmed(BEN)
    assert names(anna, BEN) == ["phone"]


def test_who_wrote_before_its_list_was_asked_for_is_confirmed_by_it(anna: Device, ben: Device) -> None:
    take(ben, listed([anna]))
    prepare(ben, [anna])
    assert anna.machine.doubtful == {BEN}, "its list is to be asked for"
    first = message(ben, "Hello", 1)
    assert anna.read(first) == "Hello", "the first word of an account is taken on trust"
    assert not take(anna, listed([ben]))
    assert names(anna, BEN) == ["phone"]
    assert anna.read(first) == "Hello"


def test_who_wrote_before_its_list_was_asked_for_and_is_in_none_is_named(
    anna: Device, ben: Device, tmp_path: Path
) -> None:
    """I12: what was believed too early the application is told."""
    folder = tmp_path / "other"
    folder.mkdir()
    stray = Device(folder, BEN, "tablet")
    take(stray, listed([anna]))
    prepare(stray, [anna])
    assert refusals(anna, listed([ben])) == [("tablet", "it is in no list")]
    assert names(anna, BEN) == ["phone"]


def test_who_wrote_before_its_list_was_asked_for_vouches_for_nobody(anna: Device, ben: Device, tmp_path: Path) -> None:
    stray = Device(tmp_path, BEN, "stray")
    take(stray, listed([anna]))
    prepare(stray, [anna])
    friend = Device(tmp_path, BEN, "friend", linked_by=stray)
    found = listed([ben, friend])
    assert ("friend", "the device that let it in, stray, is unknown") in refusals(anna, found)
    assert names(anna, BEN) == ["phone"]


def test_a_key_of_a_refused_device_is_of_use_when_it_is_vouched_for(anna: Device, ben: Device, tmp_path: Path) -> None:
    """I5: a device that its account has let in meanwhile, as the next list says."""
    introduced(anna, ben)
    laptop = Device(tmp_path, BEN, "laptop", linked_by=ben)
    take(laptop, listed([anna, ben]))
    prepare(laptop, [anna, ben])
    item = message(laptop, "Hello", 1)
    assert anna.read(item) == "(unknown_device)"
    assert anna.machine.doubtful == {BEN}, "its list is to be asked for"
    take(anna, listed([ben, laptop], version=2))
    assert anna.read(item) == "Hello"


def test_the_keys_in_a_list_are_the_devices_own(anna: Device, ben: Device) -> None:
    """What a list says in somebody's name, that device has signed."""
    found = listed([ben])
    found.device_keys[ben.user]["phone"] = anna.device_keys()
    assert [device for device, _ in refusals(anna, found)] == ["phone"]
    assert names(anna, BEN) == []


def test_nothing_is_learned_of_accounts_that_were_not_asked_for(anna: Device, ben: Device) -> None:
    assert not anna.machine.lists.take({anna.account}, listed([anna, ben]), SERVER)
    assert names(anna, BEN) == []
    assert not anna.machine.lists.confirmed(BEN)


def test_a_message_moved_to_a_pinned_device_is_not_its(anna: Device, ben: Device, cleo: Device) -> None:
    """I12: the list says who there is, the signature who has said it."""
    introduced(anna, ben, cleo)
    prepare(cleo, [anna, ben, cleo])
    body = cleo.machine.encrypt(TALK, kind="text", text="I am Ben", reply_to=None)
    carry(cleo, [anna])
    assert anna.read(pushed(cleo, body, 1, sender=BEN)) == "(forged_header)"


def test_who_was_refused_is_not_let_in_by_writing(anna: Device, ben: Device, tmp_path: Path) -> None:
    """I12: trust in who writes first ends with the account's first list, also where that has nobody to be believed."""
    stray = Device(tmp_path, BEN, "stray")
    found = listed([stray])
    found.links.clear()
    assert [device for device, _ in refusals(anna, found)] == ["stray"]
    take(stray, listed([anna]))
    prepare(stray, [anna])
    assert anna.read(message(stray, "I am Ben", 1)) == "(unknown_device)"
    assert names(anna, BEN) == []
    assert not take(anna, listed([ben], version=2)), "the first list with somebody in it is taken on trust"
    assert names(anna, BEN) == ["phone"]


def test_who_wrote_before_its_list_and_is_in_none_is_not_known_after_it(
    anna: Device, ben: Device, tmp_path: Path
) -> None:
    """I12: it is not believed from then on, no later list brings it back, and it vouches for nobody."""
    stray = Device(tmp_path, BEN, "stray")
    take(stray, listed([anna]))
    prepare(stray, [anna])
    assert anna.read(message(stray, "I am Ben", 1)) == "I am Ben"
    assert refusals(anna, listed([ben])) == [("stray", "it is in no list")]
    assert anna.read(message(stray, "I still am", 2)) == "(unknown_device)"
    friend = Device(tmp_path, BEN, "friend", linked_by=stray)
    found = listed([ben, stray, friend], version=2)
    assert {device for device, _ in refusals(anna, found)} == {"stray", "friend"}
    assert names(anna, BEN) == ["phone"]


def test_who_wrote_before_a_list_with_other_keys_is_not_known_after_it(
    anna: Device, ben: Device, tmp_path: Path
) -> None:
    """Neither of the two is believed before the account's other devices have told which one is theirs."""
    folder = tmp_path / "other"
    folder.mkdir()
    laptop, stray = Device(tmp_path, BEN, "laptop", linked_by=ben), Device(folder, BEN, "laptop")
    take(stray, listed([anna]))
    prepare(stray, [anna])
    assert refusals(anna, listed([ben, laptop])) == [("laptop", "it has other keys than before")]
    assert anna.read(message(stray, "I am Ben", 1)) == "(unknown_device)"
    assert not take(anna, listed([ben, laptop], version=2))
    assert names(anna, BEN) == ["laptop", "phone"]


def test_a_device_that_is_not_in_its_own_accounts_list_yet_goes_on(anna: Device, ben: Device) -> None:
    """Its keys are on their way: nobody is told that it is forged, and it reads what it sends."""
    found = listed([], gone=[anna])
    assert not take(anna, found)
    take(anna, listed([ben]))
    prepare(anna, [anna, ben])
    assert anna.read(message(anna, "Hello", 1)) == "Hello"
