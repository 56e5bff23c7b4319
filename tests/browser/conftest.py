"""A headless Chromium, driven through the chromedriver that is installed beside it."""

import os
import shutil
from pathlib import Path

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",  # or it refuses to run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def _programs() -> tuple[str, str]:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    driver = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip(
            "needs Chromium and its driver: Debian's packages chromium and chromium-driver, "
            "or their paths in the variables CHROMIUM and CHROMEDRIVER"
        )
    return chromium, driver


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """The browser, its console and its network requests recorded."""
    chromium, driver = _programs()
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: it comes with the extra 'dev'")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver's path given, selenium does not look for one in the network.
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield opened
    opened.quit()


@pytest.fixture
def screenshots(tmp_path) -> Path:
    """Where to leave screenshots: the directory SCREENSHOTS, else a temporary one."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
