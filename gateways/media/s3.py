"""A bucket by boto3: its calls block, so they are for threads. Which of S3's errors are answers, and what the others
ask of the operator."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from gateways.media.place import Place

if TYPE_CHECKING:
    from datetime import datetime

    from types_boto3_s3 import S3Client

CONNECT_MAX_S: Final = 5
READ_MAX_S: Final = 30
"""For each piece that is waited for, the first one included."""
COPY_MAX_S: Final = 900
"""The server answers when it has copied, up to `objects.SIZE_MAX`."""
ATTEMPTS_MAX: Final = 3
"""Of calls that may be repeated, with a second or two between them: whoever waits is told soon."""
PIECE_BYTES: Final = 1 << 16
"""Larger ones are read no faster, and hold up the loop: what copies them has Python's lock."""

_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}
_ABSENT: Final = {"NoSuchKey", "404"}
_MADE: Final = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}

_LOGIN: Final = "correct KEY:SECRET in the URL, or what boto3 finds (AWS_ACCESS_KEY_ID, profile, role)"
_REMEDIES: Final = {
    "AccessDenied": "allow this key to list the bucket, and to get, put and delete objects in it",
    "AuthorizationHeaderMalformed": "correct region= in the URL",
    "ExpiredToken": _LOGIN,
    "InvalidAccessKeyId": _LOGIN,
    "NoSuchBucket": "make the bucket, or correct its name in the URL",
    "PermanentRedirect": "correct region= in the URL",
    "RequestTimeTooSkewed": "set this machine's clock",
    "SignatureDoesNotMatch": _LOGIN,
}
"""What the operator can do, by the code of the error."""


class ObjectsUnavailable(Exception):
    """Media can't be stored or read now; the text says why and what to do. The same call may be made again."""


class NoBucket(ObjectsUnavailable):
    """The bucket is missing."""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    """Without its folder."""
    size: int
    modified_us: int
    """Since 1970, UTC."""


