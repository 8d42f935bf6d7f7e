"""The gallery of the web client's views, built once and served under the policy of the gateway, and a Chromium to look
at it with. Test modules import the fixtures."""

import fcntl
import functools
import http.server
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from gateways.pages import POLICY
from ops import browser, webbuild
from ops.installing import Command, alone
from ops.locks import ROOT

WEB = ROOT / "web"
SCENES = re.findall(r'^  "?([\w-]+)"?: \{ at: ', (WEB / "src/ui/scenes.ts").read_text(), re.MULTILINE)
"""The names of all scenes, before anything is built."""

SETTLE = """async () => {
  await document.fonts.ready;
  const drawn = () => {
    const all = [...document.querySelectorAll("#app, #app *")];
    const scroller = document.querySelector(".scroller");
    return [all.length, scroller?.scrollTop, scroller?.scrollHeight, ...all.slice(-1).map((it) => it.offsetTop)].join();
  };
  let before = "";
  for (let same = 0, frame = 0; same < 3 && frame < 120; frame++) {
    await new Promise(requestAnimationFrame);
    const now = drawn();
    same = now === before ? same + 1 : 0;
    before = now;
  }
}"""
"""Until nothing in the page has moved for three frames."""


class Pages(http.server.SimpleHTTPRequestHandler):
    """Files as the gateway serves them: under its policy."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its URL. Workers of pytest-xdist share one build."""
    folder = shared_folder(tmp_path_factory) / "gallery"
    once(folder.parent, "gallery", lambda: build(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Pages, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/gallery.html"
    server.shutdown()
    server.server_close()


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of this run, for all its workers."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def once(shared: Path, name: str, do: Callable[[], object]) -> None:
    """Do it, unless a worker of this run has done it; while one is at it, the others wait."""
    with (shared / f"{name}.once").open("a+") as note:
        fcntl.flock(note, fcntl.LOCK_EX)
        if os.fstat(note.fileno()).st_size == 0:
            do()
            note.write("done")


def build(folder: Path) -> None:
    with alone(ROOT) as lock:
        node = webbuild.prepare(ROOT, lock)
    options = ("--config", "gallery.config.ts", "--logLevel", "warn", "--emptyOutDir", "--outDir", folder)
    command: Command = (node.node, "node_modules/vite/bin/vite.js", "build", *options)
    subprocess.run(command, cwd=WEB, env=webbuild.environment(node), check=True)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """No longer than a module: while it is open no other event loop runs in this thread, and other tests have one."""
    path = browser.find()
    if path is None:
        pytest.fail(f"There is no Chromium to look at the web client with: {browser.REMEDY}.")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def settle(page: Page) -> None:
    page.evaluate(SETTLE)
