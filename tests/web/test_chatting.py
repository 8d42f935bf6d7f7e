"""Two browsers and a Python client chat through a real engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from ops.child import free_port
from ops.engine import EngineProcess, engine
from signet_client import Client
from tests.proxy import Fault, How, Proxy, Side
from tests.scenarios.stage import Heard, people, texts
from tests.web.browsers import Person, chromium


@asynccontextmanager
async def town(folder: Path, log_level: str = "warning") -> AsyncIterator[tuple[Browser, EngineProcess]]:
    async with engine(folder / "data", {"log_level": log_level}) as running, chromium() as browser:
        yield browser, running


async def begun(browser: Browser, annas: str, bens: str) -> tuple[Person, Person]:
    """Anna and Ben, each at a URL of the engine, with their conversation open and "begin" said in it."""
    anna, ben = await Person.new(browser, annas, "Anna"), await Person.new(browser, bens, "Ben")
    await anna.start_direct(await ben.account())
    await anna.say("begin")
    await ben.open("Anna")
    await ben.has("begin")
    return anna, ben


def only_conversation(client: Client) -> str:
    (conversation,) = client.conversations()
    return conversation.conversation


async def test_people_in_browsers_and_terminals_write_to_each_other_and_see_their_ticks_turn(tmp_path: Path) -> None:
    async with town(tmp_path) as (browser, running), people(running.url, tmp_path, "Carla") as (carla,):
        anna, ben = [await Person.new(browser, running.url, name) for name in ("Anna", "Ben")]

        # Browser to browser: delivered while Ben looks elsewhere, read when he looks.
        await anna.start_direct(await ben.account())
        await anna.say("Are you there?")
        await anna.ticks_at("Are you there?", "delivered")
        await expect(ben.listed("Anna").locator(".badge")).to_contain_text("1")
        assert await anna.message("Are you there?").locator(".tick-read").count() == 0
        await ben.open("Anna")
        await ben.has("Are you there?")
        await anna.ticks_at("Are you there?", "read")
        await expect(ben.listed("Anna").locator(".badge")).to_have_count(0)
        await ben.say("Yes\nin two lines")
        await anna.has("in two lines")
        await ben.ticks_at("in two lines", "read")
        assert await anna.texts() == await ben.texts() == ["Are you there?", "Yes\nin two lines"]

        # To somebody who is away: sent, and no more.
        await ben.page.close()
        await anna.say("Gone?")
        await anna.ticks_at("Gone?", "sent")

        # Browser to Python client, and back.
        heard = Heard(carla)
        await anna.start_direct(carla.account)
        await anna.say("Hello Carla")
        await heard.until(lambda: bool(carla.conversations()))
        talk = only_conversation(carla)
        await heard.until(lambda: texts(carla, talk) == ["Hello Carla"])
        await anna.ticks_at("Hello Carla", "delivered")
        carla.read(talk, carla.messages(talk)[-1].seq)
        await anna.ticks_at("Hello Carla", "read")
        sent = await carla.send(talk, "Hello Anna")
        await anna.has("Hello Anna")
        await heard.until(lambda: carla.ticks_of(talk, sent.seq) == "read")
        assert anna.unexpected == ben.unexpected == []


async def test_a_group_of_two_browsers_and_a_python_client(tmp_path: Path) -> None:
    async with town(tmp_path) as (browser, running), people(running.url, tmp_path, "Carla") as (carla,):
        anna, ben = [await Person.new(browser, running.url, name) for name in ("Anna", "Ben")]
        heard = Heard(carla)
        await anna.start_group("Summer", [await ben.account(), carla.account])
        await anna.say("Who comes?")
        await anna.ticks_at("Who comes?", "delivered")
        await ben.open("Summer")
        await ben.has("Who comes?")
        # One of two has read it.
        assert await anna.message("Who comes?").locator(".tick-read").count() == 0
        talk = only_conversation(carla)
        carla.read(talk, carla.messages(talk)[-1].seq)
        await anna.ticks_at("Who comes?", "read")

        await carla.send(talk, "I do")
        await ben.has("I do")
        await ben.say("And I")
        await anna.has("And I")
        await heard.until(lambda: len(texts(carla, talk)) == 3)
        assert await anna.texts() == await ben.texts() == texts(carla, talk) == ["Who comes?", "I do", "And I"]
        for name in ("Anna", "Ben", "Carla"):
            await expect(ben.page.locator(".subtitle-members")).to_contain_text("you" if name == "Ben" else name)
        assert anna.unexpected == ben.unexpected == []


async def test_a_reload_and_a_restart_of_the_engine_keep_who_one_is_and_what_was_said(tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "data"
    async with chromium() as browser:
        async with engine(data, {"log_level": "warning"}, port=port) as running:
            anna, ben = [await Person.new(browser, running.url, name) for name in ("Anna", "Ben")]
            account = await anna.account()
            await anna.start_direct(await ben.account())
            await anna.say("one", "two")
            await ben.open("Anna")
            await ben.has("two")
            await anna.page.reload()
            await anna.has("one", "two")
            assert await anna.account() == account
            await ben.say("three")
            await anna.has("three")
        # While it is away, what is written waits, also through a reload of nothing but the list.
        await anna.say("four")
        await anna.ticks_at("four", "waiting")
        async with engine(data, {"log_level": "warning"}, port=port):
            await ben.has("four")
            await anna.ticks_at("four", "read")
            await anna.page.reload()
            await anna.has("four")
            assert await anna.account() == account
            assert await anna.texts() == await ben.texts() == ["one", "two", "three", "four"]
        assert anna.unexpected == ben.unexpected == []


async def test_a_network_that_is_cut_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async with town(tmp_path) as (browser, running), Proxy.to(int(running.url.rpartition(":")[2])) as wire:
        anna, ben = await begun(browser, wire.url, running.url)

        # Cut while messages are on their way, in both directions.
        for number in range(6):
            await anna.say(f"anna {number}")
            wire.cut()
            await ben.say(f"ben {number}")
        # An outage that lasts: both write meanwhile, Anna in the dark.
        await anna.context.set_offline(True)
        wire.cut()
        await anna.say("anna in the dark", "anna once more")
        await ben.say("ben meanwhile")
        await anna.ticks_at("anna in the dark", "waiting")
        await anna.context.set_offline(False)

        every = {"begin", "anna in the dark", "anna once more", "ben meanwhile"}
        every |= {f"{name} {number}" for name in ("anna", "ben") for number in range(6)}
        await anna.has(*every)
        await ben.has(*every)
        await anna.ticks_at("anna once more", "read")
        assert sorted(await anna.texts()) == sorted(every)
        assert await anna.texts() == await ben.texts()
        assert [text for text in await ben.texts() if text.startswith("anna")] == [
            *(f"anna {number}" for number in range(6)), "anna in the dark", "anna once more"
        ]  # fmt: skip
        assert anna.unexpected == ben.unexpected == []


QUICK = [(side, How.RESET) for side in Side] + [(Side.CLIENT, How.HALF)]
LONG = [(Side.SERVER, How.HALF), (Side.SERVER, How.SILENCE), (Side.CLIENT, How.DROP)]
"""What a page notices only after it has heard nothing for half a minute."""


@pytest.mark.parametrize("ways", [QUICK, pytest.param(LONG, marks=pytest.mark.soak)], ids=["quick", "long"])
async def test_a_cut_at_any_frame_loses_and_doubles_nothing(tmp_path: Path, ways: list[tuple[Side, How]]) -> None:
    cuts = [(side, how, frames) for side, how in ways for frames in (1, 2, 3)]
    async with town(tmp_path) as (browser, running), Proxy.to(int(running.url.rpartition(":")[2])) as wire:
        anna, ben = await begun(browser, wire.url, running.url)
        for number, (side, how, frames) in enumerate(cuts):
            wire.give_back(Fault(side=side, how=how, frames=frames))
            await anna.page.reload()
            await anna.say(f"anna {number}")
            await ben.say(f"ben {number}")
            await ben.has(f"anna {number}")
            await anna.has(f"ben {number}")
            assert wire.fired.is_set()
            wire.fired.clear()
        said = {f"{name} {number}" for name in ("anna", "ben") for number in range(len(cuts))} | {"begin"}
        assert sorted(await anna.texts()) == sorted(said)
        assert await anna.texts() == await ben.texts()


async def test_one_of_two_tabs_has_the_device_and_the_other_can_take_it_over(tmp_path: Path) -> None:
    async with town(tmp_path) as (browser, running):
        anna, ben = [await Person.new(browser, running.url, name) for name in ("Anna", "Ben")]
        await anna.start_direct(await ben.account())
        await anna.say("from the first tab")
        first, second = anna.page, await anna.context.new_page()
        anna.watch(second)

        await second.goto(running.url)
        await expect(second.get_by_role("heading", name="Signet is open in another tab")).to_be_visible()
        await second.get_by_role("button", name="Use it here").click()
        await expect(first.get_by_role("heading", name="Signet is open in another tab")).to_be_visible()
        anna.page = second
        await anna.open("Ben")
        await anna.has("from the first tab")
        await ben.open("Anna")
        await ben.say("to the second")
        await anna.has("to the second")
        await anna.say("from the second")

        # Back again, and then the owner is closed: who waits may begin by a reload.
        await first.get_by_role("button", name="Use it here").click()
        await expect(second.get_by_role("heading", name="Signet is open in another tab")).to_be_visible()
        anna.page = first
        await anna.has("from the second")
        await anna.say("from the first again")
        await ben.has("from the first again")
        await first.close()
        anna.page = second
        await second.get_by_role("button", name="Use it here").click()
        await anna.has("from the first again")
        wanted = ["from the first tab", "to the second", "from the second", "from the first again"]
        assert await anna.texts() == await ben.texts() == wanted
        assert anna.unexpected == ben.unexpected == []
