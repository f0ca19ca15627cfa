# s3fs 2026.9

from typing import Any

from fsspec.asyn import AsyncFileSystem

class S3FileSystem(AsyncFileSystem):
    retries: int

    def __init__(
        self,
        anon: bool = False,
        endpoint_url: str | None = None,
        key: str | None = None,
        secret: str | None = None,
        token: str | None = None,
        use_ssl: bool = True,
        client_kwargs: dict[str, Any] | None = None,
        requester_pays: bool = False,
        default_block_size: int | None = None,
        default_fill_cache: bool = True,
        default_cache_type: str = "readahead",
        version_aware: bool = False,
        config_kwargs: dict[str, Any] | None = None,
        s3_additional_kwargs: dict[str, Any] | None = None,
        session: Any = None,
        username: str | None = None,
        password: str | None = None,
        cache_regions: bool = False,
        asynchronous: bool = False,
        loop: Any = None,
        max_concurrency: int = 10,
        fixed_upload_size: bool = False,
        local_expiry_check: bool = False,
        **kwargs: Any,
    ) -> None: ...
    def split_path(self, path: str) -> tuple[str, str, str | None]: ...
    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> Any: ...
    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        acl: Any = False,
        version_id: str | None = None,
        fill_cache: bool | None = None,
        cache_type: str | None = None,
        autocommit: bool = True,
        size: int | None = None,
        requester_pays: bool | None = None,
        cache_options: Any = None,
        **kwargs: Any,
    ) -> Any: ...
