# flower 2.2

from typing import Any

from tornado.web import RequestHandler

class BaseHandler(RequestHandler):
    application: Any
    laneway_caller: Any

    def get_broker(self) -> Any: ...
    def get_active_queue_names(self) -> list[str]: ...
