"""Somebody new opens the demo's two log-in links in two browsers, reads what was said, and chats."""

import re
from pathlib import Path

from playwright.async_api import Browser, Page

from ops.demo.stretch import PAIR, TITLE, read_stretch
from tests.ops.demo_engine import DemoEngine, demo_engine
from tests.web.browsers import chromium

PATIENCE_MS = 20_000
LAST = read_stretch()[-1].text


async def window(browser: Browser, url: str) -> Page:
    """One with a profile of its own, like a private one."""
    page = await (await browser.new_context()).new_page()
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(url)
    return page


async def log_in(browser: Browser, engine: DemoEngine, name: str) -> Page:
    page = await window(browser, engine.link(name))
    await page.get_by_role("heading", name=f"Log in as \u2068{name}\u2069?").wait_for()
    await page.get_by_role("button", name="Log in").click()
    await open_conversation(page, TITLE)
    return page


async def open_conversation(page: Page, title: str) -> None:
    await page.get_by_role("link", name=re.compile(re.escape(title))).first.click()
    await page.get_by_role("textbox", name="Message").wait_for()


async def say(page: Page, text: str) -> None:
    await page.get_by_role("textbox", name="Message").fill(text)
    await page.keyboard.press("Enter")


async def test_two_windows_read_what_was_said_and_chat_on(tmp_path: Path) -> None:
    async with demo_engine(tmp_path / "data") as engine, chromium() as browser:
        one, other = [await log_in(browser, engine, name) for name in PAIR]
        for page in (one, other):
            await page.get_by_text(LAST).first.wait_for()
            assert "/enter/" not in page.url
        await say(one, "Hello from a window")
        await other.get_by_text("Hello from a window").last.wait_for()
        await open_conversation(one, PAIR[1])
        await open_conversation(other, PAIR[0])
        await say(other, "And to you alone")
        await one.get_by_text("And to you alone").last.wait_for()


async def test_a_link_that_was_used_says_what_to_do(tmp_path: Path) -> None:
    async with demo_engine(tmp_path / "data") as engine, chromium() as browser:
        page = await log_in(browser, engine, PAIR[0])
        await page.get_by_text(LAST).first.wait_for()
        again = await window(browser, engine.link(PAIR[0]))
        await again.get_by_role("heading", name="This link lets nobody in").wait_for()
        await again.get_by_role("button", name="Go on without it").click()
        await again.get_by_role("heading", name="Welcome to Signet").wait_for()
        # The other link, in the browser that is somebody already:
        await page.goto(engine.link(PAIR[1]))
        await page.get_by_role("button", name=f"Go on as \u2068{PAIR[0]}\u2069").click()
        await page.get_by_text(LAST).first.wait_for()
