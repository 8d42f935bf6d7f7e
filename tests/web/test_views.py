"""Each view of the web client, as the gallery shows it, in several windows: it is photographed, nothing in it overlaps,
is cut or leaves its box, axe-core finds nothing serious, the policy of the pages holds, nobody else is asked for
anything, and hostile texts do nothing.

The pictures are in `.looks`; SIGNET_TEST_LOOKS names another folder.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request

from ops.locks import ROOT
from tests.web.gallery import SCENES, WEB, chromium, gallery, once, settle, shared_folder

__all__ = ["chromium", "gallery"]

Step = Callable[[Page], object]
SIZES = {"wide": (1280, 800), "narrow": (390, 844), "small": (320, 568)}
LOOKING = (Path(__file__).parent / "looking.js").read_text()
AXE = WEB / "node_modules/axe-core/axe.min.js"
SERIOUS = """async () => {
  const { violations } = await axe.run({ resultTypes: ["violations"] });
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const told = (id) => (node) => `axe: ${id}: ${node.target}: ${node.failureSummary}`;
  return serious.flatMap(({ id, nodes }) => nodes.slice(0, 3).map(told(id)));
}"""


def fill(label: str, text: str) -> Step:
    return lambda page: page.get_by_label(label, exact=True).fill(text)


def press(name: str) -> Step:
    return lambda page: page.get_by_role("button", name=name, exact=True).click()


def scroll(where: str) -> Step:
    return lambda page: page.locator(".scroller").evaluate(f"it => it.scrollTo(0, {where})")


def see_error(page: Page) -> None:
    page.locator(".error:not(:empty)").first.wait_for()


def fail_to_load(page: Page) -> None:
    """More is rendered, and loaded, on the way up."""
    failure = page.get_by_role("button", name="Try again")
    while not failure.is_visible():
        scroll("0")(page)
        settle(page)


ACCOUNT = "a030c228-bdd4-5d6c-a1c6-7481e579fe8f"
OTHERS = " ".join(f"{number:08d}-bdd4-5d6c-a1c6-7481e579fe8f" for number in range(5))
# What is done in a scene before it is looked at: (scene, what the picture is called) -> steps.
STEPS: dict[tuple[str, str], list[Step]] = {
    ("list", "search"): [fill("Search conversations", "lake")],
    ("list", "search-nothing"): [fill("Search conversations", "x" * 300)],
    ("list", "my-address"): [lambda page: page.locator(".me-button").click()],
    ("list", "new-chat"): [press("New chat")],
    ("refused", "new-chat-missing"): [press("New chat"), press("Start chat"), see_error],
    ("refused", "new-chat-no-address"): [press("New chat"), fill("Address", "x" * 400), press("Start chat"), see_error],
    ("refused", "new-chat-refused"): [press("New chat"), fill("Address", ACCOUNT), press("Start chat"), see_error],
    ("list", "new-group"): [
        press("New group"),
        fill("Name of the group", "Summer"),
        fill("Members", OTHERS + " ben"),
        lambda page: page.get_by_label("Members", exact=True).press("Enter"),
        see_error,
    ],
    ("refused", "new-group-missing"): [press("New group"), press("Start group"), see_error],
    ("refused", "new-group-refused"): [
        press("New group"),
        fill("Name of the group", "Summer"),
        fill("Members", OTHERS),
        press("Start group"),
        see_error,
    ],
    ("registration-open", "missing"): [press("Begin"), see_error],
    ("registration-refused", "refused"): [
        fill("Your name", "Anna"),
        fill("Invitation code", "used"),
        press("Begin"),
        see_error,
    ],
    ("group", "details"): [press("Details")],
    ("not-encrypted", "details"): [press("Details")],
    ("hostile", "details"): [press("Details")],
    ("direct", "draft"): [fill("Message", "A long draft.\n" * 30)],
    ("hostile", "top"): [scroll("0")],
    ("hostile", "middle"): [scroll("it.scrollHeight / 2")],
    ("thousand", "middle"): [scroll("it.scrollHeight / 2")],
    ("no-earlier", "top"): [fail_to_load],
}


class View(NamedTuple):
    """A scene, and what is done in it before it is looked at."""

    name: str
    scene: str
    steps: list[Step]


VIEWS = [
    *(View(scene, scene, []) for scene in SCENES),
    *(View(f"{scene}+{name}", scene, steps) for (scene, name), steps in STEPS.items()),
]
# The smallest window is the narrowest that has to do without sideways scrolling.
WINDOWS = [
    *("light-wide", "dark-narrow", "light-small"),
    *(pytest.param(name, marks=pytest.mark.soak) for name in ("light-narrow", "dark-wide", "forced-wide")),
]


class Window:
    """A page of a scheme and a size, in which one view after another is looked at."""

    def __init__(self, browser: Browser, name: str, url: str) -> None:
        scheme, _, size = name.partition("-")
        width, height = SIZES[size]
        self.small = size == "small"
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="light" if scheme == "light" else "dark",
            forced_colors="active" if scheme == "forced" else "none",
            reduced_motion="reduce",
            locale="en-GB",
        )
        context.add_init_script("window.hits = 0; window.hit = () => { window.hits += 1; }")
        self.page, self.url = context.new_page(), url
        self.noted: list[str] = []
        self.page.on("console", self._note_trouble)
        self.page.on("pageerror", lambda error: self.noted.append(f"error: {error}"))
        self.page.on("request", self._note_foreign)
        self.page.on("dialog", self._note_dialog)
        self.fragments = self._fragments()

    def open(self, view: View) -> Page:
        self.noted.clear()
        self.page.goto(f"{self.url}?scene={view.scene}&view={view.name}{self.fragments[view.scene]}")
        self.page.locator("#app > *").first.wait_for()
        return self.page

    def faults(self) -> list[str]:
        """What is wrong in the page as it is now."""
        faults = [*self.page.evaluate(LOOKING), *self._serious(), *self.noted]
        return faults if self.page.evaluate("window.hits") == 0 else [*faults, "a text was run"]

    def _serious(self) -> list[str]:
        if self.small:
            return []  # to axe-core it is no other than a narrow one, and a third of the time
        self.page.evaluate(AXE.read_text())
        return list(self.page.evaluate(SERIOUS))

    def _fragments(self) -> dict[str, str]:
        """Of each scene, as the gallery lists them."""
        self.page.goto(self.url)
        links = self.page.locator(".gallery a")
        links.first.wait_for()
        return dict(links.evaluate_all("all => all.map((link) => [link.textContent, link.hash])"))

    def _note_trouble(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self.noted.append(f"console: {said.text}")

    def _note_foreign(self, request: Request) -> None:
        if not request.url.startswith((self.url.rsplit("/", 1)[0], "data:", "blob:")):
            self.noted.append(f"request: {request.url}")

    def _note_dialog(self, dialog: Dialog) -> None:
        self.noted.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@pytest.fixture(scope="module")
def windows(chromium: Browser, gallery: str) -> Callable[[str], Window]:
    """One of each name."""
    return functools.cache(lambda name: Window(chromium, name, gallery))


@pytest.fixture(scope="session")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pictures go; those of the run before are gone."""
    folder = Path(os.environ.get("SIGNET_TEST_LOOKS", ROOT / ".looks"))

    def clear() -> None:
        for picture in folder.glob("*.png"):
            picture.unlink()
        folder.mkdir(parents=True, exist_ok=True)

    once(shared_folder(tmp_path_factory), "looks", clear)
    return folder


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
@pytest.mark.parametrize("name", WINDOWS)
def test_a_view_is_whole_accessible_and_keeps_to_itself(
    view: View, name: str, windows: Callable[[str], Window], looks: Path
) -> None:
    window = windows(name)
    page = window.open(view)
    if view.scene == "gone-conversation":
        page.get_by_role("heading", name="This conversation isn't here").wait_for()
    for step in view.steps:
        step(page)
    settle(page)

    page.screenshot(path=looks / f"{view.name}.{name}.png")
    assert window.faults() == []


