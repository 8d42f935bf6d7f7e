"""URLs of places for media."""

import pytest

from gateways.media.place import Place


def test_a_bucket_alone_is_amazons_and_boto3_finds_the_credentials() -> None:
    assert Place.parse("s3://photos") == Place(bucket="photos")


def test_everything_can_be_named() -> None:
    url = "s3://AK%2FID:s%2Fe+c%40r:et@my.bucket-1/a/b_c/?endpoint=http://127.0.0.1:9000/&region=eu-west-1"
    assert Place.parse(url, public_endpoint="https://media.example.org/") == Place(
        bucket="my.bucket-1",
        prefix="a/b_c",
        endpoint="http://127.0.0.1:9000",
        region="eu-west-1",
        key="AK/ID",
        secret="s/e+c@r:et",
        public_endpoint="https://media.example.org",
    )


def test_what_is_shown_tells_no_secret() -> None:
    place = Place.parse("s3://KEY:hush@photos/a?endpoint=http://[::1]:9000&region=auto")
    assert place.shown == "s3://photos/a?endpoint=http://[::1]:9000&region=auto"
    assert "hush" not in f"{place!r} {place} {[place]}"
    assert Place.parse(place.shown).shown == place.shown


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("http://photos", "begins with s3://"),
        ("photos", "begins with s3://"),
        ("s3://", "a bucket's name"),
        ("s3://Photos", "a bucket's name"),
        ("s3://KEY@photos", "key and secret, with a colon"),
        ("s3://KEY:@photos", "key and secret, with a colon"),
        ("s3://:hush@photos", "key and secret, with a colon"),
        ("s3://KEY:hush/hush@photos", "write / ? # and @ in a secret as"),
        ("s3://KEY:hush?hush@photos", "write / ? # and @ in a secret as"),
        ("s3://KEY:hush#hush@photos", "write / ? # and @ in a secret as"),
        ("s3://KEY:hush", "a bucket's name"),
        ("s3://[KEY:hush@photos", "is no place for media"),
        ("s3://photos/a//b", "a prefix has"),
        ("s3://photos/../b", "a prefix has"),
        ("s3://photos/a/.", "a prefix has"),
        ("s3://photos/é", "a prefix has"),
        ("s3://photos#a", "begins with #"),
        ("s3://photos?endpont=http://a", "no option 'endpont'"),
        ("s3://photos?region=EU west", "a region has"),
        ("s3://photos?region=", "a region has"),
        ("s3://KEY:hush@photos?endpoint=s3.example.org", "a scheme and a host"),
        ("s3://KEY:hush@photos?endpoint=ftp://s3.example.org", "a scheme and a host"),
        ("s3://KEY:hush@photos?endpoint=http://s3.example.org/path", "a scheme and a host"),
        ("s3://KEY:hush@photos?endpoint=http://s3.example.org:port", "a scheme and a host"),
        ("s3://KEY:hush@photos?endpoint=", "a scheme and a host"),
    ],
)
def test_what_is_no_place_is_refused_with_what_to_write(url: str, remedy: str) -> None:
    with pytest.raises(ValueError, match="s3") as refused:
        Place.parse(url)
    assert remedy in str(refused.value)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("endpoint", ["media.example.org", "https://", "https://user:hush@media.example.org"])
def test_a_public_address_is_checked_too(endpoint: str) -> None:
    with pytest.raises(ValueError, match="the public address of the media is a scheme and a host") as refused:
        Place.parse("s3://photos", public_endpoint=endpoint)
    assert "hush" not in str(refused.value)
