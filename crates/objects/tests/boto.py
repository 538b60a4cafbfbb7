"""Calls the object gate as people do: with boto3 and the AWS CLI. Each public function is one test."""

import base64
import concurrent.futures
import datetime
import hashlib
import io
import itertools
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

PUBLIC, SANDBOX = int(sys.argv[2]), int(sys.argv[3])
MIB = 1 << 20


real_address = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **named: real_address("127.0.0.1" if host.endswith(".localhost") else host, *rest, **named)


def client(key="project-a", port=PUBLIC, secret=None, host="127.0.0.1", region="GRA", **config):
    config = {"s3": {"addressing_style": "path"}, "retries": {"max_attempts": 1}, **config}
    return boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key=secret or f"secret of {key}",
        config=Config(**config),
    )


def fails(code, call, *arguments, status=None, **named):
    try:
        call(*arguments, **named)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        assert found == code, f"{found} instead of {code}: {error}"
        if status:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status, error.response
        return error.response
    raise AssertionError(f"did not fail with {code}")


def data(size, seed=0):
    return random.Random(seed).randbytes(size)


def read(s3, bucket, key, **named):
    return s3.get_object(Bucket=bucket, Key=key, **named)["Body"].read()


def buckets_are_made_listed_and_removed_in_a_project_of_their_own():
    a, b = client(), client("project-b")
    assert a.list_buckets()["Buckets"] == []
    a.create_bucket(Bucket="data", CreateBucketConfiguration={"LocationConstraint": "GRA"})
    fails("BucketAlreadyOwnedByYou", a.create_bucket, Bucket="data", status=409)
    b.create_bucket(Bucket="data")
    a.create_bucket(Bucket="alpha")
    assert [bucket["Name"] for bucket in a.list_buckets()["Buckets"]] == ["alpha", "data"]
    a.put_object(Bucket="data", Key="key", Body=b"of a")
    fails("NoSuchKey", b.get_object, Bucket="data", Key="key", status=404)
    fails("BucketNotEmpty", a.delete_bucket, Bucket="data", status=409)
    assert a.head_bucket(Bucket="data")["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert a.get_bucket_location(Bucket="data")["LocationConstraint"] == "GRA"
    assert "Status" not in a.get_bucket_versioning(Bucket="data")
    fails("NoSuchBucketPolicy", a.get_bucket_policy, Bucket="data", status=404)
    a.delete_object(Bucket="data", Key="key")
    a.delete_bucket(Bucket="data")
    fails("404", a.head_bucket, Bucket="data", status=404)
    for call in (a.delete_bucket, a.list_objects_v2, a.get_bucket_location):
        fails("NoSuchBucket", call, Bucket="data", status=404)
    fails("NoSuchBucket", a.put_object, Bucket="data", Key="key", Body=b"")
    for name in ("no", "192.168.1.1", "a..b"):
        fails("InvalidBucketName", a.create_bucket, Bucket=name, status=400)


def objects_of_all_sizes_come_back_byte_for_byte():
    s3 = client()
    s3.create_bucket(Bucket="data")
    edges = [0, 1, 65535, 65536, 65537, 4 * 65536 - 1, 4 * 65536, 4 * 65536 + 1, 3 * MIB + 7, 8 * MIB]
    for size in edges:
        body = data(size, size)
        put = s3.put_object(Bucket="data", Key=f"of/{size}", Body=body)
        assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        got = s3.get_object(Bucket="data", Key=f"of/{size}")
        assert got["ContentLength"] == size and got["Body"].read() == body, size
        assert got["ETag"] == put["ETag"] and got["ContentType"] == "binary/octet-stream"
        assert s3.head_object(Bucket="data", Key=f"of/{size}")["ContentLength"] == size
    fails("NoSuchKey", s3.get_object, Bucket="data", Key="none", status=404)
    fails("404", s3.head_object, Bucket="data", Key="none", status=404)


def what_is_overwritten_or_removed_is_gone_at_once():
    s3 = client()
    s3.create_bucket(Bucket="data")
    for size in (10, MIB, 20, 0, 2 * MIB):
        body = data(size, size)
        s3.put_object(Bucket="data", Key="key", Body=body)
        assert read(s3, "data", "key") == body
    s3.delete_object(Bucket="data", Key="key")
    s3.delete_object(Bucket="data", Key="key")
    fails("NoSuchKey", s3.get_object, Bucket="data", Key="key")
    for number in range(5):
        s3.put_object(Bucket="data", Key=f"k{number}", Body=b"x")
    keys = [{"Key": f"k{number}"} for number in range(4)] + [{"Key": "never"}]
    answer = s3.delete_objects(Bucket="data", Delete={"Objects": keys})
    assert len(answer["Deleted"]) == 5 and "Errors" not in answer
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="data")["Contents"]] == ["k4"]
    quiet = s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": "k4"}], "Quiet": True})
    assert "Deleted" not in quiet
    fails("MalformedXML", s3.delete_objects, Bucket="data", Delete={"Objects": [{"Key": "k"}] * 1001})


