# celery 5.7

PENDING: str
RECEIVED: str
STARTED: str
SUCCESS: str
FAILURE: str
REVOKED: str
REJECTED: str
RETRY: str
IGNORED: str

READY_STATES: frozenset[str]
