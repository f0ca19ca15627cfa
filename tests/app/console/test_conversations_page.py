"""The pages of conversations: the list, and one conversation with its messages and tasks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import update

from app.api.scopes import CONVERSATIONS, DOCUMENTS
from app.db.models import Conversation
from app.db.queries import conversations as repository
from laneway.platform import clock
from laneway.platform.access.scopes import Scope
from tests.fixtures.api_calls import Api, refused
from tests.fixtures.console_pages import ESCAPED, HOSTILE, Page

LIST = "/console/conversations"


def begin(api: Api, id: str, *, status: str = repository.OPEN, minutes: int = 0, name: str | None = None) -> None:
    """Store a conversation that changed so many minutes ago."""
    at = clock.now() - timedelta(minutes=minutes)
    customer = {"name": name} if name else {}
    with api.database.transaction() as session:
        repository.open_or_continue(session, id, channel="api", customer=customer, now=at)
        repository.touch(session, id, status=status, now=at, follow_ups=0)


def write(api: Api, id: str, text: str, *, role: str = "customer", number: int = 1, **more: object) -> None:
    """Store a message."""
    with api.database.transaction() as session:
        values = {"conversation_id": id, "message_id": f"{id}/{number}", "role": role, "text": text}
        assert repository.add_message(session, created_at=clock.now(), **values, **more)


def positions(html: str, *texts: str) -> list[int]:
    """Where each text is."""
    return [html.index(text) for text in texts]


def test_the_empty_list_says_how_a_conversation_begins(page: Page) -> None:
    assert "One begins when a customer writes: through POST /conversations/message" in page(LIST)


def test_the_list_begins_with_what_changed_last_and_shows_the_newest_message(api: Api, page: Page) -> None:
    begin(api, "conv-old", minutes=5, name="Ada")
    begin(api, "conv-new")
    write(api, "conv-old", "Is it ready?")
    write(api, "conv-old", "It is.", role="assistant", number=2)
    html = page(LIST)

    found = positions(html, 'href="/console/conversations/conv-new"', 'href="/console/conversations/conv-old"')
    assert found == sorted(found)
    assert ">Ada</a>" in html
    assert "It is." in html
    assert "Is it ready?" not in html


def test_the_list_is_filtered_by_who_waits_for_a_reply(api: Api, page: Page) -> None:
    begin(api, "conv-open")
    begin(api, "conv-answered", status=repository.AWAITING_CUSTOMER)

    assert "conv-answered" not in page(f"{LIST}?status=open")
    assert "conv-open" not in page(f"{LIST}?status=awaiting_customer")
    refused(api, f"{LIST}?status=odd", 422)
    refused(api, f"{LIST}?stat=open", 422)


def test_pages_of_the_list_follow_each_other_also_when_many_changed_at_once(api: Api) -> None:
    for number in range(7):
        begin(api, f"conv-{number}")
    with api.database.transaction() as session:
        session.execute(update(Conversation).where(Conversation.id < "conv-5").values(updated_at=clock.now()))
    seen, place = list[str](), None
    while found := api.services.conversations.page(before=place, limit=2):
        seen += [each.conversation_id for each in found]
        place = found[-1].updated_at, found[-1].conversation_id

    assert seen == ["conv-4", "conv-3", "conv-2", "conv-1", "conv-0", "conv-6", "conv-5"]


def test_the_next_page_leaves_out_what_was_shown(api: Api, page: Page) -> None:
    begin(api, "conv-old", minutes=60)
    begin(api, "conv-new")
    before = (clock.now() - timedelta(minutes=30)).isoformat().replace("+", "%2B")
    html = page(f"{LIST}?before={before}&before_id=x")

    assert "conv-old" in html
    assert "conv-new" not in html


def test_an_id_leads_to_its_conversation(api: Api) -> None:
    there = api.http.get(LIST, params={"id": " conv/1 "}, follow_redirects=False)

    assert (there.status_code, there.headers["location"]) == (303, "/console/conversations/conv%2F1")
    assert "No conversation &#39;conv/1&#39; is known here." in api.http.get(there.headers["location"]).text


def test_a_conversation_shows_messages_sources_and_the_tasks_that_wrote_them(api: Api, page: Page) -> None:
    task = api.say("conv-1", "Do you repair e-bikes?").json()["task_id"]
    assert "its task has not started" in page(f"{LIST}/conv-1")
    begin(api, "conv-1", name="Ada")
    write(api, "conv-1", "Do you repair e-bikes?", task_id=task)
    source = {"document_id": "repairs.md", "title": "Repairs", "position": 3, "quote": "We repair all bikes."}
    write(api, "conv-1", "We do.", role="assistant", number=2, sources=[source], responder="offline", duration_ms=1500)
    html = page(f"{LIST}/conv-1")

    found = positions(html, "Do you repair e-bikes?", "We do.", "We repair all bikes.")
    assert found == sorted(found)
    assert 'href="/console/documents/repairs.md?at=3#passage-3"' in html
    assert "written by offline in 1.5 s" in html
    assert html.count(f'href="/console/tasks/{task.replace(":", "%3A")}"') == 2
    assert "1 task of this conversation has not ended yet." in html
    assert 'href="/console/tasks?key=conversation_id%3Aconv-1"' in html


def test_earlier_messages_are_on_a_page_of_their_own(api: Api, page: Page) -> None:
    begin(api, "conv-1")
    with api.database.transaction() as session:
        for number in range(101):
            values = {"role": "customer", "text": f"message {number}.", "created_at": clock.now()}
            repository.add_message(session, conversation_id="conv-1", message_id=f"conv-1/{number}", **values)
    html = page(f"{LIST}/conv-1")

    assert "message 100." in html
    assert "message 0." not in html
    address = html.split("/console/conversations/conv-1?before=")[1].split('"')[0]
    assert "message 0." in page(f"{LIST}/conv-1?before={address}")


def test_what_customers_write_is_shown_as_text(api: Api, page: Page) -> None:
    begin(api, "conv-1", name=HOSTILE)
    write(api, "conv-1", HOSTILE, sources=[{"document_id": HOSTILE, "title": HOSTILE, "position": 0, "quote": HOSTILE}])

    for html in (page(LIST), page(f"{LIST}/conv-1")):
        assert HOSTILE not in html
        assert html.count(ESCAPED) >= 2


def test_only_who_may_read_tasks_and_documents_is_led_to_them(
    bearer: tuple[Api, Callable[..., dict[str, str]]],
) -> None:
    api, headers = bearer
    begin(api, "conv-1")
    source = {"document_id": "repairs.md", "title": "Repairs", "position": 3}
    write(api, "conv-1", "We do.", role="assistant", sources=[source], task_id="some-task")

    def read(*scopes: str) -> str:
        return api.http.get(f"{LIST}/conv-1", headers=headers(*scopes)).text

    alone, all_three = read(CONVERSATIONS), read(CONVERSATIONS, DOCUMENTS, Scope.READ)
    assert "some-task" in alone and "Repairs" in alone
    assert "/console/tasks" not in alone.split("<main")[1]
    assert "/console/documents" not in alone
    assert 'href="/console/tasks/some-task"' in all_three
    assert 'href="/console/documents/repairs.md?at=3#passage-3"' in all_three