class Bucket:
    """All of its methods may be called from any thread, and raise ObjectsUnavailable."""

    def __init__(self, place: Place) -> None:
        """Asks nobody yet. Takes a quarter of a second at the first time, for boto3 is imported here."""
        self._place = place
        with self._asking():
            self._client, self._copying, self._signing = _clients(place)

    def close(self) -> None:
        for client in (self._client, self._copying, self._signing):
            client.close()

    def check(self, *, make: bool = True) -> None:
        """Whether it is there and can be listed. Where it is missing it is made, if that is allowed; without `make`
        raises NoBucket."""
        with self._asking():
            try:
                self._list_one()
            except self._client.exceptions.NoSuchBucket:
                if not make:
                    raise
                self._make()
                self._list_one()

    def address(self, method: str, key: str, *, life_s: int, **signed: Any) -> str:
        """With which anybody may do this one thing. `signed`: further parameters of the operation, which it must be
        done with. For the loop, too; but the credentials of a role are fetched anew now and then."""
        with self._asking():
            return self._signing.generate_presigned_url(
                method, {"Bucket": self._place.bucket, "Key": key, **signed}, ExpiresIn=life_s
            )

    def size(self, key: str) -> int | None:
        """In bytes; None where there is no such object."""
        with self._asking():
            try:
                return self._client.head_object(Bucket=self._place.bucket, Key=key)["ContentLength"]
            except self._client.exceptions.ClientError as error:
                if _is_absence(error):
                    return None
                raise

    def copy(self, source: str, target: str) -> bool:
        """On the server's side, without what the uploader said about it (a type that a browser would show, say); false
        where there is no `source`. The target comes whole or not at all. It is asked once: a second copy beside one
        that is still under way might end before it."""
        with self._asking():
            try:
                self._copying.copy_object(
                    Bucket=self._place.bucket,
                    Key=target,
                    CopySource={"Bucket": self._place.bucket, "Key": source},
                    ContentType="application/octet-stream",
                    MetadataDirective="REPLACE",
                )
            except self._client.exceptions.ClientError as error:
                if _is_absence(error):
                    return False
                raise
            return True

    def pieces(self, key: str) -> Generator[bytes, None, None] | None:
        """The whole object, `PIECE_BYTES` at a time at most; None where there is no such object."""
        with self._asking():
            try:
                body = self._client.get_object(Bucket=self._place.bucket, Key=key)["Body"]
            except self._client.exceptions.ClientError as error:
                if _is_absence(error):
                    return None
                raise
        return self._read(body)

    def delete(self, key: str) -> None:
        """Also where there is no such object."""
        with self._asking():
            try:
                self._client.delete_object(Bucket=self._place.bucket, Key=key)
            except self._client.exceptions.ClientError as error:
                if not _is_absence(error):
                    raise

    def page(self, folder: str, after: str | None) -> tuple[list[Listed], str | None]:
        """Up to 1,000 of what lies in `folder` (`…/`), and with what to ask for the next ones, if there are more."""
        with self._asking():
            further: Any = {"ContinuationToken": after} if after else {}
            answer = self._client.list_objects_v2(Bucket=self._place.bucket, Prefix=folder, **further)
        listed = [
            Listed(
                name=each["Key"].removeprefix(folder),
                size=each["Size"],
                modified_us=_microseconds(each["LastModified"]),
            )
            for each in answer.get("Contents", ())
        ]
        return listed, answer.get("NextContinuationToken")

    def _read(self, body: Any) -> Generator[bytes, None, None]:
        with closing(body), self._asking():
            while piece := body.read(PIECE_BYTES):
                yield piece

    def _list_one(self) -> None:
        answer = self._client.list_objects_v2(Bucket=self._place.bucket, Prefix=self._place.prefix, MaxKeys=1)
        if answer.get("Name") != self._place.bucket:
            raise self._unavailable("what answers there is no S3", "correct endpoint= in the URL")
        region = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        if region not in {None, self._client.meta.region_name}:
            # botocore follows it there, but addresses for clients would be signed for the wrong one.
            raise self._unavailable(f"the bucket lies in {region}", f"write region={region} into the URL")

    def _make(self) -> None:
        region = self._client.meta.region_name
        at: Any = {}
        if self._place.endpoint is None and region != "us-east-1":
            at = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            self._client.create_bucket(Bucket=self._place.bucket, **at)
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in _MADE:
                reason = f"the bucket is missing, and could not be made ({error.response['Error']['Code']})"
                raise self._unavailable(reason, "make it, or correct its name in the URL") from error

    @contextmanager
    def _asking(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
        from botocore.parsers import ResponseParserError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            raise self._refused(error.response) from error
        except NoCredentialsError as error:
            raise self._unavailable("there is no key to ask with", _LOGIN) from error
        except ResponseParserError as error:
            raise self._unavailable("what answers there is no S3", "correct endpoint= in the URL") from error
        except (BotoCoreError, HTTPError) as error:
            remedy = "look whether it runs and is reached from here, and whether the URL is right"
            raise self._unavailable(str(error), remedy) from error

    def _refused(self, response: Mapping[str, Any]) -> ObjectsUnavailable:
        code, said = response["Error"]["Code"], response["Error"].get("Message", "")
        status = response["ResponseMetadata"]["HTTPStatusCode"]
        if code in {"", str(status)} and status < 500:
            # Errors of an S3 have names; but the answer to HEAD has no room for one.
            return self._unavailable(f"it answers {status} {said}", f"correct endpoint= in the URL, or {_LOGIN}")
        kind = NoBucket if code == "NoSuchBucket" else ObjectsUnavailable
        return self._unavailable(f"{said} ({code})", _REMEDIES.get(code, "look at what it logs"), kind)

    def _unavailable(
        self, reason: str, remedy: str, kind: type[ObjectsUnavailable] = ObjectsUnavailable
    ) -> ObjectsUnavailable:
        return kind(f"the object store {self._place.shown} can't be used: {reason}. To do: {remedy}")


def _clients(place: Place) -> tuple[S3Client, S3Client, S3Client]:
    """One for most, one for copying, one that signs for the outside: it never connects."""
    import boto3
    from botocore.config import Config

    session = boto3.Session()

    def client(endpoint: str | None, **settings: Any) -> S3Client:
        made: S3Client = session.client(
            "s3",
            endpoint_url=endpoint,
            region_name=place.region or session.region_name or "us-east-1",
            aws_access_key_id=place.key,
            aws_secret_access_key=place.secret,
            config=Config(
                connect_timeout=CONNECT_MAX_S,
                # What boto3 adds by itself since 1.36 not every S3 understands.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                signature_version="s3v4",
                s3={"addressing_style": "path" if endpoint or "." in place.bucket else "virtual"},
                # Whatever HTTP_PROXY says: no proxy leads to this machine itself.
                proxies={} if endpoint and urlsplit(endpoint).hostname in _LOOPBACK else None,
                **settings,
            ),
        )
        return made

    return (
        client(place.endpoint, read_timeout=READ_MAX_S, retries=_retries(ATTEMPTS_MAX)),
        client(place.endpoint, read_timeout=COPY_MAX_S, retries=_retries(1)),
        client(place.public_endpoint or place.endpoint),
    )


def _retries(attempts_max: int) -> dict[str, Any]:
    return {"mode": "standard", "total_max_attempts": attempts_max}


def _is_absence(error: Any) -> bool:
    """Whether it is an answer: there is no such object."""
    return error.response["Error"]["Code"] in _ABSENT


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)
