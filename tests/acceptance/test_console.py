"""The console in a real browser: every page, what can be done on it, keys, small screens, and a server that is away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from app.core.queues import QUEUES
from laneway.schemas.task import TaskState
from tests.fixtures.browser import Tab, browser, tab
from tests.fixtures.site import Site, running_site
from tests.fixtures.waiting import wait_until

assert browser  # a fixture
MISSING = {"document_id": "doc-1", "user_id": "user-1", "file_name": "missing.pdf", "r2_key": "missing.pdf"}
"""A document that is not there: its task fails."""
SAVINGS = {"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}
"""The input of a workflow."""
HOSTILE = "<script>document.title='taken'</script>"
WIDE_SCREEN = 1280
SWEEP = {"task": "cleanup_old_data_task", "cron": "0 3 * * *"}


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """API and worker with some work: ended, failed, scheduled, and one that runs until its gate opens."""
    with running_site(tmp_path_factory.mktemp("console")) as site:
        site.worker("shown", queues=",".join(QUEUES))
        site.api()
        done = [site.message("conv-1", HOSTILE), site.message("conv-2")]
        failed = site.submit("process_document_task", MISSING)
        site.submit("cleanup_old_data_task", {}, delay=3600)
        site.post("/api/workflows", {"workflow_type": "savings_assessment", "input": SAVINGS, "id": "run-1"})
        assert site.http.post("/schedules", json={"key": "shown", **SWEEP}).status_code == 201
        site.until_all_over([*done, failed], seconds=40)
        wait_until(lambda: site.get("/api/workflows/run-1")["state"] == "completed", seconds=40)
        site.services.queue_samples.take_if_due()
        yield site


@pytest.fixture
def opened(console: Site, browser: Browser) -> Iterator[Tab]:
    """A page of the browser; at the end nothing must have gone wrong in it."""
    with tab(browser, str(console.http.base_url)) as found:
        yield found
        assert found.troubles == []


def addresses(site: Site) -> list[str]:
    """The pages that the navigation leads to, and one of each kind below them."""
    html = site.http.get("/console").text
    found = re.findall(r'<li><a href="([^"]+)"', html)
    task = site.get("/tasks?name=process_conversation_message_task&limit=1")["tasks"][0]["task_id"]
    group = site.get("/dead-letters/groups?failed=true")["groups"][0]["group"]
    found += [
        "/console/workflows/run-1",
        "/console/schedules/shown",
        "/console/schedules/shown/change",
        "/console/schedules/-/new",
        f"/console/dead-letters/{group}?failed=yes",
        "/console/dead-letters?trashed=yes",
    ]
    return [*found, f"/console/tasks/{task}", "/console/tasks?state=failed&state=dead_letter"]


@pytest.mark.parametrize("width", [WIDE_SCREEN, 390])
def test_every_page_is_sound(console: Site, browser: Browser, width: int) -> None:
    """No error in the console, nothing from other servers, nothing that axe-core finds, no scrolling to the side.

    On the wide screen the dark colours are checked as well. Colours are all that is different then.
    """
    wrong: list[str] = []
    with tab(browser, str(console.http.base_url), width=width) as found:
        for address in addresses(console):
            found.open(address)
            found.page.wait_for_timeout(150)  # scripts of the page
            wrong += [f"{address}: {each}" for each in found.violations()]
            wrong += [f"{address} is wider than {width} px: {each}" for each in found.too_wide()]
            if width == WIDE_SCREEN:
                found.page.emulate_media(color_scheme="dark")
                wrong += [f"{address} in the dark: {each}" for each in found.violations("color-contrast")]
                found.page.emulate_media(color_scheme="light")
        wrong += found.troubles

    assert wrong == [], "\n".join(wrong)


def test_a_hostile_text_is_shown_as_text(console: Site, opened: Tab) -> None:
    task = console.get("/tasks?key=conversation_id:conv-1")["tasks"][0]["task_id"]
    opened.open(f"/console/tasks/{task}")

    expect(opened.page.locator("#payload")).to_contain_text(HOSTILE)
    assert "taken" not in opened.page.title()


def test_a_new_task_appears_in_an_open_list(console: Site, opened: Tab) -> None:
    opened.open("/console/tasks")
    id = console.message("conv-live")

    expect(opened.page.locator(f'a[href="/console/tasks/{id.replace(":", "%3A")}"]')).to_be_visible(timeout=40_000)


def test_a_queue_is_paused_limited_and_resumed_where_one_looks_at_it(console: Site, opened: Tab) -> None:
    opened.open("/console")
    row = opened.page.locator("#queue-crm")
    row.get_by_role("button", name="Pause").click()
    confirm(opened.page)
    expect(row).to_contain_text("paused")
    assert limits(console)["paused"] is True

    row.get_by_role("button", name="Limit…").click()
    dialog = opened.page.locator("#limit")
    dialog.get_by_label("Starts").fill("10")
    dialog.get_by_role("button", name="Set the limits").click()
    expect(row).to_contain_text("10 in 1 s")
    assert (limits(console)["rate"], limits(console)["paused"]) == (10, True)

    row.get_by_role("button", name="Resume").click()
    expect(row.get_by_role("button", name="Pause")).to_be_visible()
    assert (limits(console)["rate"], limits(console)["paused"]) == (10, False)


def test_a_waiting_task_is_cancelled_and_run_again(console: Site, opened: Tab) -> None:
    id = console.submit("cleanup_old_data_task", {}, delay=3600)
    opened.open(f"/console/tasks/{id}")
    expect(opened.page.locator("#live")).to_contain_text("It waits for its due time")

    opened.page.get_by_role("button", name="Cancel").click()
    confirm(opened.page)
    expect(opened.page.locator(".title")).to_contain_text("cancelled")

    opened.page.get_by_role("button", name="Run again").click()
    confirm(opened.page)
    wait_until(lambda: console.row(id).state == TaskState.COMPLETED, seconds=30)
    expect(opened.page.locator(".title")).to_contain_text("completed", timeout=40_000)


def test_a_task_is_submitted_again_with_another_payload(console: Site, opened: Tab) -> None:
    task = console.get("/tasks?key=conversation_id:conv-2")["tasks"][0]["task_id"]
    opened.open(f"/console/tasks/{task}")
    opened.page.get_by_role("button", name="Replay with changes…").click()
    form = opened.page.locator("#replay")
    form.get_by_label("Payload (JSON)").fill("{no json")
    form.get_by_role("button", name="Submit").click()
    expect(opened.page.locator("#toasts")).to_contain_text("The payload is no JSON")

    form.get_by_label("Payload (JSON)").fill('{"conversation_id": "conv-replay", "message": "Again"}')
    form.get_by_role("button", name="Submit").click()
    expect(opened.page.locator("#payload")).to_contain_text("conv-replay")
    assert len(console.get("/tasks?key=conversation_id:conv-replay")["tasks"]) == 1


def test_many_tasks_are_cancelled_after_a_look_and_brought_back(console: Site, opened: Tab) -> None:
    ids = [console.submit("cleanup_old_data_task", {}, delay=7200) for _ in range(3)]
    opened.open("/console/tasks?state=scheduled&name=cleanup_old_data_task")
    opened.page.get_by_role("button", name="Cancel these…").click()
    expect(opened.page.locator("#confirm")).to_contain_text(re.compile(r"Cancel \d+ tasks\?"))
    confirm(opened.page)
    expect(opened.page.locator("#toasts")).to_contain_text("tasks cancelled.")
    assert {console.row(id).state for id in ids} == {TaskState.CANCELLED}

    opened.page.get_by_role("button", name="Undo").click()
    expect(opened.page.locator("#toasts")).to_contain_text("Undone for")
    assert {console.row(id).state for id in ids} == {TaskState.SCHEDULED}, "with their due time"

    opened.page.get_by_label("New priority").select_option("high")
    opened.page.get_by_role("button", name="Reprioritise these…").click()
    confirm(opened.page)
    expect(opened.page.locator("#toasts")).to_contain_text("given another priority.")
    assert {console.row(id).priority for id in ids} == {2}


def test_one_dead_letter_is_tried_before_the_others_are_discarded_and_restored(console: Site, opened: Tab) -> None:
    ids = [console.submit("process_document_task", {**MISSING, "document_id": f"lost-{number}"}) for number in range(3)]
    console.until_all_over(ids, seconds=40)
    group = console.get(f"/dead-letters/{ids[0]}")["group"]
    address = f"/console/dead-letters/{group}?failed=yes"
    opened.open(address)
    opened.page.get_by_role("button", name="Requeue one first…").click()
    confirm(opened.page)
    expect(opened.page.locator("#toasts")).to_contain_text("1 of 1 dead letter requeued.")
    wait_until(lambda: sorted(len(console.get(f"/tasks/{id}/attempts")) for id in ids) == [1, 1, 2], seconds=40)
    console.until_all_over(ids, seconds=40)

    opened.open(address)
    opened.page.get_by_role("button", name="Discard all…").click()
    expect(opened.page.locator("#confirm")).to_contain_text(re.compile(r"Discard \d+ dead letters\?"))
    confirm(opened.page)
    expect(opened.page.locator("#live")).to_contain_text("No dead letter of this group is left")

    opened.page.get_by_role("link", name="trash", exact=True).click()
    opened.page.get_by_role("button", name="Restore all…").click()
    confirm(opened.page)
    expect(opened.page.locator("#live")).to_contain_text("The trash has no dead letter of this group")
    assert console.row(ids[0]).trashed_at is None


def test_a_workflow_is_followed_cancelled_and_started_again(console: Site, opened: Tab) -> None:
    console.services.queue_limits.pause("workflows")
    console.post("/api/workflows", {"workflow_type": "savings_assessment", "input": SAVINGS, "id": "run-2"})
    opened.open("/console/workflows/run-2")
    opened.page.get_by_role("link", name="Step validate: pending").click()
    assert opened.page.url.endswith("#step-validate")
    opened.page.get_by_role("button", name="Cancel").click()
    confirm(opened.page)
    expect(opened.page.locator(".title")).to_contain_text("cancelled")

    console.services.queue_limits.resume("workflows")
    opened.page.get_by_role("button", name="Start again").click()
    confirm(opened.page)
    opened.page.wait_for_url(lambda url: "/console/workflows/" in url and "run-2" not in url)
    expect(opened.page.locator(".title")).to_contain_text("completed", timeout=40_000)


def test_a_schedule_is_paused_resumed_run_at_once_and_deleted(console: Site, opened: Tab) -> None:
    assert console.http.post("/schedules", json={"key": "pressed", **SWEEP}).status_code == 201
    opened.open("/console/schedules/pressed")
    actions, live = opened.page.locator(".actions"), opened.page.locator("#live")
    actions.get_by_role("button", name="Pause").click()
    expect(live).to_contain_text("paused by")
    actions.get_by_role("button", name="Resume").click()
    expect(live).to_contain_text("active")
    actions.get_by_role("button", name="Run now").click()
    confirm(opened.page)
    wait_until(lambda: console.get("/schedules/pressed")["firings"], seconds=20)
    sent = console.get("/schedules/pressed")["firings"][0]["task_id"]
    wait_until(lambda: console.row(sent).state == TaskState.COMPLETED, seconds=30)

    actions.get_by_role("button", name="Delete").click()
    confirm(opened.page)
    expect(opened.page).to_have_url(re.compile(r"/console/schedules$"))
    assert console.http.get("/schedules/pressed").status_code == 404


def test_a_limit_is_set_by_the_keyboard_and_a_wrong_value_stands_at_its_field(console: Site, opened: Tab) -> None:
    name, page = "task:cleanup_old_data_task", opened.page
    opened.open("/console/limits")
    page.get_by_role("button", name="Set a limit…").focus()
    page.keyboard.press("Enter")
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type("0")
    page.keyboard.press("Enter")
    points = page.get_by_label("Points let through")
    expect(points).to_have_attribute("aria-invalid", "true")
    expect(points).to_be_focused()
    expect(page.locator("#limit-rate-problem")).to_contain_text("at least 1")
    page.keyboard.press("Control+a")
    page.keyboard.type("7")
    page.keyboard.press("Enter")
    row = page.locator(f"[id='limit-{name}']")
    expect(row).to_contain_text("7 in 1 s")
    assert console.get(f"/limits/{name}")["rate"] == 7

    row.get_by_role("button", name="Change").click()
    expect(page.get_by_label("Limit", exact=True)).to_have_attribute("readonly", "")
    page.keyboard.press("Escape")
    row.get_by_role("button", name="Remove").click()
    confirm(page)
    expect(row).to_have_count(0)
    assert [each for each in opened.troubles if "422" not in each] == []
    opened.troubles.clear()  # the browser notes the refused request


def test_a_schedule_is_made_and_changed_by_a_form_with_a_preview(console: Site, opened: Tab) -> None:
    page = opened.page
    opened.open("/console/schedules/-/new")
    page.get_by_label("Name of the schedule").fill("by.form")
    page.get_by_label("Task", exact=True).fill("cleanup_old_data_task")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.get_by_label("Cron").fill("61 3 * * *")
    expect(page.locator("#s-cron-problem")).to_contain_text("bad minute")
    page.get_by_label("Cron").fill("30 3 * * *")
    expect(page.locator("[data-preview-list] li")).to_have_count(10)
    expect(page.locator("[data-preview-list] li").first).to_contain_text(" 03:30:00 (0")
    expect(page.locator("#s-cron-problem")).to_be_empty()
    page.get_by_label("While a task of an earlier firing runs").select_option("skip")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Make the schedule").click()
    expect(page).to_have_url(re.compile(r"/console/schedules/by\.form$"))

    page.get_by_role("link", name="Change…").click()
    page.get_by_label("Times").select_option("every")
    page.get_by_label("Seconds from one firing to the next").fill("3600")
    page.get_by_role("button", name="Save the change").click()
    expect(page.locator("#live")).to_contain_text("every 1:00:00")
    assert console.get("/schedules/by.form")["definition"]["overlap"] == "skip"
    opened.troubles.clear()  # the browser notes the refused previews


def test_a_feed_goes_on_after_a_pause_and_a_broken_connection(console: Site, opened: Tab) -> None:
    page = opened.page
    rows, state = page.locator("[data-feed-rows] tr"), page.locator("[data-feed-state]")
    opened.open("/console/events?tag=followed&kind=accepted")
    expect(state).to_have_text("connected")
    send(console, 1)
    expect(rows).to_have_count(1, timeout=20_000)

    page.get_by_role("button", name="Pause").press("Enter")
    expect(state).to_contain_text("paused")
    send(console, 2)
    page.get_by_role("button", name="Go on").press("Enter")
    expect(rows).to_have_count(3, timeout=20_000)

    page.context.set_offline(True)
    send(console, 2)
    page.context.set_offline(False)
    expect(rows).to_have_count(5, timeout=20_000)
    opened.troubles[:] = [each for each in opened.troubles if "ERR_INTERNET_DISCONNECTED" not in each]


def send(site: Site, number: int) -> None:
    """Submit tasks that are due later."""
    for _ in range(number):
        body = {"name": "cleanup_old_data_task", "payload": {}, "delay": 3600, "tags": ["followed"]}
        site.post("/tasks", body)


def test_the_keys_find_open_and_help(console: Site, opened: Tab) -> None:
    page = opened.page
    opened.open("/console")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("t")
    page.wait_for_url("**/console/tasks")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/tasks/*")
    page.keyboard.press("u")
    page.wait_for_url("**/console/tasks")
    task = console.get("/tasks?limit=1")["tasks"][0]["task_id"]
    page.keyboard.press("/")
    page.keyboard.type(task)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(task)


def test_the_overview_goes_back_to_an_earlier_minute(console: Site, opened: Tab) -> None:
    opened.open("/console")
    opened.page.locator("#travel").evaluate("e => { e.value = -1; e.dispatchEvent(new Event('change')); }")
    opened.page.wait_for_url("**at=*")
    expect(opened.page.locator("#live")).to_contain_text(re.compile("as they were at|There is no record"))
    opened.page.get_by_role("link", name="Back to now").click()
    expect(opened.page.locator("#travel-at")).to_have_text("now")


def test_a_page_says_that_it_is_offline_and_goes_on_afterwards(console: Site, browser: Browser) -> None:
    with tab(browser, str(console.http.base_url)) as found:
        found.open("/console/tasks")
        found.page.context.set_offline(True)
        expect(found.page.locator("[data-connection]")).to_contain_text("offline")
        found.page.context.set_offline(False)
        expect(found.page.locator("[data-connection]")).to_be_hidden()
        id = console.message("conv-after")
        link = found.page.locator(f'a[href="/console/tasks/{id.replace(":", "%3A")}"]')
        expect(link).to_be_visible(timeout=40_000)


def confirm(page: Page) -> None:
    """Answer the question with yes."""
    page.locator("#confirm-yes").click()


def limits(site: Site) -> dict[str, Any]:
    """The limits of the queue crm."""
    return site.get("/queues/crm/limits")
