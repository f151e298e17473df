"""The browser of this machine, for tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """Its program. Skips the test where there is none; in CI that fails the run."""
    found = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    return found


def launch(playwright: Playwright, program: str) -> Browser:
    """Start it, without a window."""
    return playwright.chromium.launch(
        executable_path=program, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    )


@contextmanager
def browser() -> Iterator[Browser]:
    """A running one."""
    program = chromium()
    with sync_playwright() as playwright:
        found = launch(playwright, program)
        try:
            yield found
        finally:
            found.close()


class Complaints(list[str]):
    """Errors and warnings that a page wrote to its console: a violation of the policy is one."""

    def watch(self, page: Page) -> Page:
        """Listen to it."""
        page.on("console", self._console)
        page.on("pageerror", self._error)
        return page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.append(message.text)

    def _error(self, error: Error) -> None:
        self.append(str(error))