def metadata_and_headers_come_back_as_they_were_given():
    s3 = client()
    s3.create_bucket(Bucket="data")
    expires = datetime.datetime(2031, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    given = dict(
        ContentType="text/plain; charset=utf-8",
        CacheControl="max-age=60",
        ContentDisposition='attachment; filename="x.txt"',
        ContentEncoding="gzip",
        ContentLanguage="de",
        Metadata={"one": "1", "two-words": "two words"},
    )
    s3.put_object(Bucket="data", Key="key", Body=b"body", Expires=expires, **given)
    for got in (s3.get_object(Bucket="data", Key="key"), s3.head_object(Bucket="data", Key="key")):
        for name, value in given.items():
            assert got[name] == value, (name, got[name])
        assert got["Expires"] == expires and got["ServerSideEncryption"] == "AES256"
        assert abs((got["LastModified"] - datetime.datetime.now(datetime.timezone.utc)).total_seconds()) < 60
    got = s3.get_object(Bucket="data", Key="key", ResponseContentType="a/b", ResponseCacheControl="no-store")
    assert got["ContentType"] == "a/b" and got["CacheControl"] == "no-store"
    fails("MetadataTooLarge", s3.put_object, Bucket="data", Key="key", Body=b"", Metadata={"m": "x" * 3000})
    attributes = s3.get_object_attributes(Bucket="data", Key="key", ObjectAttributes=["ETag", "ObjectSize"])
    assert attributes["ObjectSize"] == 4 and attributes["ETag"].strip('"') == hashlib.md5(b"body").hexdigest()


def a_range_is_the_same_bytes_as_of_the_whole():
    s3 = client()
    s3.create_bucket(Bucket="data")
    chooser = random.Random(7)
    for size in (1000, 300_000, 5 * MIB + 123):
        body = data(size, size)
        s3.put_object(Bucket="data", Key="key", Body=body)
        ranges = [(0, 0), (0, size - 1), (size - 1, size - 1), (65535, 65536), (65536, 131071)]
        ranges += [tuple(sorted(chooser.randrange(size) for _ in "ab")) for _ in range(12)]
        for first, last in ranges:
            if last < size:
                got = s3.get_object(Bucket="data", Key="key", Range=f"bytes={first}-{last}")
                assert got["ContentRange"] == f"bytes {first}-{last}/{size}"
                assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
                assert got["Body"].read() == body[first : last + 1], (first, last)
        assert read(s3, "data", "key", Range="bytes=-5") == body[-5:]
        assert read(s3, "data", "key", Range=f"bytes={size - 3}-") == body[-3:]
        assert read(s3, "data", "key", Range=f"bytes=10-{size * 2}") == body[10:]
        fails("InvalidRange", s3.get_object, Bucket="data", Key="key", Range=f"bytes={size}-", status=416)
        head = s3.head_object(Bucket="data", Key="key", Range="bytes=1-3")
        assert head["ContentLength"] == 3
    s3.put_object(Bucket="data", Key="empty", Body=b"")
    fails("InvalidRange", s3.get_object, Bucket="data", Key="empty", Range="bytes=0-")


def conditions_of_reads_are_those_of_http():
    s3 = client()
    s3.create_bucket(Bucket="data")
    etag = s3.put_object(Bucket="data", Key="key", Body=b"body")["ETag"]
    now = datetime.datetime.now(datetime.timezone.utc)
    before, after = now - datetime.timedelta(hours=1), now + datetime.timedelta(hours=1)
    get = lambda **named: read(s3, "data", "key", **named)
    assert get(IfMatch=etag) == get(IfNoneMatch='"other"') == b"body"
    assert get(IfModifiedSince=before) == get(IfUnmodifiedSince=after) == b"body"
    assert get(IfMatch=etag, IfUnmodifiedSince=before) == b"body", "the tag decides"
    assert get(IfNoneMatch='"other"', IfModifiedSince=after) == b"body", "the tag decides"
    refused = lambda code, status, **named: fails(code, s3.get_object, Bucket="data", Key="key", status=status, **named)
    refused("PreconditionFailed", 412, IfMatch='"other"')
    refused("PreconditionFailed", 412, IfUnmodifiedSince=before)
    unchanged = refused("304", 304, IfNoneMatch=etag)
    assert unchanged["ResponseMetadata"]["HTTPHeaders"]["etag"] == etag
    refused("304", 304, IfModifiedSince=after)
    fails("304", s3.head_object, Bucket="data", Key="key", IfNoneMatch=etag, status=304)
    fails("412", s3.head_object, Bucket="data", Key="key", IfMatch='"other"', status=412)


def conditional_writes_happen_once():
    s3 = client(max_pool_connections=16)
    s3.create_bucket(Bucket="data")

    def attempt(number):
        try:
            s3.put_object(Bucket="data", Key="once", Body=str(number).encode(), IfNoneMatch="*")
            return number
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailed", error
            return None

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        winners = [number for number in pool.map(attempt, range(32)) if number is not None]
    assert len(winners) == 1 and read(s3, "data", "once") == str(winners[0]).encode()
    etag = s3.head_object(Bucket="data", Key="once")["ETag"]
    s3.put_object(Bucket="data", Key="once", Body=b"next", IfMatch=etag)
    fails("PreconditionFailed", s3.put_object, Bucket="data", Key="once", Body=b"late", IfMatch=etag, status=412)
    fails("NoSuchKey", s3.put_object, Bucket="data", Key="none", Body=b"", IfMatch=etag, status=404)
    fails("PreconditionFailed", s3.delete_object, Bucket="data", Key="once", IfMatch=etag)
    assert read(s3, "data", "once") == b"next"
    upload = s3.create_multipart_upload(Bucket="data", Key="once")["UploadId"]
    part = s3.upload_part(Bucket="data", Key="once", UploadId=upload, PartNumber=1, Body=b"part")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    whole = dict(Bucket="data", Key="once", UploadId=upload, MultipartUpload=parts)
    fails("PreconditionFailed", s3.complete_multipart_upload, IfNoneMatch="*", **whole)
    s3.complete_multipart_upload(IfMatch=s3.head_object(Bucket="data", Key="once")["ETag"], **whole)
    assert read(s3, "data", "once") == b"part"


def checksums_of_all_kinds_are_verified_and_given_back():
    s3 = client()
    s3.create_bucket(Bucket="data")
    body = data(200_000)
    known = {
        "SHA1": base64.b64encode(hashlib.sha1(body).digest()).decode(),
        "SHA256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
        "CRC32": base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
    }
    for name, value in known.items():
        put = s3.put_object(Bucket="data", Key=name, Body=body, ChecksumAlgorithm=name)
        assert put[f"Checksum{name}"] == value, "computed by the client, sent behind the body"
        put = s3.put_object(Bucket="data", Key=name, Body=body, **{f"Checksum{name}": value})
        assert put[f"Checksum{name}"] == value and put["ChecksumType"] == "FULL_OBJECT"
        head = s3.head_object(Bucket="data", Key=name, ChecksumMode="ENABLED")
        assert head[f"Checksum{name}"] == value
        assert f"Checksum{name}" not in s3.head_object(Bucket="data", Key=name)
        wrong = base64.b64encode(bytes(len(base64.b64decode(value)))).decode()
        sent = {f"Checksum{name}": wrong}
        fails("BadDigest", s3.put_object, Bucket="data", Key="wrong", Body=body, status=400, **sent)
    # Those that the client cannot compute itself, by their published values of "123456789".
    for name, value in (("CRC32C", "4waSgw=="), ("CRC64NVME", "rosUhgp5mIg=")):
        put = s3.put_object(Bucket="data", Key=name, Body=b"123456789", **{f"Checksum{name}": value})
        assert put[f"Checksum{name}"] == value
        fails("BadDigest", s3.put_object, Bucket="data", Key="wrong", Body=b"12345678", **{f"Checksum{name}": value})
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    s3.put_object(Bucket="data", Key="md5", Body=body, ContentMD5=md5)
    fails("BadDigest", s3.put_object, Bucket="data", Key="wrong", Body=b"other", ContentMD5=md5, status=400)
    fails("InvalidDigest", s3.put_object, Bucket="data", Key="wrong", Body=b"other", ContentMD5="bm8=", status=400)
    fails("404", s3.head_object, Bucket="data", Key="wrong")


def bodies_signed_in_every_way_arrive():
    body = data(300_000)
    for region, config in itertools.product(("GRA", "gra", "eu-west-1"), (
        {"s3": {"addressing_style": "path", "payload_signing_enabled": True}},
        {"s3": {"addressing_style": "path", "payload_signing_enabled": False}},
        {"request_checksum_calculation": "when_required"},
        {"s3": {"addressing_style": "path", "payload_signing_enabled": True}, "request_checksum_calculation": "when_required"},
    )):
        s3 = client(region=region, **config)
        try:
            s3.create_bucket(Bucket="data")
        except ClientError:
            pass
        s3.put_object(Bucket="data", Key="bytes", Body=body)
        s3.put_object(Bucket="data", Key="stream", Body=io.BytesIO(body))
        assert read(s3, "data", "bytes") == read(s3, "data", "stream") == body, config


def copies_are_of_the_same_bytes():
    s3 = client()
    s3.create_bucket(Bucket="data")
    s3.create_bucket(Bucket="other")
    for size in (0, 100, 2 * MIB):
        body = data(size, size)
        s3.put_object(Bucket="data", Key="from / ü", Body=body, ContentType="a/b", Metadata={"m": "1"})
        source = {"Bucket": "data", "Key": "from / ü"}
        result = s3.copy_object(Bucket="other", Key="to", CopySource=source)["CopyObjectResult"]
        assert result["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        got = s3.get_object(Bucket="other", Key="to")
        assert got["Body"].read() == body and got["ContentType"] == "a/b" and got["Metadata"] == {"m": "1"}
        s3.copy_object(Bucket="other", Key="to", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "2"}, ContentType="c/d")
        head = s3.head_object(Bucket="other", Key="to")
        assert head["Metadata"] == {"n": "2"} and head["ContentType"] == "c/d"
    fails("InvalidRequest", s3.copy_object, Bucket="data", Key="from / ü", CopySource=source)
    s3.copy_object(Bucket="data", Key="from / ü", CopySource=source, MetadataDirective="REPLACE", Metadata={"k": "v"})
    assert s3.head_object(Bucket="data", Key="from / ü")["Metadata"] == {"k": "v"}
    fails("PreconditionFailed", s3.copy_object, Bucket="other", Key="to", CopySource=source, CopySourceIfMatch='"no"')
    fails("NoSuchKey", s3.copy_object, Bucket="other", Key="to", CopySource="data/none", status=404)
    fails("NoSuchBucket", s3.copy_object, Bucket="none", Key="to", CopySource=source)


def uploads_in_parts_make_one_object():
    s3 = client()
    s3.create_bucket(Bucket="data")
    bodies = [data(5 * MIB, 1), data(6 * MIB + 5, 2), data(1234, 3)]
    upload = s3.create_multipart_upload(Bucket="data", Key="key", ContentType="a/b", Metadata={"m": "1"})["UploadId"]
    named = dict(Bucket="data", Key="key", UploadId=upload)
    s3.upload_part(PartNumber=2, Body=b"replaced", **named)
    tags = {number: s3.upload_part(PartNumber=number, Body=body, **named)["ETag"] for number, body in zip((2, 7, 9), bodies)}
    s3.upload_part(PartNumber=8, Body=b"not wanted", **named)
    listed = s3.list_parts(**named)
    assert [part["PartNumber"] for part in listed["Parts"]] == [2, 7, 8, 9]
    first = s3.list_parts(MaxParts=2, **named)
    assert first["IsTruncated"] and first["NextPartNumberMarker"] == 7
    assert [part["PartNumber"] for part in s3.list_parts(PartNumberMarker=7, **named)["Parts"]] == [8, 9]
    uploads = s3.list_multipart_uploads(Bucket="data")["Uploads"]
    assert [(entry["Key"], entry["UploadId"]) for entry in uploads] == [("key", upload)]
    fails("404", s3.head_object, Bucket="data", Key="key")

    whole = lambda parts: dict(MultipartUpload={"Parts": [{"PartNumber": n, "ETag": tag} for n, tag in parts]}, **named)
    fails("InvalidPartOrder", s3.complete_multipart_upload, **whole([(7, tags[7]), (2, tags[2])]))
    fails("InvalidPart", s3.complete_multipart_upload, **whole([(2, tags[7])]))
    fails("InvalidPart", s3.complete_multipart_upload, **whole([(3, tags[2])]))
    small = f'"{hashlib.md5(b"not wanted").hexdigest()}"'
    fails("EntityTooSmall", s3.complete_multipart_upload, **whole([(8, small), (9, tags[9])]))
    fails("MalformedXML", s3.complete_multipart_upload, MultipartUpload={"Parts": []}, **named)
    done = s3.complete_multipart_upload(**whole(sorted(tags.items())))
    md5s = b"".join(hashlib.md5(body).digest() for body in bodies)
    assert done["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-3"'
    again = s3.complete_multipart_upload(**whole(sorted(tags.items())))
    assert again["ETag"] == done["ETag"], "an answer that was lost can be asked for again"

    body = b"".join(bodies)
    got = s3.get_object(Bucket="data", Key="key")
    assert got["Body"].read() == body and got["ContentType"] == "a/b" and got["Metadata"] == {"m": "1"}
    for first, last in ((0, 10), (5 * MIB - 3, 5 * MIB + 3), (4 * MIB, 11 * MIB + 100), (len(body) - 2, len(body) - 1)):
        assert read(s3, "data", "key", Range=f"bytes={first}-{last}") == body[first : last + 1]
    second = s3.get_object(Bucket="data", Key="key", PartNumber=2)
    assert second["Body"].read() == bodies[1] and second["PartsCount"] == 3
    fails("NoSuchUpload", s3.upload_part, PartNumber=1, Body=b"", **named)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="data")

    upload = s3.create_multipart_upload(Bucket="data", Key="key")["UploadId"]
    s3.upload_part(Bucket="data", Key="key", UploadId=upload, PartNumber=1, Body=data(MIB))
    s3.abort_multipart_upload(Bucket="data", Key="key", UploadId=upload)
    fails("NoSuchUpload", s3.list_parts, Bucket="data", Key="key", UploadId=upload, status=404)
    fails("NoSuchUpload", s3.abort_multipart_upload, Bucket="data", Key="key", UploadId="nonsense", status=404)
    fails("InvalidArgument", s3.upload_part, PartNumber=10001, Body=b"", **named)
    assert read(s3, "data", "key") == body


def checksums_of_parts_make_that_of_the_object():
    s3 = client()
    s3.create_bucket(Bucket="data")
    bodies = [data(5 * MIB, 1), data(77, 2)]
    crc = lambda body: base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    for kind in ("COMPOSITE", "FULL_OBJECT"):
        begun = s3.create_multipart_upload(Bucket="data", Key=kind, ChecksumAlgorithm="CRC32", ChecksumType=kind)
        named = dict(Bucket="data", Key=kind, UploadId=begun["UploadId"])
        parts = []
        for number, body in enumerate(bodies, 1):
            part = s3.upload_part(PartNumber=number, Body=body, ChecksumAlgorithm="CRC32", **named)
            assert part["ChecksumCRC32"] == crc(body)
            parts.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]})
        wrong = [dict(parts[0], ChecksumCRC32="AAAAAA=="), parts[1]]
        fails("InvalidPart", s3.complete_multipart_upload, MultipartUpload={"Parts": wrong}, **named)
        done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **named)
        joined = b"".join(zlib.crc32(body).to_bytes(4, "big") for body in bodies)
        expected = crc(b"".join(bodies)) if kind == "FULL_OBJECT" else crc(joined) + "-2"
        assert done["ChecksumCRC32"] == expected and done["ChecksumType"] == kind, done
        assert read(s3, "data", kind, ChecksumMode="ENABLED") == b"".join(bodies)
    fails("InvalidRequest", s3.create_multipart_upload, Bucket="data", Key="k", ChecksumAlgorithm="SHA256", ChecksumType="FULL_OBJECT")


