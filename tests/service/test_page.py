"""The page in a real browser, headless Chromium, with the real service behind it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
CHROMIUM = "/usr/bin/chromium"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DRAWN = """name => {
  const canvas = document.querySelector(`[data-camera="${name}"] canvas`);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0, bright = 0, lit = 0;
  for (let i = 0; i < data.length; i += 4) {
    const light = data[i] + data[i + 1] + data[i + 2];
    if (light > 300) bright += 1;
    if (light > 130) lit += 1;
    sum = (sum * 31 + light) % 4294967291;
  }
  return {sum, bright, lit};
}"""
"""What a camera's canvas shows: a checksum, the number of bright pixels, and the number of pixels brighter than the
background."""


class Service:
    """``stm-skeletons serve`` as a process."""

    def __init__(self, folder: Path, cameras: str, web: str = "") -> None:
        self._config = folder / "serve.toml"
        self._web, self.port = web, 0
        self.configure(cameras)

    def configure(self, cameras: str) -> None:
        self._config.write_text(f"[web]\nport = {self.port}\n{self._web}\n[model]\nthreads = 1\n{cameras}")
        self._cameras = cameras

    def start(self) -> str:
        """Return the page's address, which is the same after a restart."""
        command = [sys.executable, "-c", "from stm_skeletons.cli import main; main()", "serve", str(self._config)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "live page: http" in line:
                address = line.split()[-1]
                self.port = int(address.rpartition(":")[2])
                self.configure(self._cameras)
                return address
        raise AssertionError(f"the service ended with {self.process.wait()}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        self.process.communicate(timeout=10)


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def make(cameras: str, web: str = "") -> Service:
        started.append(Service(tmp_path, cameras, web))
        return started[-1]

    yield make
    for each in started:
        each.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    playwright = None
    if Path(CHROMIUM).exists():
        try:
            from playwright.sync_api import sync_playwright as playwright
        except ModuleNotFoundError:
            playwright = None
    if playwright is None:
        reason = "needs Debian's chromium and the package playwright"
        if os.environ.get("CI"):
            pytest.fail(f"CI {reason}")
        pytest.skip(reason)
    with playwright() as opened:
        browser = opened.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    """A page whose console must stay empty, except for refused connections while the service is down."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, color_scheme="dark", locale="en-GB")
    page = context.new_page()
    errors: list[str] = []
    requested: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if is_bad(message) else None)
    page.on("request", lambda request: requested.append(request.url))
    yield page
    context.close()
    assert not errors
    assert all("//127.0.0.1:" in url for url in requested), "the page asks no other host"


def is_bad(message: Any) -> bool:
    expected = ("ERR_CONNECTION", "401", "willReadFrequently")  # DRAWN causes the last one
    return message.type in ("error", "warning") and not any(each in message.text for each in expected)


def looped(clip: Path, *names: str) -> str:
    return "".join(f'[[cameras]]\nname = "{name}"\nsource = "{clip}"\nloop = true\nrate = 5\n' for name in names)


def seconds_until(page: "Page", condition: str, argument: Any = None, within: float = 20.0) -> float:
    begun = time.monotonic()
    page.wait_for_function(condition, arg=argument, timeout=1000 * within, polling=50)
    return time.monotonic() - begun


def seconds_until_level(page: "Page", name: str, level: str, within: float = 20.0) -> float:
    """Return the seconds until a camera's card has this level, which sets its colour."""
    condition = "([name, level]) => document.querySelector(`[data-camera='${name}']`)?.dataset.level === level"
    return seconds_until(page, condition, [name, level], within)


def drawn(page: "Page", name: str) -> dict[str, int]:
    return page.evaluate(DRAWN, name)


def is_moving(page: "Page", name: str) -> bool:
    """Return whether a canvas shows people that change."""
    seen = []
    for _ in range(6):
        seen.append(drawn(page, name))
        page.wait_for_timeout(400)
    return max(each["bright"] for each in seen) > 150 and len({each["sum"] for each in seen}) >= 4


def test_skeletons_move(make_service, page, clip):
    service = make_service(looped(clip, "door", "yard"))
    page.goto(service.start())
    for name in ("door", "yard"):
        seconds_until_level(page, name, "fine")
        page.wait_for_timeout(1000)
        assert is_moving(page, name)
    assert page.locator("#summary-text").inner_text() == "2 of 2 cameras live"
    door = page.locator("[data-camera=door]")
    assert int(door.locator(".count b").inner_text()) > 1
    assert door.locator(".ids li").count() > 1
    assert "/ s" in door.locator("[data-of=rate]").inner_text()
    assert "ms" in door.locator("[data-of=ages]").inner_text()
    assert "people" in (door.locator("canvas").get_attribute("aria-label") or "")
    assert "MiB" in page.locator("#service").inner_text()
    assert page.locator("#picture-choice").is_hidden()


def test_dead_camera_turns_red_within_3_s_and_recovers(make_service, page, clip, rtsp):
    camera = rtsp(10)
    service = make_service(looped(clip, "door") + f'[[cameras]]\nname = "yard"\nsource = "{camera.address}"\n')
    page.goto(service.start())
    seconds_until_level(page, "door", "fine")
    seconds_until_level(page, "yard", "fine")
    camera.kill()
    assert seconds_until_level(page, "yard", "trouble") <= 3.0
    yard = page.locator("[data-camera=yard]")
    assert "✕" in yard.locator(".state").inner_text(), "not by colour alone"
    assert "away" in yard.locator(".state").inner_text()
    red = yard.evaluate("card => getComputedStyle(card).borderColor")
    assert red == "rgb(255, 95, 87)"
    page.wait_for_timeout(1500)
    assert "1 of 2 cameras live · yard: away" in page.locator("#summary-text").inner_text()
    assert "yard away" in page.locator("#announce").inner_text()
    assert page.title().startswith("✕ 1/2 live")
    assert "s3cret" not in page.content()
    assert page.locator("[data-camera=door]").get_attribute("data-level") == "fine"
    camera.start()
    seconds_until_level(page, "yard", "fine")
    assert page.locator("#summary-text").inner_text() == "2 of 2 cameras live"


def test_page_notices_a_silent_service(make_service, page, clip):
    service = make_service(looped(clip, "door"))
    page.goto(service.start())
    seconds_until_level(page, "door", "fine")
    service.process.send_signal(signal.SIGSTOP)
    assert seconds_until_level(page, "door", "trouble") <= 3.0
    assert "No answer from the service" in page.locator("#summary-text").inner_text()
    service.process.send_signal(signal.SIGCONT)
    assert seconds_until_level(page, "door", "fine") < 5.0
    service.stop()
    assert seconds_until_level(page, "door", "trouble") <= 3.0
    service.start()
    seconds_until_level(page, "door", "fine", within=30)
    page.wait_for_timeout(1500)
    assert is_moving(page, "door")


def test_cameras_come_and_go_with_the_configuration(make_service, page, clip):
    service = make_service(looped(clip, "door"))
    page.goto(service.start())
    seconds_until_level(page, "door", "fine")
    service.configure(looped(clip, "door", "stairs"))
    service.process.send_signal(signal.SIGHUP)
    seconds_until_level(page, "stairs", "fine")
    service.configure(looped(clip, "stairs"))
    service.process.send_signal(signal.SIGHUP)
    seconds_until(page, "() => document.querySelectorAll('.camera').length === 1")
    assert page.locator(".camera h2").all_inner_texts() == ["stairs"]


def test_images_can_be_switched_off(make_service, page, clip):
    service = make_service(looped(clip, "door"), "images = true")
    page.goto(service.start())
    bright = "name => ({DRAWN})(name).bright > 20000".replace("{DRAWN}", DRAWN)
    seconds_until_level(page, "door", "fine")
    seconds_until(page, bright, "door")
    page.locator("#pictures").uncheck()
    seconds_until(page, bright.replace("> 20000", "< 10000"), "door")
    page.wait_for_timeout(500)
    assert is_moving(page, "door")


def test_heat_map_grows_and_can_be_cleared(make_service, page, clip):
    service = make_service(looped(clip, "door"))
    page.goto(service.start())
    seconds_until_level(page, "door", "fine")
    page.wait_for_timeout(3000)
    page.get_by_label("Heat map").select_option(label="left ankle")
    page.wait_for_timeout(300)
    hot = drawn(page, "door")["lit"]
    page.wait_for_timeout(3000)
    assert drawn(page, "door")["lit"] > hot
    page.get_by_role("button", name="Clear").click()
    page.wait_for_timeout(300)
    assert drawn(page, "door")["lit"] < hot
    page.get_by_label("Heat map").select_option(label="off")
    assert page.get_by_role("button", name="Clear").is_hidden()


def test_events_are_listed_with_their_clips(make_service, page, clip, tmp_path):
    region = "[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]"
    rules = f'rules = [{{ kind = "region", name = "all", region = {region} }}]\n'
    clips = f'clips = {{ folder = "{tmp_path}", before = 0.5, after = 0.5 }}\n'
    service = make_service(looped(clip, "door") + rules + clips)
    page.goto(service.start())
    seconds_until(page, "() => document.querySelectorAll('#events li').length > 0")
    text = page.locator("#events li").last.inner_text()
    assert "door all: " in text
    assert page.locator("#events .clip").count() > 0
    shown = page.locator("#events li").count()
    page.reload()
    seconds_until(page, "shown => document.querySelectorAll('#events li').length >= shown", shown)


def test_hidden_page_draws_and_requests_nothing(make_service, page, clip):
    sent: list[str] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(str(frame))))
    service = make_service(looped(clip, "door"))
    page.goto(service.start())
    seconds_until_level(page, "door", "fine")
    page.evaluate(
        "() => { Object.defineProperty(document, 'hidden', {get: () => window.away, configurable: true});"
        "window.away = true; document.dispatchEvent(new Event('visibilitychange')); }"
    )
    page.wait_for_timeout(800)
    assert '"cameras":[]' in sent[-1]
    before = drawn(page, "door")["sum"]
    page.wait_for_timeout(1200)
    assert drawn(page, "door")["sum"] == before
    assert page.locator("[data-camera=door]").get_attribute("data-level") == "fine"
    page.evaluate("() => { window.away = false; document.dispatchEvent(new Event('visibilitychange')); }")
    page.wait_for_timeout(800)
    assert is_moving(page, "door")


