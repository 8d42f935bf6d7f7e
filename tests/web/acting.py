"""What people do with the web client's views, on the scenes of the gallery: reading positions, keys, history, drafts.

python tests/web/acting.py [NAME…]
"""

import os
import sys
import time
import traceback
from collections.abc import Callable

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.web.look import gallery

Act = Callable[[Browser, str], None]
WIDE, NARROW = (1280, 800), (390, 844)
TOP_ROW = """() => {
  const top = document.querySelector(".scroller").getBoundingClientRect().top;
  const row = [...document.querySelectorAll(".row")].find((one) => one.getBoundingClientRect().bottom > top + 60);
  return [row.dataset.key ?? row.textContent, Math.round(row.getBoundingClientRect().top - top)];
}"""
AT_END = """() => {
  const it = document.querySelector(".scroller");
  return it.scrollHeight - it.scrollTop - it.clientHeight < 2;
}"""


def opened(browser: Browser, url: str, scene: str, fragment: str = "#/", size: tuple[int, int] = WIDE) -> Page:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, locale="en-GB")
    page.on("pageerror", lambda error: print("!", error))
    page.goto(f"{url}?scene={scene}{fragment}")
    return page


def conversation(browser: Browser, url: str, scene: str, number: int, size: tuple[int, int] = WIDE) -> Page:
    page = opened(browser, url, scene, f"#/c/00000000-0000-4000-8000-{number:012d}", size)
    page.locator(".row").first.wait_for()
    page.wait_for_timeout(100)
    return page


def receive(page: Page, number: int, text: str) -> None:
    page.evaluate(
        "([id, text]) => window.model.receive(id, {account: 'b', name: 'Ben'}, text)",
        [f"00000000-0000-4000-8000-{number:012d}", text],
    )


def scroll(page: Page, by: int) -> None:
    page.locator(".scroller").evaluate("(it, by) => it.scrollBy(0, by)", by)
    page.wait_for_timeout(80)


def earlier_items_leave_the_position(browser: Browser, url: str) -> None:
    page = conversation(browser, url, "thousand", 3)
    assert page.evaluate(AT_END)
    rows = page.locator(".row").count()
    for _ in range(12):
        page.locator(".scroller").evaluate("(it) => it.scrollBy(0, -it.scrollTop + 300)")
        page.wait_for_timeout(40)
        before = page.evaluate(TOP_ROW)
        page.wait_for_timeout(700)
        after = page.evaluate(TOP_ROW)
        assert before[0] == after[0]
        assert abs(before[1] - after[1]) <= 1, (before, after)
    assert page.locator(".row").count() >= rows + 500, page.locator(".row").count()


def who_is_at_the_end_stays_there(browser: Browser, url: str) -> None:
    page = conversation(browser, url, "direct", 1)
    for i in range(5):
        receive(page, 1, f"{i} " * 200)
        page.wait_for_timeout(50)
        assert page.evaluate(AT_END)
    page.set_viewport_size({"width": 900, "height": 500})
    page.wait_for_timeout(80)
    assert page.evaluate(AT_END)
    page.get_by_label("Message", exact=True).fill("a\n" * 12)
    page.wait_for_timeout(80)
    assert page.evaluate(AT_END)
    expect(page.locator(".to-end")).to_have_count(0)


def who_is_not_is_left_in_peace(browser: Browser, url: str) -> None:
    page = conversation(browser, url, "thousand", 3)
    scroll(page, -1500)
    before = page.evaluate(TOP_ROW)
    receive(page, 3, "new one")
    receive(page, 3, "new two")
    expect(page.locator(".to-end .badge")).to_have_text("2")
    assert page.evaluate(TOP_ROW) == before
    page.set_viewport_size({"width": 800, "height": 700})
    page.wait_for_timeout(80)
    after = page.evaluate(TOP_ROW)
    assert after[0] == before[0], (before, after)
    page.locator(".to-end").click()
    page.wait_for_timeout(80)
    assert page.evaluate(AT_END)
    expect(page.locator(".to-end")).to_have_count(0)
    expect(page.locator(".new-line")).to_have_count(1)