def parts_are_copied_from_objects():
    s3 = client()
    s3.create_bucket(Bucket="data")
    body = data(12 * MIB)
    s3.put_object(Bucket="data", Key="from", Body=body)
    upload = s3.create_multipart_upload(Bucket="data", Key="to")["UploadId"]
    named = dict(Bucket="data", Key="to", UploadId=upload, CopySource="data/from")
    one = s3.upload_part_copy(PartNumber=1, CopySourceRange=f"bytes=0-{6 * MIB - 1}", **named)
    two = s3.upload_part_copy(PartNumber=2, CopySourceRange=f"bytes={6 * MIB}-{12 * MIB - 1}", **named)
    fails("InvalidArgument", s3.upload_part_copy, PartNumber=3, CopySourceRange=f"bytes=0-{12 * MIB}", **named)
    parts = [{"PartNumber": n, "ETag": part["CopyPartResult"]["ETag"]} for n, part in ((1, one), (2, two))]
    s3.complete_multipart_upload(Bucket="data", Key="to", UploadId=upload, MultipartUpload={"Parts": parts})
    assert read(s3, "data", "to") == body


def lists_are_in_order_paged_and_rolled_up():
    s3 = client(max_pool_connections=16)
    s3.create_bucket(Bucket="data")
    keys = [f"a/{number:03}" for number in range(30)] + [f"b/{letter}/x" for letter in "pqr"]
    keys += ["top", "b", "ü/ß", "sp ace", "plus+", "a&b<c>", "per%cent"]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket="data", Key=key, Body=b"x"), keys))
    ordered = sorted(keys, key=lambda key: key.encode())
    for name in ("list_objects_v2", "list_objects"):
        for size in (1000, 7, 1):
            pages = s3.get_paginator(name).paginate(Bucket="data", PaginationConfig={"PageSize": size})
            assert [entry["Key"] for page in pages for entry in page.get("Contents", [])] == ordered, (name, size)
        for size in (1000, 2, 1):
            pages = list(s3.get_paginator(name).paginate(Bucket="data", Delimiter="/", PaginationConfig={"PageSize": size}))
            assert [p["Prefix"] for page in pages for p in page.get("CommonPrefixes", [])] == ["a/", "b/", "ü/"], (name, size)
            assert sorted(entry["Key"] for page in pages for entry in page.get("Contents", [])) == sorted(k for k in keys if "/" not in k)
    listed = s3.list_objects_v2(Bucket="data", Prefix="b/", Delimiter="/")
    assert [p["Prefix"] for p in listed["CommonPrefixes"]] == ["b/p/", "b/q/", "b/r/"] and listed["KeyCount"] == 3
    assert [e["Key"] for e in s3.list_objects_v2(Bucket="data", StartAfter="a/027", Prefix="a/")["Contents"]] == ["a/028", "a/029"]
    nothing = s3.list_objects_v2(Bucket="data", MaxKeys=0)
    assert nothing["KeyCount"] == 0 and not nothing["IsTruncated"]
    entry = s3.list_objects_v2(Bucket="data", Prefix="top", FetchOwner=True)["Contents"][0]
    assert entry["Size"] == 1 and entry["ETag"] == f'"{hashlib.md5(b"x").hexdigest()}"' and entry["Owner"]["ID"] == "a" * 32
    fails("InvalidArgument", s3.list_objects_v2, Bucket="data", ContinuationToken="***")


