"""The pages of documents: the list, and one document with its text and what can be done with it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, update

from app.db.models import Document
from laneway.platform import clock
from tests.fixtures.api_calls import Api, refused
from tests.fixtures.console_pages import ESCAPED, HOSTILE, Page
from tests.fixtures.emptied import ONE_DATABASE

LIST = "/console/documents"
pytestmark = ONE_DATABASE


def ingest(api: Api, id: str, *, passages: int = 1) -> None:
    """Store a document with text."""
    pieces = [f"Paragraph {number}." for number in range(passages)]
    with api.database.transaction() as session:
        api.services.passage_store.store(session, document_id=id, title=f"Title of {id}", digest=id, pieces=pieces)


def add(api: Api, id: str, **values: Any) -> None:
    """Store the row of a document without text."""
    now = clock.now()
    row = {"id": id, "title": "", "digest": "", "passage_count": 0, "created_at": now, "updated_at": now}
    with api.database.transaction() as session:
        session.execute(insert(Document).values({**row, **values}))


def test_the_empty_list_says_how_a_document_comes(page: Page) -> None:
    assert "POST /api/documents/process reads one from the storage" in page(LIST)


def test_the_list_shows_states_and_errors_and_is_filtered(api: Api, page: Page) -> None:
    ingest(api, "good.md")
    add(
        api,
        "lost-one",
        state="failed",
        user_id="user-1",
        error_type="ObjectMissing",
        error="The storage has no object.",
    )
    html = page(LIST)

    assert 'href="/console/documents/good.md">Title of good.md</a>' in html
    assert "ObjectMissing: The storage has no object." in html
    assert "good.md" not in page(f"{LIST}?state=failed")
    assert "good.md" not in page(f"{LIST}?user_id=user-1")
    assert "No document matches." in page(f"{LIST}?state=cancelled")
    assert "lost-one" not in page(f"{LIST}?state=processed")
    assert "good.md" not in page(f"{LIST}?after=good.md").split('id="live"')[1].split("</table>")[0]
    refused(api, f"{LIST}?state=odd", 422)
    refused(api, f"{LIST}?odd=1", 422)


def test_a_full_page_leads_to_the_next_one(api: Api, page: Page) -> None:
    for number in range(51):
        add(api, f"d-{number:02}")

    assert f'href="{LIST}?after=d-49">More documents' in page(LIST)
    assert "d-50" in page(f"{LIST}?after=d-49")


def test_a_document_shows_the_text_that_replies_cite(api: Api, page: Page) -> None:
    ingest(api, "long.md", passages=30)
    html, rest = page(f"{LIST}/long.md"), page(f"{LIST}/long.md?at=27")

    assert 'id="passage-0"' in html and "Paragraph 0." in html
    assert "passage-25" not in html
    assert f'href="{LIST}/long.md?at=25">Later passages' in html
    assert 'id="passage-25"' in rest and 'id="passage-29"' in rest
    assert f'href="{LIST}/long.md?at=0">Earlier passages' in rest
    assert "Later passages" not in rest


def test_a_document_is_processed_again_and_deleted_through_the_api(api: Api, page: Page) -> None:
    body = {"document_id": "manual-7", "user_id": "user-1", "file_name": "manual.pdf", "r2_key": "uploads/manual.pdf"}
    task = api.http.post("/api/documents/process", json=body).json()["task_id"]
    html = page(f"{LIST}/manual-7")
    assert "Process again" not in html
    assert f'href="/console/tasks/{task}"' in html

    assert api.http.post(f"/tasks/{task}/cancel").status_code == 200
    html = page(f"{LIST}/manual-7")
    retry, delete = f"/api/documents/task/{task}/retry", "/api/documents/manual-7"
    assert f'data-call="POST {retry}"' in html and f'data-call="DELETE {delete}"' in html
    assert api.http.post(retry).status_code == 202
    assert api.http.delete(delete).status_code == 204
    assert "No document &#39;manual-7&#39; is known here." in api.http.get(f"{LIST}/manual-7").text


def test_texts_from_outside_are_shown_as_text(api: Api, page: Page) -> None:
    api.services.passage_store.ingest(document_id="d", title=HOSTILE, text=f"{HOSTILE} is a text.")
    with api.database.transaction() as session:
        error = f"{HOSTILE} postgresql://shop:hunter2@db.example/shop"
        values = {"file_name": HOSTILE, "error": error, "error_type": HOSTILE, "problems": [error]}
        session.execute(update(Document).values(**values, callback_url="https://a.example/hook?token=hunter2"))
    html = page(f"{LIST}/d")

    assert HOSTILE not in html + page(LIST)
    assert html.count(ESCAPED) >= 5
    assert "https://a.example/hook" in html and "db.example" in html
    assert "hunter2" not in html + page(LIST)
