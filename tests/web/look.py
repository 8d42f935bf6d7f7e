"""Looks at the web client's views: photographs each scene of the gallery, light and dark, wide and narrow, and checks
in the page that nothing overlaps, is cut or leaves its box, that axe-core finds nothing serious, that the policy of the
pages holds, and that hostile texts do nothing.

    python tests/web/look.py FOLDER [SCENE…]

It needs playwright, a Chromium (CHROMIUM names another than /usr/bin/chromium), and web/node_modules.
"""

import functools
import http.server
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

WEB = Path(__file__).parents[2] / "web"
SIZES = {"wide": (1280, 800), "narrow": (390, 844), "small": (320, 568)}
# The smallest window that has to do without sideways scrolling, and forced colours, are looked at in one scheme.
WINDOWS = [
    ("light", "wide"),
    ("light", "narrow"),
    ("dark", "wide"),
    ("dark", "narrow"),
    ("light", "small"),
    ("forced", "wide"),
]
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
CHECKS = (Path(__file__).parent / "looking.js").read_text()
SETTLED = "() => document.getElementById('app').childElementCount > 0"


class Pages(http.server.SimpleHTTPRequestHandler):
    """Files as the gateway serves them: under its policy."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def gallery() -> Iterator[str]:
    """Builds it and serves it; gives its URL."""
    with tempfile.TemporaryDirectory() as folder:
        vite = [str(WEB / "node_modules/.bin/vite"), "build", "--config", "gallery.config.ts", "--logLevel", "warn"]
        subprocess.run([*vite, "--outDir", folder, "--emptyOutDir"], cwd=WEB, check=True)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Pages, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/gallery.html"
        finally:
            server.shutdown()


def fill(label: str, text: str) -> Callable[[Page], object]:
    return lambda page: page.get_by_label(label, exact=True).fill(text)


def press(name: str) -> Callable[[Page], object]:
    return lambda page: page.get_by_role("button", name=name, exact=True).click()


ACCOUNT = "a030c228-bdd4-5d6c-a1c6-7481e579fe8f"
OTHERS = " ".join(f"{number:08d}-bdd4-5d6c-a1c6-7481e579fe8f" for number in range(5))
ERROR = lambda page: page.locator(".error:not(:empty)").first.wait_for()  # noqa: E731
# More is rendered, and loaded, on the way up.
TO_TOP = lambda page: [  # noqa: E731
    (page.locator(".scroller").evaluate("it => it.scrollTo(0, 0)"), page.wait_for_timeout(150)) for _ in range(4)
]
# What is done in a scene before it is looked at: (scene, what the picture is called) -> steps.
STEPS: dict[tuple[str, str], list[Callable[[Page], object]]] = {
    ("list", "search"): [fill("Search conversations", "lake")],
    ("list", "search-nothing"): [fill("Search conversations", "x" * 300)],
    ("list", "my-address"): [lambda page: page.locator(".me-button").click()],
    ("list", "new-chat"): [press("New chat")],
    ("refused", "new-chat-missing"): [press("New chat"), press("Start chat"), ERROR],
    ("refused", "new-chat-no-address"): [press("New chat"), fill("Address", "x" * 400), press("Start chat"), ERROR],
    ("refused", "new-chat-refused"): [press("New chat"), fill("Address", ACCOUNT), press("Start chat"), ERROR],
    ("list", "new-group"): [
        press("New group"),
        fill("Name of the group", "Summer"),
        fill("Members", OTHERS + " ben"),
        lambda page: page.get_by_label("Members", exact=True).press("Enter"),
        ERROR,
    ],
    ("refused", "new-group-missing"): [press("New group"), press("Start group"), ERROR],
    ("refused", "new-group-refused"): [
        press("New group"),
        fill("Name of the group", "Summer"),
        fill("Members", OTHERS),
        press("Start group"),
        ERROR,
    ],
    ("registration-open", "missing"): [press("Begin"), ERROR],
    ("registration-refused", "refused"): [
        fill("Your name", "Anna"),
        fill("Invitation code", "used"),
        press("Begin"),
        ERROR,
    ],
    ("group", "details"): [press("Details")],
    ("not-encrypted", "details"): [press("Details")],
    ("hostile", "details"): [press("Details")],
    ("direct", "draft"): [fill("Message", "A long draft.\n" * 30)],
    ("hostile", "top"): [lambda page: page.locator(".scroller").evaluate("it => it.scrollTo(0, 0)")],
    ("hostile", "middle"): [
        lambda page: page.locator(".scroller").evaluate("it => it.scrollTo(0, it.scrollHeight / 2)")
    ],
    ("thousand", "middle"): [
        lambda page: page.locator(".scroller").evaluate("it => it.scrollTo(0, it.scrollHeight / 2)")
    ],
    ("no-earlier", "top"): [TO_TOP, lambda page: page.get_by_role("button", name="Try again").wait_for()],
}


class Look:
    """One scene in one window."""

    def __init__(self, browser: Browser, url: str, scheme: str, size: str, axe: str) -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="light" if scheme == "light" else "dark",
            forced_colors="active" if scheme == "forced" else "none",
            reduced_motion="reduce",
            locale="en-GB",
        )
        self.context.add_init_script("window.hits = 0; window.hit = () => { window.hits += 1; }")
        self.url, self.axe, self.name = url, axe, f"{scheme}-{size}"
        self.faults: list[str] = []

    def scene(self, scene: str, fragment: str, name: str, steps: list[Callable[[Page], object]], folder: Path) -> None:
        page = self.context.new_page()
        faults: list[str] = []
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if not self._own(request.url) else None)
        page.goto(f"{self.url}?scene={scene}{fragment}")
        page.wait_for_function(SETTLED)
        if scene == "gone-conversation":
            page.wait_for_timeout(1_700)
        for step in steps:
            step(page)
        page.wait_for_timeout(120)
        page.screenshot(path=folder / f"{name}.{self.name}.png")
        faults += page.evaluate(CHECKS)
        page.evaluate(self.axe)
        for violation in page.evaluate("() => axe.run().then((result) => result.violations)"):
            if violation["impact"] in ("serious", "critical"):
                where = [node["target"] for node in violation["nodes"][:3]]
                why = violation["nodes"][0]["failureSummary"].replace("\n", " ")
                faults.append(f"axe: {violation['id']}: {where}: {why}")
        if page.evaluate("window.hits") != 0:
            faults.append("a text was run")
        self.faults += [f"{name}.{self.name}: {fault}" for fault in faults]
        page.close()

    def _own(self, url: str) -> bool:
        return url.startswith((self.url.rsplit("/", 1)[0], "data:", "blob:"))


def look(folder: Path, wanted: list[str]) -> list[str]:
    """Photographs all into the folder, and gives what is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    axe = (WEB / "node_modules/axe-core/axe.min.js").read_text()
    faults: list[str] = []
    with gallery() as url, sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        scenes = scenes_of(browser, url)
        views: list[tuple[str, str, list[Callable[[Page], object]]]] = [(scene, scene, []) for scene in scenes]
        views += [(scene, f"{scene}+{name}", steps) for (scene, name), steps in STEPS.items()]
        for scheme, size in WINDOWS:
            looking = Look(browser, url, scheme, size, axe)
            for scene, name, steps in views:
                if not wanted or any(part in name for part in wanted):
                    looking.scene(scene, scenes[scene], name, steps, folder)
            looking.context.close()
            faults += looking.faults
        browser.close()
    return faults


def scenes_of(browser: Browser, url: str) -> dict[str, str]:
    """The fragment of each scene, by name, as the picker lists them."""
    page = browser.new_page()
    page.goto(url)
    page.wait_for_function(SETTLED)
    links = page.locator(".gallery a").evaluate_all("all => all.map((link) => [link.textContent, link.hash])")
    page.close()
    return dict(links)


if __name__ == "__main__":
    found = look(Path(sys.argv[1]), sys.argv[2:])
    print(*found, f"{len(found)} faults", sep="\n")
    sys.exit(bool(found))
