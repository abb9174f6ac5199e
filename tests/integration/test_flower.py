"""Flower in a real browser: a running job is recognised, terminated, and seen to be revoked; nobody comes in without a
password. JAAS_SCREENSHOTS=docs/img keeps the pictures for the documentation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from jaas_submit import Client, JobHandle, JobState
from tests.support.flower_process import Flower
from tests.support.jobs import run, shell, until
from tests.support.real import unavailable
from tests.support.wait import eventually
from tests.support.worker import Installation, WorkerProcess

CHROMIUM = Path("/usr/bin/chromium")
LOGIN = "operator:open-sesame"
# Chromium would ask Google's hosts for this and that at every start.
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--window-size=1900,860",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flower")


@pytest.fixture(scope="module")
def flower(jaas: Installation, worker: WorkerProcess, folder: Path) -> Iterator[Flower]:
    (folder / "auth").write_text(LOGIN + "\n")
    made = Flower(jaas.redis_url, folder, JAAS_FLOWER_AUTH_FILE=str(folder / "auth"))
    eventually(made.up, 120, made.log.read_text)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if not CHROMIUM.exists():
        unavailable("chromium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def element(browser: webdriver.Chrome, selector: str, *texts: str) -> Any:
    """Return the element that a selector finds if it shows all of the texts now, else None."""
    try:
        found = browser.find_element(By.CSS_SELECTOR, selector)
        return found if all(text in found.text for text in texts) else None
    except (NoSuchElementException, StaleElementReferenceException):
        return None


def page_text(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.TAG_NAME, "body").text


def shown(browser: webdriver.Chrome, selector: str, *texts: str) -> Any:
    """Wait until the page that is open shows the texts."""
    return eventually(lambda: element(browser, selector, *texts), 30, lambda: page_text(browser))


def reloaded(browser: webdriver.Chrome, url: str, selector: str, *texts: str) -> Any:
    """Load a page again and again until it shows the texts: events take a moment to reach Flower, and its pages ask
    for their tables once."""

    def found() -> Any:
        browser.get(url)
        try:
            return WebDriverWait(browser, 10, 0.1).until(lambda _: element(browser, selector, *texts))
        except TimeoutException:
            return None

    return eventually(found, 120, lambda: page_text(browser))


def picture(browser: webdriver.Chrome, name: str) -> None:
    if folder := os.environ.get("JAAS_SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


@pytest.fixture(scope="module")
def running(client: Client, flower: Flower) -> Iterator[JobHandle]:
    """A job that runs, and others that have ended."""
    client.map(shell("exit 0", name="nightly-report"), ["one input"]).wait(60)
    run(client, shell("exit 3", name="import-2026"))
    handle = client.submit(shell("trap exit TERM; sleep 300 & wait", name="train-model", env={"TOKEN": "swordfish"}))
    until(client, handle.id, JobState.RUNNING)
    yield handle
    handle.cancel()
    handle.wait(30, check=False)


@pytest.mark.parametrize("path", ["/", "/tasks", "/workers", "/api/workers", "/api/tasks", "/metrics"])
def test_nobody_comes_in_without_a_password(flower: Flower, path: str) -> None:
    assert flower.get(path)[0] == 401
    assert flower.get(path, LOGIN)[0] == 200


def test_a_running_job_is_recognised_and_terminated(
    flower: Flower, browser: webdriver.Chrome, running: JobHandle, client: Client
) -> None:
    tasks = flower.url("/tasks", LOGIN)
    row = "tbody tr:has(a[href$='" + running.id + "'])"
    reloaded(browser, tasks, row, "STARTED", "train-model", "jaas-test", "sleep 300", "running on ", "attempt 1")
    reloaded(browser, tasks, "tbody", "FAILURE", "import-2026", "exit code 3")
    reloaded(browser, tasks, "tbody", "SUCCESS", "nightly-report", "index 0 of batch ")
    assert "swordfish" not in browser.page_source
    headings = [one.text for one in browser.find_elements(By.CSS_SELECTOR, "thead th")]
    assert "KWARGS" in headings
    assert "ARGS" not in headings  # a job has none
    picture(browser, "flower-tasks")

    page = flower.url(f"/task/{running.id}")  # the browser remembers the login
    reloaded(browser, page, "body", "STARTED", f"service jaas-{running.id}-1")
    assert "swordfish" not in browser.page_source
    picture(browser, "flower-task")

    shown(browser, "#task-terminate", "Terminate").click()
    shown(browser, ".toast", "Revoked")  # Flower's answer; leaving the page earlier would take the request back
    reloaded(browser, page, "body", "REVOKED", "was cancelled (cause: cancelled; terminated through Celery), attempt 1")
    picture(browser, "flower-revoked")
    result = running.wait(30, check=False)
    assert (result.state, result.cause, result.reason) == ("CANCELLED", "cancelled", "terminated through Celery")
    reloaded(browser, flower.url("/tasks"), row, "REVOKED")


def test_metrics_are_there_for_prometheus(flower: Flower, running: JobHandle) -> None:
    counted = 'flower_events_total{task="jaas.run",type="task-started"'
    eventually(
        lambda: counted in flower.get("/metrics", LOGIN)[1].replace('", ', '",'),
        30,
        lambda: flower.get("/metrics", LOGIN),
    )


def test_a_browser_shows_no_page_in_a_frame_and_nothing_to_who_guesses(
    flower: Flower, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    browser.get(flower.url("/tasks", LOGIN))
    shown(browser, "h3, .navbar", "Tasks")
    page = tmp_path / "other-site.html"
    page.write_text(f'<iframe src="{flower.url("/tasks")}"></iframe>')
    browser.get(page.as_uri())
    said: list[str] = []

    def refused() -> bool:
        log = browser.get_log("browser")  # type: ignore[no-untyped-call]  # selenium leaves its type out
        said.extend(str(entry["message"]) for entry in log)
        return any("frame-ancestors 'none'" in text and flower.url("/") in text for text in said)

    eventually(refused, 30, lambda: str(said))
    browser.switch_to.frame(0)
    assert "Tasks" not in page_text(browser)
    browser.switch_to.default_content()

    stranger = flower.url("/metrics").replace("127.0.0.1", "localhost")  # here the browser knows no login
    browser.get(stranger)
    assert "flower_" not in page_text(browser)

    def waits() -> bool:
        browser.get(stranger.replace("//", "//operator:wrong@"))
        return page_text(browser).startswith("Too many wrong passwords from your address. Try again in ")

    eventually(waits, 60, lambda: page_text(browser))


def test_what_flower_saw_survives_its_restart(
    jaas: Installation, flower: Flower, running: JobHandle, folder: Path
) -> None:
    """SIGTERM, as the swarm sends it, saves what there is."""
    flower.stop()
    again = Flower(jaas.redis_url, folder, FLOWER_BASIC_AUTH=LOGIN)
    try:
        eventually(again.up, 120, again.log.read_text)
        assert f'"uuid": "{running.id}"' in again.get(f"/api/task/info/{running.id}", LOGIN)[1]
    finally:
        again.stop()


def test_without_a_password_flower_does_not_start(jaas: Installation, tmp_path: Path) -> None:
    open_to_all = Flower(jaas.redis_url, tmp_path, JAAS_FLOWER_AUTH_FILE=str(tmp_path / "none"))
    assert open_to_all.process.wait(120) != 0
    assert "flower: no password" in open_to_all.log.read_text()
