"""The console's page of events: it tells the browser which feed to read."""

from __future__ import annotations

from laneway.platform.access.scopes import Scope
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api, say
from tests.fixtures.console_pages import ESCAPED, HOSTILE, Page
from tests.fixtures.emptied import ONE_DATABASE
from tests.laneway.api.test_access import bearer


def test_the_page_reads_the_feed_of_its_filters(page: Page) -> None:
    assert 'data-feed="/events?last=100"' in page("/console/events?queue=&name=&tag=&workflow=&kind=")
    text = page("/console/events?queue=crm&tag=shop%3A7&kind=end&kind=cancel+requested")
    feed = "/events?queue=crm&amp;tag=shop%3A7&amp;kind=end&amp;kind=cancel+requested&amp;last=100"
    assert f'data-feed="{feed}"' in text
    assert "<option selected>crm</option>" in text and "<option selected>end</option>" in text


def test_the_feed_that_the_page_names_can_be_read(api: Api, page: Page) -> None:
    id = say(api, "conv-1")
    api.services.recorder.catch_up()
    address = page("/console/events?queue=conversations").partition('data-feed="')[2].partition('"')[0]
    sent = api.http.get(address.replace("&amp;", "&") + "&follow=false").text
    assert f'"task_id":"{id}"' in sent and "event: accepted" in sent


@ONE_DATABASE
def test_wrong_and_hostile_filters(api: Api) -> None:
    text = api.http.get("/console/events", params={"tag": f'"{HOSTILE}'}).text
    assert HOSTILE not in text and ESCAPED in text
    assert api.http.get("/console/events?kind=nonsense").status_code == 422
    assert api.http.get("/console/events?other=1").status_code == 422


@ONE_DATABASE
def test_only_readers_see_it(make_api: MakeApi) -> None:
    api = make_api(AUTHENTICATION="on")
    assert api.http.get("/console/events", headers=bearer(api, Scope.SUBMIT)).status_code == 403
    assert api.http.get("/console/events", headers=bearer(api, Scope.READ)).status_code == 200