def unread_opens_at_the_line(browser: Browser, url: str) -> None:
    page = conversation(browser, url, "unread", 3)
    top = page.locator(".new-line").bounding_box()
    assert top is not None
    assert 60 < top["y"] < 260, top
    count = int(page.locator(".to-end .badge").inner_text())
    assert 40 < count < 60, count
    unread = page.locator(".chat-link[aria-current=page] .badge > span").first
    assert int(unread.inner_text()) == count
    for _ in range(40):
        scroll(page, 200)
    expect(page.locator(".to-end")).to_have_count(0)
    expect(page.locator(".chat-link[aria-current=page] .badge")).to_have_count(0)


def sending(browser: Browser, url: str) -> None:
    page = conversation(browser, url, "unread", 3)
    field = page.get_by_label("Message", exact=True)
    expect(field).to_be_focused()
    field.press_sequentially("one")
    field.press("Shift+Enter")
    field.press_sequentially("two")
    assert field.input_value() == "one\ntwo"
    field.press("Enter")
    expect(field).to_have_value("")
    expect(page.locator(".message.mine").last).to_contain_text("two")
    page.wait_for_timeout(80)
    assert page.evaluate(AT_END), "writing leads to the end"
    expect(page.locator(".message.mine").last.locator(".tick-waiting")).to_have_count(1)
    expect(page.locator(".message.mine").last.locator(".tick-read")).to_have_count(1)
    expect(page.locator(".new-line")).to_have_count(0)
    field.press_sequentially("   ")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()


def failed_messages_can_be_edited(browser: Browser, url: str) -> None:
    page = conversation(browser, url, "states", 4)
    page.get_by_role("button", name="Edit").click()
    expect(page.get_by_label("Message", exact=True)).to_have_value("This was refused")
    expect(page.locator(".bubble-failed")).to_have_count(0)


def drafts_are_kept(browser: Browser, url: str) -> None:
    page = conversation(browser, url, "direct", 1)
    page.get_by_label("Message", exact=True).fill("a beginning")
    page.locator(".chat-link", has_text="Summer").click()
    expect(page.get_by_label("Message", exact=True)).to_have_value("")
    expect(page.locator(".chat-link", has_text="Ben")).to_contain_text("Draft: a beginning")
    page.locator(".chat-link", has_text="Ben").click()
    expect(page.get_by_label("Message", exact=True)).to_have_value("a beginning")