def test_log_in_and_out(make_service, page, clip, tmp_path):
    (tmp_path / "token").write_text("a-token-of-some-length")
    service = make_service(looped(clip, "door"), f'token_file = "{tmp_path / "token"}"')
    page.goto(service.start())
    assert page.url.endswith("/login")
    page.get_by_label("Token").fill("not-the-token-at-all")
    page.get_by_role("button").click()
    assert page.get_by_role("alert").inner_text() == "Wrong token."
    page.get_by_label("Token").fill("a-token-of-some-length")
    page.get_by_role("button").click()
    seconds_until_level(page, "door", "fine")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    page.goto(page.url.replace("/login", "/"))
    assert page.url.endswith("/login")


def test_keyboard_themes_and_small_screens(make_service, page, clip):
    service = make_service(looped(clip, "door", "yard"))
    page.goto(service.start())
    seconds_until_level(page, "door", "fine")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    theme = page.get_by_role("button", name="Theme")
    theme.focus()
    page.keyboard.press("Enter")
    assert theme.get_attribute("aria-label") == "Theme: light"
    assert page.evaluate(ground) != dark
    page.reload()
    seconds_until_level(page, "door", "fine")
    assert page.evaluate(ground) != dark, "the choice is kept"
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(200)
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    door, yard = (page.locator(f"[data-camera={name}]").bounding_box() for name in ("door", "yard"))
    assert door is not None
    assert yard is not None
    assert yard["y"] > door["y"] + 200
