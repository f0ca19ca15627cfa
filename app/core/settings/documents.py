"""Settings of documents: where their objects are stored, and the limits of one document."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, model_validator

from laneway.platform.settings.base import Group, project
from laneway.platform.settings.plaintext import plain_host

MB = 1024 * 1024


class DocumentSettings(Group):
    """Object storage (a local folder, or an S3-compatible service such as R2), and the limits of one document."""

    storage_url: str | None = Field(None, alias="STORAGE_URL")
    """The store of objects: a folder, `file:///folder`, or `s3://bucket/prefix`. Default: `objects` in `DATA_DIR`."""
    endpoint_url: str | None = Field(None, alias="STORAGE_ENDPOINT_URL", pattern=r"^https?://[^\s/?#]+(:[0-9]+)?/?$")
    """The address of an S3 service other than AWS."""
    region: str | None = Field(None, alias="STORAGE_REGION", pattern=r"^[A-Za-z0-9-]{1,40}$")
    """The region of the S3 service. Default: `auto` with an address, else `us-east-1`."""
    access_key_id: SecretStr | None = Field(None, alias="STORAGE_ACCESS_KEY_ID")
    """The id of the key for S3."""
    secret_access_key: SecretStr | None = Field(None, alias="STORAGE_SECRET_ACCESS_KEY")
    """The secret of the key for S3."""
    storage_timeout: float = Field(30, alias="STORAGE_TIMEOUT_SECONDS", gt=0, le=300)
    """Seconds that a request to the store may take."""
    max_bytes: int = Field(200 * MB, alias="DOCUMENT_MAX_BYTES", ge=1024, le=2048 * MB)
    """The largest file of a document, in bytes."""
    max_text_bytes: int = Field(10 * MB, alias="DOCUMENT_MAX_TEXT_BYTES", ge=1024, le=50 * MB)
    """The longest text of a document, in bytes."""
    max_pages: int = Field(5000, alias="DOCUMENT_MAX_PAGES", ge=1, le=100_000)
    """The most pages of a document."""
    cpu_seconds: float = Field(60, alias="DOCUMENT_CPU_SECONDS", ge=1, le=3600)
    """Seconds of CPU for reading a document; at most a quarter of `TASK_SOFT_TIME_LIMIT`."""
    memory_bytes: int = Field(1024 * MB, alias="DOCUMENT_MEMORY_BYTES", ge=256 * MB)
    """The memory of the process that reads a document, in bytes."""

    def exposed(self) -> dict[str, str]:
        host = plain_host(self.endpoint_url) if self.secret_access_key else None
        return {"STORAGE_ENDPOINT_URL": host} if host else {}

    @property
    def on_s3(self) -> bool:
        """Whether objects are stored in an S3-compatible service."""
        return self.storage_url is not None and self.storage_url.startswith("s3://")

    @property
    def bucket_and_prefix(self) -> tuple[str, str]:
        """The bucket and the prefix of `s3://bucket/prefix`; the prefix may be empty."""
        parts = urlsplit(self.storage_url or "")
        return parts.netloc, parts.path.strip("/")

    def folder(self, data_dir: Path) -> Path:
        """The folder of the objects when no service is configured: `STORAGE_URL`, or `objects` in `DATA_DIR`."""
        if self.storage_url is None:
            return data_dir / "objects"
        path = self.storage_url
        if path.startswith("file://"):
            path = unquote(urlsplit(path).path)
        return project.path / Path(path).expanduser()

    @model_validator(mode="after")
    def _check_storage(self) -> DocumentSettings:
        keys = {"STORAGE_ACCESS_KEY_ID": self.access_key_id, "STORAGE_SECRET_ACCESS_KEY": self.secret_access_key}
        if not self.on_s3:
            _check_folder(self.storage_url)
            s3_only = {"STORAGE_ENDPOINT_URL": self.endpoint_url, "STORAGE_REGION": self.region, **keys}
            given = [name for name, value in s3_only.items() if value]
            if given:
                raise ValueError(f"{', '.join(given)} needs a STORAGE_URL like s3://bucket or s3://bucket/prefix")
            return self
        missing = [name for name, value in keys.items() if not value]
        if missing:
            raise ValueError(f"STORAGE_URL is in S3 and needs {' and '.join(missing)}")
        if not self.bucket_and_prefix[0] or urlsplit(self.storage_url or "").query:
            raise ValueError("STORAGE_URL must be like s3://bucket or s3://bucket/prefix")
        return self


def _check_folder(url: str | None) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if "://" in url and (parts.scheme != "file" or parts.netloc or not parts.path):
        raise ValueError("STORAGE_URL must be a folder, file:///folder, s3://bucket or s3://bucket/prefix")
    if "\0" in url:
        raise ValueError("STORAGE_URL must not contain null bytes")