def keys_of_every_form_are_kept_apart():
    s3 = client()
    s3.create_bucket(Bucket="data")
    keys = ["../../etc/passwd", "..", ".", "/", "//", "a//b", "a/./b", "a/../b", "ends/", "nul\x01", "é", "e\u0301", "🦀", "x" * 1024]
    # Clients rewrite some paths before they send them; those are tried with what arrives.
    kept = []
    for key in keys:
        try:
            s3.put_object(Bucket="data", Key=key, Body=key.encode())
            kept.append(key)
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] < 500, (key, error)
    for key in kept:
        assert read(s3, "data", key) == key.encode(), key
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket="data")["Contents"]]
    assert listed == sorted(kept, key=lambda key: key.encode()), listed
    assert len(kept) >= 12, kept
    fails("KeyTooLongError", s3.put_object, Bucket="data", Key="x" * 1025, Body=b"", status=400)


def both_styles_of_address_work():
    s3 = client()
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="a key", Body=b"body")
    virtual = client(host="s3.localhost", s3={"addressing_style": "virtual"})
    assert read(virtual, "data", "a key") == b"body"
    virtual.put_object(Bucket="data", Key="other", Body=b"x")
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="data")["Contents"]] == ["a key", "other"]


def a_presigned_url_is_good_for_its_purpose_and_time():
    s3 = client(signature_version="s3v4")
    s3.create_bucket(Bucket="data")
    fetch = lambda url, **named: urllib.request.urlopen(urllib.request.Request(url, **named)).read()

    def refused(url, status, **named):
        try:
            fetch(url, **named)
        except urllib.error.HTTPError as error:
            assert error.code == status, (error.code, error.read())
            return
        raise AssertionError(f"{url} was answered")

    put = s3.generate_presigned_url("put_object", {"Bucket": "data", "Key": "a key"}, ExpiresIn=60)
    fetch(put, data=b"body", method="PUT")
    get = s3.generate_presigned_url("get_object", {"Bucket": "data", "Key": "a key"}, ExpiresIn=60)
    assert fetch(get) == b"body"
    refused(get, 403, data=b"other", method="PUT")
    refused(get.replace("a%20key", "other"), 403)
    short = s3.generate_presigned_url("get_object", {"Bucket": "data", "Key": "a key"}, ExpiresIn=1)
    time.sleep(2.1)
    refused(short, 403)
    refused(f"http://127.0.0.1:{PUBLIC}/data/a%20key", 403)


