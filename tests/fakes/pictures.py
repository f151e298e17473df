"""Takes the pictures of the documentation: ``python -m tests.fakes.pictures [FOLDER]``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.fakes.chromium import browser
from tests.fakes.fleet import seed
from tests.fakes.site import served
from tests.fakes.stores import SqliteHarness

LARGEST = 150 * 1024
SHOTS = (
    ("fleet-light", "/", "light"),
    ("board-dark", "/missions", "dark"),
    ("mission-light", "/missions/default/apply-dns", "light"),
    ("goals-light", "/goals", "light"),
)


def main(folder: Path) -> None:
    """Write them. Raises ValueError when one is too large."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        harness = SqliteHarness(Path(place))
        store = harness.open()
        seed(store, harness.clock)
        with served(store, harness.clock) as site, browser() as chromium:
            for name, path, scheme in SHOTS:
                context = chromium.new_context(
                    viewport={"width": 1210, "height": 600},
                    color_scheme=scheme,  # type: ignore[arg-type]
                    reduced_motion="reduce",
                )
                page = context.new_page()
                page.goto(site.url + path)
                page.locator("#state", has_text="Live").wait_for()
                target = folder / f"{name}.png"
                page.screenshot(path=target)
                context.close()
                if target.stat().st_size > LARGEST:
                    raise ValueError(f"{target} is larger than {LARGEST} bytes")
        harness.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
