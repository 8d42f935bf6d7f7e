"""People who use the web client: each in a browser context of its own, with its own IndexedDB, on a real engine."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from playwright.async_api import Browser, BrowserContext, Locator, Page, expect
from playwright.async_api import async_playwright as playwright

from ops import webbuild
from ops.browser import REMEDY, find
from ops.locks import ROOT

WAIT_MS: Final = 60_000
"""Generous: what doesn't come by then does not come."""
EXPECTED_SAYINGS: Final = ("WebSocket connection to", "net::ERR_", "status of 401")
"""What the browser itself says of a connection that broke, and of a token that is none after the engine's restart."""

_BEFORE_THE_PAGE: Final = "window.hits = 0; window.hit = () => { window.hits += 1; };"
_TEXTS: Final = """(rows) => rows.map((row) => {
  const text = row.querySelector(".text").cloneNode(true);
  text.querySelectorAll(".meta").forEach((each) => each.remove());
  return text.textContent;
})"""

expect.set_options(timeout=WAIT_MS)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser, and a web client that is up to date."""
    webbuild.build(ROOT)
    found = find()
    assert found is not None, f"there is no Chromium: {REMEDY}"
    async with playwright() as tools:
        browser = await tools.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


class Person:
    """Somebody at a window, or at several of one browser."""

    def __init__(self, context: BrowserContext, page: Page, url: str) -> None:
        self.context, self.page, self.url = context, page, url
        self.asked: list[str] = []
        """Every URL that was requested, WebSockets too."""
        self.said: list[str] = []
        """What the page wrote to its console, and its errors."""

    @classmethod
    async def at(cls, browser: Browser, url: str, **options: object) -> "Person":
        """A browser that has never been here. `options`: those of Playwright's `new_context`."""
        context = await browser.new_context(locale="en-GB", reduced_motion="reduce", **options)  # type: ignore[arg-type]
        context.set_default_timeout(WAIT_MS)
        await context.add_init_script(_BEFORE_THE_PAGE)
        person = cls(context, await context.new_page(), url)
        person.watch(person.page)
        await person.page.goto(url)
        return person

    @classmethod
    async def new(cls, browser: Browser, url: str, name: str, **options: object) -> "Person":
        """One who has registered."""
        person = await cls.at(browser, url, **options)
        await person.page.get_by_label("Your name").fill(name)
        await person.page.get_by_role("button", name="Begin").click()
        await person.is_in()
        return person

    def watch(self, page: Page) -> None:
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url))

    @property
    def unexpected(self) -> list[str]:
        """What the pages said but for what a broken connection makes a browser say."""
        return [line for line in self.said if not any(each in line for each in EXPECTED_SAYINGS)]

    async def is_in(self) -> None:
        await self.page.locator(".me-button").wait_for()

    async def account(self) -> str:
        await self.page.locator(".me-button").click()
        id_ = await self.page.get_by_label("Your id").input_value()
        await self.page.keyboard.press("Escape")
        return id_

    async def start_direct(self, address: str) -> None:
        await self.page.get_by_role("button", name="New chat").first.click()
        await self.page.get_by_label("Address", exact=True).fill(address)
        await self.page.get_by_role("button", name="Start chat").click()
        await self._is_started()

    async def start_group(self, title: str, addresses: Sequence[str]) -> None:
        await self.page.get_by_role("button", name="New group").first.click()
        await self.page.get_by_label("Name of the group").fill(title)
        await self.page.get_by_label("Members", exact=True).fill(" ".join(addresses))
        await self.page.get_by_role("button", name="Start group").click()
        await self._is_started()

    async def _is_started(self) -> None:
        """The field alone may still be that of the conversation that was open before; the dialog goes with that one."""
        await expect(self.page.locator("dialog")).to_have_count(0)
        await self.field.wait_for()

    def listed(self, title: str) -> Locator:
        """The entry of a conversation in the list."""
        return self.page.locator(".chat-link").filter(has=self.page.locator(".chat-title", has_text=title))

    async def open(self, title: str) -> None:
        await self.listed(title).click()
        await expect(self.page.locator(".conversation-titles h2")).to_contain_text(title)

    async def close_conversation(self) -> None:
        await self.page.goto(f"{self.url}/#/")
        await expect(self.page.locator(".conversation")).to_have_count(0)

    @property
    def field(self) -> Locator:
        return self.page.get_by_label("Message", exact=True)

    async def say(self, *texts: str) -> None:
        for text in texts:
            await self.field.fill(text)
            await self.field.press("Enter")
            await expect(self.field).to_have_value("")

    def message(self, text: str) -> Locator:
        """The one whose text ends so; behind it stands the time."""
        ending = re.compile(rf"{re.escape(text)}\d?\d:\d\d")
        return self.page.locator(".message", has=self.page.locator(".text", has_text=ending))

    async def has(self, *texts: str) -> None:
        """Waits until the open conversation shows them all."""
        for text in texts:
            await self.message(text).first.wait_for()

    async def ticks_at(self, text: str, tick: str) -> None:
        await expect(self.message(text).locator(f".tick-{tick}")).to_have_count(1)

    async def texts(self) -> list[str]:
        """What the messages of the open conversation say, in order."""
        found: list[str] = await self.page.locator(".message").evaluate_all(_TEXTS)
        return found
