"""What others write does nothing but to be read, the page's policy holds, and nothing secret gets out of the page."""

import asyncio
import json
import re
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Page, Request, expect

from ops.locks import ROOT
from signet_client import Client
from tests.scenarios.stage import people
from tests.web.browsers import Person
from tests.web.test_chatting import town

AXE: Final = (ROOT / "web/node_modules/axe-core/axe.min.js").read_text
"""Read when it is needed: another step of the tests brings it."""

_GALLERY: Final = (ROOT / "web/src/ui/hostile.ts").read_text()
PAYLOADS: Final[list[str]] = [
    json.loads(line) for line in re.findall(r'^  (".*"),$', _GALLERY.partition("HOSTILE_NAMES")[0], re.MULTILINE)
]
"""The gallery's, too."""
_FOREIGN: Final = "script, iframe, object, embed, img, base, meta, video, audio, style, marquee, math, details, xss"
_TRIES: Final = """async (elsewhere) => {
  const violations = [];
  document.addEventListener("securitypolicyviolation", (event) => violations.push(event.effectiveDirective));
  const done = [];
  const add = (tag, set) => {
    const element = Object.assign(document.createElement(tag), set);
    done.push(new Promise((resolve) => { element.onload = element.onerror = resolve; setTimeout(resolve, 500); }));
    document.body.append(element);
  };
  add("script", { textContent: "window.hit()" });
  add("script", { src: "data:text/javascript,window.hit()" });
  add("script", { src: `${elsewhere}/script.js` });
  add("img", { src: `${elsewhere}/picture.png` });
  add("iframe", { src: `${elsewhere}/frame.html` });
  add("link", { rel: "stylesheet", href: `${elsewhere}/style.css` });
  add("style", { textContent: "body { background: red }" });
  add("object", { data: `${elsewhere}/object` });
  const button = document.createElement("button");
  button.setAttribute("onclick", "window.hit()");
  document.body.append(button);
  button.click();
  const form = Object.assign(document.createElement("form"), { action: `${elsewhere}/form`, method: "post" });
  document.body.append(form);
  form.submit();
  await fetch(`${elsewhere}/data`).catch(() => undefined);
  try { new WebSocket(elsewhere.replace("http", "ws")); } catch { /* as it should */ }
  await Promise.all(done);
  return violations;
}"""
# A timer of the page runs it: what a test itself evaluates is exempt from the policy.
_EVALS: Final = """() => new Promise((resolve) => setTimeout(() => {
  let refused = 0;
  for (const work of [() => eval("window.hit()"), () => new Function("window.hit()")()]) {
    try { work(); } catch (error) { if (error instanceof EvalError) refused += 1; }
  }
  setTimeout("window.hit()", 0);
  setTimeout(() => resolve(refused), 50);
}, 0))"""


# Keys and ratchets, base64 of those that are bytes, and everything else.
_KEPT: Final = """async () => {
  const result = (request) => new Promise((done) => { request.onsuccess = () => done(request.result); });
  const texts = [];
  const walk = (value) => {
    if (typeof value === "string") texts.push(value);
    else if (value instanceof Uint8Array) texts.push(btoa(String.fromCharCode(...value)));
    else if (value !== null && typeof value === "object") Object.values(value).forEach(walk);
  };
  for (const { name } of await indexedDB.databases()) {
    const database = await result(indexedDB.open(name));
    for (const name of database.objectStoreNames) {
      walk(await result(database.transaction(name).objectStore(name).getAll()));
    }
    database.close();
  }
  return texts;
}"""
_SECRET_CHARS_MIN: Final = 40
"""Longer than ids, which are no secrets."""


async def hits(page: Page) -> int:
    count: int = await page.evaluate("window.hits")
    return count


