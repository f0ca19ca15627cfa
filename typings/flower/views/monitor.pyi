# flower 2.2

from flower.views import BaseHandler

class Healthcheck(BaseHandler): ...