def test_every_scene_of_the_gallery_is_looked_at(windows: Callable[[str], Window]) -> None:
    assert list(windows("light-wide").fragments) == SCENES


@pytest.mark.parametrize(
    ("sabotage", "fault"),
    [
        ("Object.assign(document.querySelector('.bubble').style, {width: '20px', whiteSpace: 'nowrap'})", "leaves"),
        ("document.querySelector('.composer textarea').style.marginRight = '-100px'", "covers"),
        ("document.querySelector('.conversation').style.minWidth = '3000px'", "the page is"),
        ("document.querySelector('.composer textarea').removeAttribute('aria-label')", "axe: label"),
        ("document.querySelector('.chat-time').style.color = '#eee'", "axe: color-contrast"),
        ("document.body.append(Object.assign(document.createElement('script'), {text: 'window.hit()'}))", "Policy"),
        ("new Image().src = 'http://127.0.0.1:9/tracker.png'", "tracker.png"),
        ("window.hit()", "a text was run"),
        ("console.warn('deprecated')", "console: deprecated"),
    ],
    ids=["cut", "covered", "beyond", "unlabelled", "pale", "inline script", "foreign", "run", "warning"],
)
def test_a_fault_would_be_seen(sabotage: str, fault: str, windows: Callable[[str], Window]) -> None:
    window = windows("light-wide")
    # An address of its own: at the one of before the page would stay as it is, faults included.
    page = window.open(View(f"direct+{fault}", "direct", []))
    settle(page)
    page.evaluate(f"() => {{ {sabotage}; }}")
    settle(page)
    assert any(fault in found for found in window.faults()), window.faults()