def wrong_keys_signatures_and_clocks_are_refused():
    s3 = client()
    s3.create_bucket(Bucket="data")
    fails("InvalidAccessKeyId", client("nobody").list_buckets, status=403)
    fails("SignatureDoesNotMatch", client(secret="wrong").list_buckets, status=403)
    fails("SignatureDoesNotMatch", client(secret="wrong").put_object, Bucket="data", Key="k", Body=b"x")
    fails("ServiceUnavailable", client("broken").list_buckets, status=503)
    fails("InvalidRequest", client(signature_version="s3").list_buckets, status=400)
    import botocore.auth

    real = botocore.auth.get_current_datetime
    try:
        for minutes, good in ((-16, False), (16, False), (-10, True)):
            shifted = lambda *a, minutes=minutes, **k: real(*a, **k) + datetime.timedelta(minutes=minutes)
            botocore.auth.get_current_datetime = shifted
            if good:
                client().list_buckets()
            else:
                fails("RequestTimeTooSkewed", client().list_buckets, status=403)
    finally:
        botocore.auth.get_current_datetime = real


def keys_of_jobs_are_good_in_their_sandbox_only_and_never_write_logs():
    outside = client()
    outside.create_bucket(Bucket="odp-logs")
    outside.create_bucket(Bucket="data")
    job, platform = client("job-1", SANDBOX), client("platform-1", SANDBOX)
    for key, port in (("job-1", PUBLIC), ("platform-1", PUBLIC), ("job-2", SANDBOX), ("project-a", SANDBOX)):
        fails("InvalidAccessKeyId", client(key, port).list_buckets, status=403)
    job.put_object(Bucket="data", Key="result", Body=b"result")
    assert read(outside, "data", "result") == b"result"
    platform.put_object(Bucket="odp-logs", Key="job/driver", Body=b"line")
    upload = platform.create_multipart_upload(Bucket="odp-logs", Key="job/parts")["UploadId"]
    part = platform.upload_part(Bucket="odp-logs", Key="job/parts", UploadId=upload, PartNumber=1, Body=b"p")
    platform.complete_multipart_upload(Bucket="odp-logs", Key="job/parts", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    assert read(job, "odp-logs", "job/driver") == b"line" and job.list_objects_v2(Bucket="odp-logs")["KeyCount"] == 2
    denied = lambda call, **named: fails("AccessDenied", call, status=403, **named)
    denied(job.put_object, Bucket="odp-logs", Key="forged", Body=b"x")
    denied(job.delete_object, Bucket="odp-logs", Key="job/driver")
    denied(job.delete_objects, Bucket="odp-logs", Delete={"Objects": [{"Key": "job/driver"}]})
    denied(job.delete_bucket, Bucket="odp-logs")
    denied(job.copy_object, Bucket="odp-logs", Key="forged", CopySource="data/result")
    denied(job.create_multipart_upload, Bucket="odp-logs", Key="forged")
    job.copy_object(Bucket="data", Key="log", CopySource="odp-logs/job/driver")
    denied(platform.put_object, Bucket="data", Key="x", Body=b"x")
    denied(platform.get_object, Bucket="odp-logs", Key="job/driver")
    denied(platform.copy_object, Bucket="odp-logs", Key="x", CopySource="data/result")
    denied(platform.list_buckets)
    assert read(outside, "odp-logs", "job/driver") == b"line"


def what_is_not_supported_says_so():
    s3 = client()
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="key", Body=b"x", ACL="private", ServerSideEncryption="AES256")
    put = lambda **named: (s3.put_object, dict(Bucket="data", Key="key", Body=b"y", **named))
    for code, (call, named) in (
        ("AccessControlListNotSupported", put(ACL="public-read")),
        ("NotImplemented", put(ServerSideEncryption="aws:kms")),
        ("NotImplemented", put(Tagging="a=b")),
        ("NotImplemented", (s3.put_bucket_versioning, dict(Bucket="data", VersioningConfiguration={"Status": "Enabled"}))),
        ("NoSuchVersion", (s3.get_object, dict(Bucket="data", Key="key", VersionId="1"))),
    ):
        fails(code, call, **named)
    form = urllib.request.Request(f"http://127.0.0.1:{PUBLIC}/data", data=b"--b--", headers={"content-type": "multipart/form-data; boundary=b"})
    try:
        urllib.request.urlopen(form)
    except urllib.error.HTTPError as error:
        assert error.code == 501
    assert read(s3, "data", "key") == b"x"


