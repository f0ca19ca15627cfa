# billiard 4.3

class ExceptionWithTraceback(Exception):
    exc: BaseException
    tb: str

    def __init__(self, exc: BaseException, tb: str) -> None: ...

class ExceptionInfo:
    exception: BaseException
    traceback: str