def keys_in_the_list(browser: Browser, url: str) -> None:
    page = opened(browser, url, "list")
    page.get_by_label("Search conversations").focus()
    page.keyboard.press("ArrowDown")
    for key, index in (("ArrowDown", 1), ("End", 5), ("ArrowUp", 4), ("Home", 0), ("ArrowUp", 0)):
        page.keyboard.press(key)
        expect(page.locator(".chat-link").nth(index)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    for where in (".chat-link[tabindex='0']", ".scroller", ".composer textarea"):
        page.keyboard.press("F6")
        expect(page.locator(where)).to_be_focused()
    page.keyboard.press("Shift+F6")
    expect(page.locator(".scroller")).to_be_focused()


def dialogs_close_by_escape_and_give_back_the_focus(browser: Browser, url: str) -> None:
    page = opened(browser, url, "list")
    for name in ("New chat", "New group", "You are \u2068Anna Lindqvist\u2069. Show your address"):
        button = page.get_by_role("button", name=name, exact=True)
        button.click()
        expect(page.locator("dialog[open]")).to_have_count(1)
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_have_count(0)
        expect(button).to_be_focused()
    page.get_by_role("button", name="New chat", exact=True).click()
    page.get_by_role("button", name="New group instead").click()
    expect(page.get_by_label("Name of the group")).to_be_focused()
    page.wait_for_timeout(100)
    expect(page.locator("dialog[open]")).to_have_count(1)
    page.mouse.click(5, 5)
    expect(page.locator("dialog")).to_have_count(0)


def starting(browser: Browser, url: str) -> None:
    page = opened(browser, url, "empty")
    page.get_by_role("button", name="New chat", exact=True).first.click()
    page.get_by_label("Address", exact=True).fill("https://signet.example/#a030c228-bdd4-5d6c-a1c6-7481e579fe8f")
    page.keyboard.press("Enter")
    expect(page.locator(".conversation h2")).to_contain_text("a030c228")
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.get_by_role("button", name="New group", exact=True).click()
    page.get_by_label("Name of the group").fill("Lake")
    members = page.get_by_label("Members", exact=True)
    members.fill(
        "a030c228-bdd4-5d6c-a1c6-7481e579fe8f,a030c228-bdd4-5d6c-a1c6-7481e579fe8f b030c228-bdd4-5d6c-a1c6-7481e579fe8f"
    )
    members.press("Enter")
    expect(page.locator(".chip")).to_have_count(2)
    members.press("Backspace")
    expect(page.locator(".chip")).to_have_count(1)
    members.press("Enter")
    expect(page.locator(".conversation h2")).to_have_text("Lake")


def registering(browser: Browser, url: str) -> None:
    page = opened(browser, url, "registration-open")
    expect(page.get_by_label("Your name")).to_be_focused()
    page.keyboard.type("Anna")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No conversations yet")).to_be_visible()


def one_pane_and_back(browser: Browser, url: str) -> None:
    page = opened(browser, url, "list", size=NARROW)
    page.locator(".chat-link", has_text="Summer").click()
    expect(page.locator(".sidebar")).to_be_hidden()
    page.get_by_role("button", name="Back to the conversations").click()
    expect(page.locator(".sidebar")).to_be_visible()
    assert page.evaluate("location.hash") == "#/"
    page.locator(".chat-link", has_text="Ben").click()
    page.go_back()
    expect(page.locator(".sidebar")).to_be_visible()
    page.go_forward()
    expect(page.locator(".conversation h2")).to_have_text("Ben Okafor")
    page = conversation(browser, url, "direct", 1, NARROW)
    page.get_by_role("button", name="Back to the conversations").click()
    expect(page.locator(".sidebar")).to_be_visible()


def news_are_read_out_once(browser: Browser, url: str) -> None:
    page = conversation(browser, url, "direct", 1)
    said = page.locator("[role=log][aria-live=polite]")
    expect(said).to_have_text("")
    receive(page, 1, "hello there")
    expect(said).to_contain_text("hello there")
    assert "Ben" in said.inner_text()


def a_thousand_scroll_smoothly(browser: Browser, url: str) -> None:
    page = conversation(browser, url, "thousand", 3)
    while page.locator(".row").count() < 1000:
        page.locator(".scroller").evaluate("(it) => it.scrollTo(0, 0)")
        page.wait_for_timeout(100)
    frames = page.evaluate(
        """() => new Promise((done) => {
          const it = document.querySelector(".scroller"), times = [];
          let last = performance.now();
          const step = (now) => {
            times.push(now - last); last = now; it.scrollTop += 400;
            if (times.length < 120) requestAnimationFrame(step); else done(times.slice(2).sort((a, b) => a - b));
          };
          requestAnimationFrame(step);
        })"""
    )
    cost = page.evaluate(
        """async () => {
          const it = document.querySelector(".scroller");
          it.scrollTop = it.scrollHeight;
          await new Promise((done) => setTimeout(done, 200));
          const start = performance.now();
          window.model.receive("00000000-0000-4000-8000-000000000003", {account: "b", name: "Ben"}, "one more");
          await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
          return performance.now() - start;
        }"""
    )
    nodes = page.evaluate("document.querySelectorAll('*').length")
    print(f"   1,000 rows, {nodes} nodes: a frame of scrolling takes {frames[59]:.1f} ms (worst {frames[-1]:.1f})")
    print(f"   one message more: {cost:.1f} ms")


ACTS: list[Act] = [
    earlier_items_leave_the_position,
    who_is_at_the_end_stays_there,
    who_is_not_is_left_in_peace,
    unread_opens_at_the_line,
    sending,
    failed_messages_can_be_edited,
    drafts_are_kept,
    keys_in_the_list,
    dialogs_close_by_escape_and_give_back_the_focus,
    starting,
    registering,
    one_pane_and_back,
    news_are_read_out_once,
    a_thousand_scroll_smoothly,
]


def main(wanted: list[str]) -> int:
    failed = 0
    expect.set_options(timeout=5_000)
    with gallery() as url, sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for act in ACTS:
            if wanted and act.__name__ not in wanted:
                continue
            start = time.perf_counter()
            try:
                act(browser, url)
                print(f"ok {act.__name__} {time.perf_counter() - start:.1f} s")
            except Exception:
                failed += 1
                print(f"FAILED {act.__name__}")
                traceback.print_exc(limit=2, file=sys.stdout)
            for context in browser.contexts:
                context.close()
        browser.close()
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