def the_transfer_manager_and_the_command_line_move_large_files():
    s3 = client()
    s3.create_bucket(Bucket="data")
    body = data(40 * MIB)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(body), "data", "big", Config=config)
    got = io.BytesIO()
    s3.download_fileobj("data", "big", got, Config=config)
    assert got.getvalue() == body
    s3.copy({"Bucket": "data", "Key": "big"}, "data", "copy", Config=config)
    assert hashlib.md5(read(s3, "data", "copy")).digest() == hashlib.md5(body).digest()
    home = os.environ["HOME"]
    with open(f"{home}/file", "wb") as file:
        file.write(body)
    environment = dict(os.environ, AWS_ACCESS_KEY_ID="project-a", AWS_SECRET_ACCESS_KEY="secret of project-a", AWS_DEFAULT_REGION="GRA")
    aws = lambda *arguments: subprocess.run(["aws", "--endpoint-url", f"http://127.0.0.1:{PUBLIC}", "s3", *arguments], env=environment, check=True, capture_output=True)
    aws("mb", "s3://cli-bucket")
    aws("cp", f"{home}/file", "s3://cli-bucket/dir/file")
    aws("cp", "s3://cli-bucket/dir/file", f"{home}/back")
    assert open(f"{home}/back", "rb").read() == body
    aws("sync", "s3://cli-bucket/dir", f"{home}/synced")
    assert open(f"{home}/synced/file", "rb").read() == body
    assert b"file" in aws("ls", "s3://cli-bucket/dir/").stdout
    aws("mv", "s3://cli-bucket/dir/file", "s3://cli-bucket/moved")
    aws("rb", "--force", "s3://cli-bucket")


def readers_see_whole_objects_while_they_are_overwritten():
    s3 = client(max_pool_connections=16)
    s3.create_bucket(Bucket="data")
    versions = [bytes([number]) * (MIB + number) for number in range(8)]
    s3.put_object(Bucket="data", Key="key", Body=versions[0])

    def write(number):
        s3.put_object(Bucket="data", Key="key", Body=versions[number % 8])

    def check(_):
        assert read(s3, "data", "key") in versions

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        work = [pool.submit(write if number % 3 == 0 else check, number) for number in range(60)]
        for task in work:
            task.result()


globals()[sys.argv[1]]()
