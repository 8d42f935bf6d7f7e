"""What people do with the web client's views, on the gallery's scenes: reading positions, keys, history, drafts."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.web.gallery import chromium, gallery, settle

__all__ = ["chromium", "gallery"]

WIDE, NARROW = ViewportSize(width=1280, height=800), ViewportSize(width=390, height=844)
TOP_ROW = """() => {
  const top = document.querySelector(".scroller").getBoundingClientRect().top;
  const row = [...document.querySelectorAll(".row")].find((one) => one.getBoundingClientRect().bottom > top + 60);
  return [row.dataset.key ?? row.textContent, Math.round(row.getBoundingClientRect().top - top)];
}"""
AT_END = """() => {
  const it = document.querySelector(".scroller");
  return it.scrollHeight - it.scrollTop - it.clientHeight < 2;
}"""

SCROLL = """() => new Promise((done) => {
  const it = document.querySelector(".scroller"), times = [];
  let last = performance.now();
  const step = (now) => {
    times.push(now - last); last = now; it.scrollTop += 400;
    if (times.length < 120) requestAnimationFrame(step); else done(times.slice(2).sort((a, b) => a - b));
  };
  requestAnimationFrame(step);
})"""
"""How long each frame took, in milliseconds, shortest first."""


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """Wide, and nothing in it may throw."""
    page = chromium.new_page(viewport=WIDE, locale="en-GB")
    thrown: list[str] = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    yield page
    page.close()
    assert thrown == []


def open_scene(page: Page, gallery: str, scene: str, fragment: str = "#/") -> None:
    page.goto(f"{gallery}?scene={scene}{fragment}")


def open_conversation(page: Page, gallery: str, scene: str, number: int) -> None:
    open_scene(page, gallery, scene, f"#/c/00000000-0000-4000-8000-{number:012d}")
    page.locator(".row").first.wait_for()
    settle(page)


def receive(page: Page, number: int, text: str) -> None:
    page.evaluate(
        "([id, text]) => window.model.receive(id, {account: 'b', name: 'Ben'}, text)",
        [f"00000000-0000-4000-8000-{number:012d}", text],
    )


def scroll(page: Page, by: int) -> None:
    page.locator(".scroller").evaluate("(it, by) => it.scrollBy(0, by)", by)
    settle(page)


def test_earlier_items_leave_the_position(page: Page, gallery: str) -> None:
    open_conversation(page, gallery, "thousand", 3)
    assert page.evaluate(AT_END)
    rows = page.locator(".row")
    at_first = rows.count()
    for _ in range(12):
        shown = rows.count()
        before = page.evaluate(
            f"() => {{ document.querySelector('.scroller').scrollTop = 300; return ({TOP_ROW})(); }}"
        )
        expect(rows).not_to_have_count(shown)
        settle(page)
        after = page.evaluate(TOP_ROW)
        assert before[0] == after[0]
        assert abs(before[1] - after[1]) <= 1, (before, after)
    assert rows.count() >= at_first + 500


def test_who_is_at_the_end_stays_there(page: Page, gallery: str) -> None:
    open_conversation(page, gallery, "direct", 1)
    for i in range(5):
        receive(page, 1, f"{i} " * 200)
        settle(page)
        assert page.evaluate(AT_END)
    page.set_viewport_size({"width": 900, "height": 500})
    settle(page)
    assert page.evaluate(AT_END)
    page.get_by_label("Message", exact=True).fill("a\n" * 12)
    settle(page)
    assert page.evaluate(AT_END)
    expect(page.locator(".to-end")).to_have_count(0)


def test_who_reads_further_up_is_left_in_peace(page: Page, gallery: str) -> None:
    open_conversation(page, gallery, "thousand", 3)
    scroll(page, -1500)
    before = page.evaluate(TOP_ROW)
    receive(page, 3, "new one")
    receive(page, 3, "new two")
    expect(page.locator(".to-end .badge")).to_have_text("2")
    assert page.evaluate(TOP_ROW) == before
    page.set_viewport_size({"width": 800, "height": 700})
    settle(page)
    after = page.evaluate(TOP_ROW)
    assert after[0] == before[0], (before, after)
    page.locator(".to-end").click()
    settle(page)
    assert page.evaluate(AT_END)
    expect(page.locator(".to-end")).to_have_count(0)
    expect(page.locator(".new-line")).to_have_count(1)


def test_a_conversation_with_unread_opens_at_its_line(page: Page, gallery: str) -> None:
    open_conversation(page, gallery, "unread", 3)
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


def test_enter_sends_and_leads_to_the_end(page: Page, gallery: str) -> None:
    open_conversation(page, gallery, "unread", 3)
    field = page.get_by_label("Message", exact=True)
    expect(field).to_be_focused()
    field.press_sequentially("one")
    field.press("Shift+Enter")
    field.press_sequentially("two")
    assert field.input_value() == "one\ntwo"
    field.press("Enter")
    expect(field).to_have_value("")
    expect(page.locator(".message.mine").last).to_contain_text("two")
    settle(page)
    assert page.evaluate(AT_END), "writing leads to the end"
    expect(page.locator(".message.mine").last.locator(".tick-waiting")).to_have_count(1)
    expect(page.locator(".message.mine").last.locator(".tick-read")).to_have_count(1)
    expect(page.locator(".new-line")).to_have_count(0)
    field.press_sequentially("   ")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()


def test_failed_messages_can_be_edited(page: Page, gallery: str) -> None:
    open_conversation(page, gallery, "states", 4)
    page.get_by_role("button", name="Edit").click()
    expect(page.get_by_label("Message", exact=True)).to_have_value("This was refused")
    expect(page.locator(".bubble-failed")).to_have_count(0)


def test_drafts_are_kept(page: Page, gallery: str) -> None:
    open_conversation(page, gallery, "direct", 1)
    page.get_by_label("Message", exact=True).fill("a beginning")
    page.locator(".chat-link", has_text="Summer").click()
    expect(page.get_by_label("Message", exact=True)).to_have_value("")
    expect(page.locator(".chat-link", has_text="Ben")).to_contain_text("Draft: a beginning")
    page.locator(".chat-link", has_text="Ben").click()
    expect(page.get_by_label("Message", exact=True)).to_have_value("a beginning")


def test_the_list_tells_what_a_last_message_without_text_is(page: Page, gallery: str) -> None:
    open_scene(page, gallery, "list-states")
    last = page.locator(".chat-preview")
    expect(last).to_have_text(
        [
            "You: Message taken back",
            "Cem Yıldız: Unknown kind of message",
            "Cem Yıldız: Damaged message",
            "Hidden: sender not genuine",
            "Ben Okafor: Message taken back",
            "Ben Okafor: Can't be read yet",
        ]
    )
    expect(last.first.locator(".tick")).to_have_count(0)


def test_keys_move_through_the_list_and_between_the_panes(page: Page, gallery: str) -> None:
    open_scene(page, gallery, "list")
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


def test_dialogs_close_by_escape_and_give_back_the_focus(page: Page, gallery: str) -> None:
    open_scene(page, gallery, "list")
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
    settle(page)
    expect(page.locator("dialog[open]")).to_have_count(1)
    page.mouse.click(5, 5)
    expect(page.locator("dialog")).to_have_count(0)


def test_a_chat_and_a_group_are_started_by_addresses(page: Page, gallery: str) -> None:
    open_scene(page, gallery, "empty")
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


def test_a_name_and_enter_register(page: Page, gallery: str) -> None:
    open_scene(page, gallery, "registration-open")
    expect(page.get_by_label("Your name")).to_be_focused()
    page.keyboard.type("Anna")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No conversations yet")).to_be_visible()


def test_a_narrow_window_has_one_pane_and_a_way_back(page: Page, gallery: str) -> None:
    page.set_viewport_size(NARROW)
    open_scene(page, gallery, "list")
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
    open_conversation(page, gallery, "direct", 1)
    page.get_by_role("button", name="Back to the conversations").click()
    expect(page.locator(".sidebar")).to_be_visible()


def test_news_are_read_out_once(page: Page, gallery: str) -> None:
    open_conversation(page, gallery, "direct", 1)
    said = page.locator("[role=log][aria-live=polite]")
    expect(said).to_have_text("")
    receive(page, 1, "hello there")
    expect(said).to_contain_text("hello there")
    assert "Ben" in said.inner_text()


@pytest.mark.soak
def test_a_thousand_messages_scroll_smoothly(page: Page, gallery: str) -> None:
    open_conversation(page, gallery, "thousand", 3)
    rows = page.locator(".row")
    while rows.count() < 1_000:
        page.locator(".scroller").evaluate("(it) => it.scrollTo(0, 0)")
        settle(page)

    frames = page.evaluate(SCROLL)
    print(f"1,000 rows: a frame of scrolling takes {frames[59]:.1f} ms (worst {frames[-1]:.1f})")
    assert frames[59] < 34, "at least 30 frames a second"
