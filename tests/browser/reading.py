"""What tests ask of a browser."""

import json

DESKTOP, PHONE = (1400, 900), (390, 844)


def open_page(browser, path, size, *, touch=False):
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # forgets what was before
    browser.get(path.as_uri())


def wait_for(browser, condition, *arguments):
    """Until a JavaScript expression is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    waiting = WebDriverWait(browser, 20)
    waiting.until(lambda b: b.execute_script(f"return {condition}", *arguments), f"never became true: {condition}")


def requests(browser):
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
