"""The page in a real browser, driven by the pipe that Chromium itself has."""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import threading
import time

import pytest
from conftest import LABELS

from tlkeras.models import saving
from tlkeras.serving import answers
from tlkeras.serving import server as servers

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium"),
]

# A file is dropped on the page as a person's hand would.
DROP = """
(async () => {
  const bytes = Uint8Array.from(atob("%s"), (c) => c.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], "picture.png", {type: "image/png"}));
  for (const name of ["dragenter", "dragover", "drop"])
    document.getElementById("drop").dispatchEvent(new DragEvent(
      name, {dataTransfer: carried, bubbles: true, cancelable: true}));
})()
"""
STATE = """
JSON.stringify({
  status: document.getElementById("status").textContent,
  hidden: document.getElementById("found").hidden,
  answer: document.getElementById("answer").textContent,
  bars: [...document.querySelectorAll(".share b")].map((b) => b.textContent),
  map: document.querySelector("#map img").naturalWidth,
  note: document.querySelector("#map p").textContent,
  picture: document.getElementById("picture").naturalWidth,
})
"""


class Browser:
    """Chromium without a window; it is told what to do through a pipe."""

    def __init__(self, place: pathlib.Path):
        reading, self.to = os.pipe()
        self.of, writing = os.pipe()

        def connect():
            os.dup2(reading, 3, inheritable=True)
            os.dup2(writing, 4, inheritable=True)

        self.process = subprocess.Popen(
            [
                *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"),
                *("--remote-debugging-pipe", f"--user-data-dir={place}"),
                "--window-size=1000,900",
            ],
            preexec_fn=connect,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.number = 0
        self.rest = b""
        target = self.tell("Target.createTarget", url="about:blank")
        self.session = self.tell(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )["sessionId"]

    def tell(self, method: str, **parameters) -> dict:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if hasattr(self, "session"):
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                self.rest += os.read(self.of, 1 << 16)
            line, _, self.rest = self.rest.partition(b"\0")
            found = json.loads(line)
            if found.get("id") == self.number:
                assert "error" not in found, found
                return found["result"]

    def run(self, script: str):
        found = self.tell(
            "Runtime.evaluate", expression=script, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, ready) -> dict:
        for _ in range(300):
            state = json.loads(self.run(STATE))
            if ready(state):
                return state
            time.sleep(0.1)
        raise AssertionError(state)


@pytest.fixture
def browser(tmp_path):
    found = Browser(tmp_path / "browser")
    yield found
    found.process.kill()
    found.process.wait()


def test_a_picture_that_is_dropped_is_answered(browser, trained, photos):
    answerer = answers.Answerer(saving.load(trained.directory))
    with servers.Server(answerer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.tell("Page.enable")
        browser.tell("Page.navigate", url=server.address)
        time.sleep(2)
        assert json.loads(browser.run(STATE))["hidden"]
        path = next((photos / LABELS[1]).glob("[0-9]*.png"))
        expected = answerer.answer(path.read_bytes())
        encoded = base64.b64encode(path.read_bytes()).decode()
        browser.run(DROP % encoded)
        state = browser.wait(lambda state: not state["hidden"])
        score = f"{100 * expected['score']:.1f} %"
        assert state["answer"] == f"{expected['label']}, {score}"
        assert state["bars"][:2] == [expected["label"], score]
        assert sorted(state["bars"][::2]) == sorted(LABELS)
        assert (state["map"], state["picture"]) == (16, 8)
        assert "class activation map" in state["note"]
        if place := os.environ.get("SCREENSHOT"):
            shot = browser.tell("Page.captureScreenshot")["data"]
            pathlib.Path(place).write_bytes(base64.b64decode(shot))
        broken = base64.b64encode(b"no picture").decode()
        browser.run(DROP % broken)
        state = browser.wait(lambda state: state["status"] not in ("", "..."))
        assert state["status"] == "not an image"
        assert state["hidden"]
        server.shutdown()