async def violations_of(page: Page) -> list[str]:
    await page.evaluate(AXE())
    found = await page.evaluate("() => axe.run().then((result) => result.violations)")
    return [
        f"{each['id']}: {[node['target'] for node in each['nodes'][:3]]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


async def test_the_policy_of_the_page_lets_nothing_run_and_nothing_out(tmp_path: Path) -> None:
    reached: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A connection that is opened ahead says nothing.
        reached.extend([data] if (data := await reader.read(100)) else [])
        writer.close()

    elsewhere = await asyncio.start_server(note, "127.0.0.1", 0)
    async with town(tmp_path) as (browser, running), elsewhere:
        person = await Person.new(browser, running.url, "Anna")
        said = await person.page.evaluate(_TRIES, "http://127.0.0.1:{}".format(*elsewhere.sockets[0].getsockname()[1:]))
        assert await hits(person.page) == 0
        wanted = {
            "script-src-elem", "script-src-attr", "img-src", "frame-src", "style-src-elem", "object-src", "form-action",
            "connect-src",
        }  # fmt: skip
        assert wanted <= set(said)
        assert said.count("connect-src") == 2
        assert reached == []

        assert await person.page.evaluate(_EVALS) == 2
        assert await hits(person.page) == 0

        # Nobody may put a frame around it.
        framing = await person.context.new_page()
        await framing.set_content(f'<iframe src="{running.url}"></iframe>')
        await expect(framing.frame_locator("iframe").locator(".me-button")).to_have_count(0)


async def test_what_others_write_is_shown_as_the_text_it_is_and_does_nothing(tmp_path: Path) -> None:
    assert len(PAYLOADS) >= 50
    async with town(tmp_path) as (browser, running), people(running.url, tmp_path, "Mallory") as (mallory,):
        anna = await Person.new(browser, running.url, "Anna")
        dialogs: list[str] = []
        anna.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        account = await anna.account()

        said = await mallory.start_direct(account)
        for payload in PAYLOADS:
            await mallory.send(said, payload)
        await anna.open("Mallory")
        await anna.has(PAYLOADS[-1])
        assert await anna.texts() == PAYLOADS
        for href in await anna.page.locator(".message a").evaluate_all("(links) => links.map((link) => link.href)"):
            assert href.startswith("https://example.org/")

        named = await mallory.start_group([account], title="Titles")
        for payload in PAYLOADS:
            await mallory.set_title(named, payload)
        await anna.open(PAYLOADS[-1])
        changes = anna.page.locator(".change-text")
        await expect(changes).to_have_count(1 + len(PAYLOADS))
        shown = " ".join(await changes.all_text_contents())
        assert [payload for payload in PAYLOADS if payload not in shown] == []

        strangers = []
        for number, payload in enumerate(PAYLOADS):
            stranger = await Client.register(running.url, payload, tmp_path / f"{number}.db", durable=False)
            strangers.append(stranger.account)
            await stranger.close()
        await mallory.start_group([account, *strangers], title="Names")
        await anna.open("Names")
        await anna.page.get_by_role("button", name="Details").click()
        members = anna.page.locator("dialog .person-name")
        for payload in PAYLOADS:
            await members.filter(has_text=payload).first.wait_for()

        assert await hits(anna.page) == 0
        assert dialogs == []
        assert len(anna.context.pages) == 1
        assert anna.page.url.startswith(f"{running.url}/#/c/")
        assert await anna.page.locator("#app").locator(_FOREIGN).count() == 0
        assert {url.split("/", 3)[2] for url in anna.asked} == {running.url.split("/")[2]}
        assert anna.unexpected == []


async def test_nothing_secret_stands_in_the_address_the_console_the_log_or_outside_of_indexeddb(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secrets = {"the secret text"}

    def note(request: Request) -> None:
        secrets.update(value for name, value in request.headers.items() if name == "authorization")

    async with town(tmp_path, log_level="debug") as (browser, running):
        anna, ben = [await Person.new(browser, running.url, name) for name in ("Anna", "Ben")]
        anna.page.on("request", note)
        await anna.start_direct(await ben.account())
        await anna.say("the secret text")
        await ben.open("Anna")
        await ben.has("the secret text")
        await anna.ticks_at("the secret text", "read")
        assert len(secrets) > 1
        secrets.update(secret.removeprefix("Bearer ") for secret in tuple(secrets))
        for person in (anna, ben):
            secrets.update(each for each in await person.page.evaluate(_KEPT) if len(each) >= _SECRET_CHARS_MIN)
        assert len(secrets) > 20
        for person in (anna, ben):
            kept = await person.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
            assert kept == [0, 0, ""]
            assert await person.context.cookies() == []
            # Behind `#` stands the conversation's id alone.
            assert len(person.page.url) == len(f"{running.url}/#/c/") + 36
            assert person.said == []
            urls = "\n".join(person.asked)
            assert [secret for secret in secrets if secret in urls] == []
    out, err = capfd.readouterr()
    assert "Started server process" in err
    assert [secret for secret in secrets if secret in out + err] == []


async def test_axe_finds_nothing_serious_in_any_view(tmp_path: Path) -> None:
    async with town(tmp_path) as (browser, running):
        visitor = await Person.at(browser, running.url)
        await visitor.page.get_by_label("Your name").wait_for()
        assert await violations_of(visitor.page) == []
        ben = await Person.new(browser, running.url, "Ben")
        for scheme in ("light", "dark"):
            anna = await Person.new(browser, running.url, "Anna", color_scheme=scheme)
            page = anna.page
            assert await violations_of(page) == []
            await page.locator(".me-button").click()
            await page.get_by_label("Your id").wait_for()
            assert await violations_of(page) == []
            await page.keyboard.press("Escape")
            for name in ("New chat", "New group"):
                await page.get_by_role("button", name=name).first.click()
                await page.locator("dialog").wait_for()
                assert await violations_of(page) == []
                await page.keyboard.press("Escape")
            await anna.start_direct(await ben.account())
            await anna.say("Hello")
            await anna.ticks_at("Hello", "delivered")
            assert await violations_of(page) == []
            await page.get_by_role("button", name="Details").click()
            await page.locator("dialog").wait_for()
            assert await violations_of(page) == []
