"""Calls the object gate as people do: with boto3 and the AWS CLI. Each public function is one test."""

import base64
import concurrent.futures
import datetime
import hashlib
import hmac
import io
import itertools
import json
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
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
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
        assert head["ContentLength"] == 3 and head["ContentRange"] == f"bytes 1-3/{size}"
        assert head["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert s3.head_object(Bucket="data", Key="key")["ResponseMetadata"]["HTTPStatusCode"] == 200
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
    for region, config in itertools.product(("GRA", "gra"), (
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
    second = s3.head_object(Bucket="data", Key="key", PartNumber=2)
    assert second["ContentLength"] == len(bodies[1]) and second["PartsCount"] == 3
    assert second["ResponseMetadata"]["HTTPStatusCode"] == 206
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


def answer(request):
    """Status, headers and body of a plain HTTP request."""
    opener = urllib.request.build_opener(type("Stay", (urllib.request.HTTPRedirectHandler,), {"redirect_request": lambda *_: None}))
    try:
        with opener.open(request) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def what_is_not_supported_says_so():
    s3 = client(signature_version="s3v4")
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="key", Body=b"x", ACL="private", ServerSideEncryption="AES256")
    put = lambda **named: (s3.put_object, dict(Bucket="data", Key="key", Body=b"y", **named))
    bucket = lambda call, **named: (call, dict(Bucket="data", **named))
    for code, (call, named) in (
        ("AccessControlListNotSupported", put(ACL="public-read")),
        ("AccessControlListNotSupported", put(GrantRead="uri=http://acs.amazonaws.com/groups/global/AllUsers")),
        ("NotImplemented", put(ServerSideEncryption="aws:kms:dsse")),
        ("NotImplemented", put(StorageClass="GLACIER")),
        ("NotImplemented", put(WebsiteRedirectLocation="/other")),
        ("NotImplemented", bucket(s3.put_bucket_website, WebsiteConfiguration={"IndexDocument": {"Suffix": "i"}})),
        ("NotImplemented", bucket(s3.put_bucket_request_payment, RequestPaymentConfiguration={"Payer": "Requester"})),
        ("NotImplemented", bucket(s3.put_bucket_accelerate_configuration, AccelerateConfiguration={"Status": "Enabled"})),
        ("NotImplemented", bucket(s3.put_bucket_logging, BucketLoggingStatus={})),
        ("NotImplemented", bucket(s3.list_bucket_inventory_configurations)),
        ("NotImplemented", (s3.restore_object, dict(Bucket="data", Key="key", RestoreRequest={"Days": 1}))),
        ("NotImplemented", (s3.get_object_torrent, dict(Bucket="data", Key="key"))),
        ("InvalidArgument", (s3.get_object, dict(Bucket="data", Key="key", VersionId="1"))),
        ("NoSuchVersion", (s3.get_object, dict(Bucket="data", Key="key", VersionId="0" * 16))),
    ):
        fails(code, call, **named)
    # Operations whose names are not known arrive as others, and must not be done as such.
    for method, operation, named, more in (
        ("PUT", "put_object", {"Bucket": "data", "Key": "key"}, "renameObject"),
        ("DELETE", "delete_bucket", {"Bucket": "data"}, "metadataConfiguration"),
        ("DELETE", "delete_object", {"Bucket": "data", "Key": "key"}, "annotation=x"),
    ):
        add = lambda request, **_: setattr(request, "url", request.url + ("&" if "?" in request.url else "?") + more)
        s3.meta.events.register_first(f"before-sign.s3.{operation.title().replace('_', '')}", add, unique_id="more")
        url = s3.generate_presigned_url(operation, named)
        s3.meta.events.unregister(f"before-sign.s3.{operation.title().replace('_', '')}", unique_id="more")
        status, _, body = answer(urllib.request.Request(url, data=b"z" if method == "PUT" else None, method=method))
        assert status == 501 and b"NotImplemented" in body, (status, body)
    assert read(s3, "data", "key") == b"x"


def versions_are_kept_listed_and_removed():
    s3 = client()
    s3.create_bucket(Bucket="data")
    first = s3.put_object(Bucket="data", Key="key", Body=b"before")
    assert "VersionId" not in first
    s3.put_bucket_versioning(Bucket="data", VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket="data")["Status"] == "Enabled"
    ids = [s3.put_object(Bucket="data", Key="key", Body=str(n).encode())["VersionId"] for n in range(3)]
    assert len(set(ids)) == 3
    assert read(s3, "data", "key") == b"2" and s3.head_object(Bucket="data", Key="key")["VersionId"] == ids[2]
    assert [read(s3, "data", "key", VersionId=i) for i in ["null", *ids]] == [b"before", b"0", b"1", b"2"]
    marker = s3.delete_object(Bucket="data", Key="key")
    assert marker["DeleteMarker"] is True and marker["VersionId"] not in ids
    gone = fails("NoSuchKey", s3.get_object, Bucket="data", Key="key", status=404)
    assert gone["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"
    named = fails("MethodNotAllowed", s3.get_object, Bucket="data", Key="key", VersionId=marker["VersionId"], status=405)
    assert named["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"
    fails("405", s3.head_object, Bucket="data", Key="key", VersionId=marker["VersionId"])
    assert "Contents" not in s3.list_objects_v2(Bucket="data")
    listed = s3.list_object_versions(Bucket="data")
    assert [(v["VersionId"], v["IsLatest"], v["Size"]) for v in listed["Versions"]] == [(ids[2], False, 1), (ids[1], False, 1), (ids[0], False, 1), ("null", False, 6)]
    assert [(m["VersionId"], m["IsLatest"]) for m in listed["DeleteMarkers"]] == [(marker["VersionId"], True)]
    s3.copy_object(Bucket="data", Key="copy", CopySource={"Bucket": "data", "Key": "key", "VersionId": ids[0]})
    assert read(s3, "data", "copy") == b"0"
    # Every page size gives the same, with prefixes rolled up.
    for key in ("dir/a", "dir/b", "other/c"):
        s3.put_object(Bucket="data", Key=key, Body=b"x")
    for size in (1, 2, 3, 1000):
        pages = list(s3.get_paginator("list_object_versions").paginate(Bucket="data", Delimiter="/", PaginationConfig={"PageSize": size}))
        assert [p["Prefix"] for page in pages for p in page.get("CommonPrefixes", [])] == ["dir/", "other/"], size
        assert [v["VersionId"] for page in pages for v in page.get("Versions", []) if v["Key"] == "key"] == [*reversed(ids), "null"], size
        assert sum(len(page.get("DeleteMarkers", [])) for page in pages) == 1
    assert s3.delete_object(Bucket="data", Key="key", VersionId=marker["VersionId"])["DeleteMarker"] is True
    assert read(s3, "data", "key") == b"2"
    removed = s3.delete_object(Bucket="data", Key="key", VersionId=ids[2])
    assert removed["VersionId"] == ids[2] and "DeleteMarker" not in removed
    assert read(s3, "data", "key") == b"1"
    s3.put_bucket_versioning(Bucket="data", VersioningConfiguration={"Status": "Suspended"})
    assert s3.put_object(Bucket="data", Key="key", Body=b"again")["VersionId"] == "null"
    assert read(s3, "data", "key", VersionId="null") == b"again"
    fails("BucketNotEmpty", s3.delete_bucket, Bucket="data")
    every = s3.list_object_versions(Bucket="data")
    named = [{"Key": v["Key"], "VersionId": v["VersionId"]} for v in every["Versions"] + every.get("DeleteMarkers", [])]
    answer = s3.delete_objects(Bucket="data", Delete={"Objects": named})
    assert {(d["Key"], d["VersionId"]) for d in answer["Deleted"]} == {(n["Key"], n["VersionId"]) for n in named}
    s3.delete_bucket(Bucket="data")
    fails("InvalidArgument", s3.list_object_versions, Bucket="data", VersionIdMarker="null")


def locks_keep_versions_from_everyone():
    s3 = client()
    s3.create_bucket(Bucket="data", ObjectLockEnabledForBucket=True)
    s3.create_bucket(Bucket="open")
    fails("ObjectLockConfigurationNotFoundError", s3.get_object_lock_configuration, Bucket="open", status=404)
    assert s3.get_bucket_versioning(Bucket="data")["Status"] == "Enabled"
    fails("InvalidBucketState", s3.put_bucket_versioning, Bucket="data", VersioningConfiguration={"Status": "Suspended"}, status=409)
    fails("InvalidBucketState", s3.put_object_lock_configuration, Bucket="open", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}, status=409)
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    day = datetime.timedelta(days=1)
    put = lambda **named: s3.put_object(Bucket="data", Key="key", Body=b"kept", **named)["VersionId"]
    compliance = put(ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=now + day)
    governance = put(ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=now + day)
    held = put(ObjectLockLegalHoldStatus="ON")
    shown = s3.head_object(Bucket="data", Key="key", VersionId=compliance)
    assert shown["ObjectLockMode"] == "COMPLIANCE" and shown["ObjectLockRetainUntilDate"] == now + day
    assert s3.get_object(Bucket="data", Key="key", VersionId=held)["ObjectLockLegalHoldStatus"] == "ON"
    remove = lambda version, **named: s3.delete_object(Bucket="data", Key="key", VersionId=version, **named)
    for version in (compliance, governance, held):
        fails("AccessDenied", remove, version, status=403)
    for version in (compliance, held):
        fails("AccessDenied", remove, version, BypassGovernanceRetention=True, status=403)
    errors = s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": "key", "VersionId": compliance}]})["Errors"]
    assert [(e["Code"], e["VersionId"]) for e in errors] == [("AccessDenied", compliance)]
    retain = lambda version, mode, until, **named: s3.put_object_retention(Bucket="data", Key="key", VersionId=version, Retention={"Mode": mode, "RetainUntilDate": until}, **named)
    fails("AccessDenied", retain, compliance, "GOVERNANCE", now + 2 * day, status=403)
    fails("AccessDenied", retain, compliance, "COMPLIANCE", now + day / 2, status=403)
    fails("AccessDenied", retain, compliance, "COMPLIANCE", now + day / 2, BypassGovernanceRetention=True, status=403)
    retain(compliance, "COMPLIANCE", now + 2 * day)
    assert s3.get_object_retention(Bucket="data", Key="key", VersionId=compliance)["Retention"] == {"Mode": "COMPLIANCE", "RetainUntilDate": now + 2 * day}
    fails("AccessDenied", retain, governance, "GOVERNANCE", now + day / 2, status=403)
    retain(governance, "GOVERNANCE", now + day / 2, BypassGovernanceRetention=True)
    remove(governance, BypassGovernanceRetention=True)
    s3.put_object_legal_hold(Bucket="data", Key="key", VersionId=held, LegalHold={"Status": "OFF"})
    assert s3.get_object_legal_hold(Bucket="data", Key="key", VersionId=held)["LegalHold"]["Status"] == "OFF"
    fails("NoSuchObjectLockConfiguration", s3.get_object_retention, Bucket="data", Key="key", VersionId=held, status=404)
    remove(held)
    fails("InvalidArgument", put, ObjectLockMode="GOVERNANCE")
    fails("InvalidArgument", put, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=now - day)
    fails("InvalidRequest", s3.put_object, Bucket="open", Key="key", Body=b"", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=now + day)
    fails("InvalidRequest", s3.get_object_retention, Bucket="open", Key="key")
    s3.delete_object(Bucket="data", Key="key")
    fails("BucketNotEmpty", s3.delete_bucket, Bucket="data")
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}}}
    s3.put_object_lock_configuration(Bucket="data", ObjectLockConfiguration=rule)
    assert s3.get_object_lock_configuration(Bucket="data")["ObjectLockConfiguration"] == rule
    default = s3.put_object(Bucket="data", Key="default", Body=b"x")["VersionId"]
    until = s3.get_object_retention(Bucket="data", Key="default")["Retention"]["RetainUntilDate"]
    assert abs(until - (now + 3 * day)) < datetime.timedelta(minutes=5)
    upload = s3.create_multipart_upload(Bucket="data", Key="parts", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=now + day, Tagging="a=1")["UploadId"]
    part = s3.upload_part(Bucket="data", Key="parts", UploadId=upload, PartNumber=1, Body=b"part")["ETag"]
    whole = s3.complete_multipart_upload(Bucket="data", Key="parts", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
    fails("AccessDenied", s3.delete_object, Bucket="data", Key="parts", VersionId=whole["VersionId"], BypassGovernanceRetention=True)
    assert s3.head_object(Bucket="data", Key="parts")["ObjectLockMode"] == "COMPLIANCE"
    for days in (0, -1, 40_000):
        wrong = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": days}}}
        fails("InvalidArgument", s3.put_object_lock_configuration, Bucket="data", ObjectLockConfiguration=wrong)


def tags_are_set_counted_copied_and_removed():
    s3 = client()
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="key", Body=b"x", Tagging="one=1&two=a%20b")
    tags = lambda key: {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket="data", Key=key)["TagSet"]}
    assert tags("key") == {"one": "1", "two": "a b"}
    assert s3.get_object(Bucket="data", Key="key")["TagCount"] == 2
    assert s3.head_object(Bucket="data", Key="key")["ResponseMetadata"]["HTTPHeaders"]["x-amz-tagging-count"] == "2"
    s3.copy_object(Bucket="data", Key="copy", CopySource="data/key")
    s3.copy_object(Bucket="data", Key="other", CopySource="data/key", TaggingDirective="REPLACE", Tagging="three=3")
    assert tags("copy") == tags("key") and tags("other") == {"three": "3"}
    put = lambda *pairs: s3.put_object_tagging(Bucket="data", Key="key", Tagging={"TagSet": [{"Key": k, "Value": v} for k, v in pairs]})
    put(("four", "<4> & \u00fc"))
    assert tags("key") == {"four": "<4> & \u00fc"}
    s3.delete_object_tagging(Bucket="data", Key="key")
    assert tags("key") == {} and "TagCount" not in s3.get_object(Bucket="data", Key="key")
    fails("InvalidTag", put, *((str(n), "") for n in range(11)))
    fails("InvalidTag", put, ("a", "1"), ("a", "2"))
    fails("InvalidTag", put, ("x" * 129, ""))
    fails("InvalidTag", put, ("aws:x", ""))
    fails("InvalidArgument", s3.put_object, Bucket="data", Key="key", Body=b"", Tagging="a=1&a=2")
    fails("NoSuchKey", s3.get_object_tagging, Bucket="data", Key="none", status=404)


def settings_of_buckets_come_back_as_they_were_given():
    s3 = client()
    s3.create_bucket(Bucket="data")
    on = lambda call, **named: call(Bucket="data", **named)
    # As tools that manage buckets find them.
    for code, call in (
        ("NoSuchCORSConfiguration", s3.get_bucket_cors),
        ("NoSuchLifecycleConfiguration", s3.get_bucket_lifecycle_configuration),
        ("NoSuchBucketPolicy", s3.get_bucket_policy),
        ("NoSuchBucketPolicy", s3.get_bucket_policy_status),
        ("NoSuchTagSet", s3.get_bucket_tagging),
        ("NoSuchWebsiteConfiguration", s3.get_bucket_website),
        ("ReplicationConfigurationNotFoundError", s3.get_bucket_replication),
        ("ObjectLockConfigurationNotFoundError", s3.get_object_lock_configuration),
    ):
        fails(code, on, call, status=404)
    assert "Status" not in on(s3.get_bucket_accelerate_configuration)
    assert "LoggingEnabled" not in on(s3.get_bucket_logging)
    assert on(s3.get_bucket_request_payment)["Payer"] == "BucketOwner"
    assert not {"QueueConfigurations", "TopicConfigurations"} & set(on(s3.get_bucket_notification_configuration))
    acl = on(s3.get_bucket_acl)
    assert acl["Owner"]["ID"] == "a" * 32 and [(g["Grantee"]["ID"], g["Permission"]) for g in acl["Grants"]] == [("a" * 32, "FULL_CONTROL")]
    on(s3.put_bucket_acl, ACL="private")
    on(s3.put_bucket_acl, AccessControlPolicy={"Owner": acl["Owner"], "Grants": acl["Grants"]})
    fails("AccessControlListNotSupported", on, s3.put_bucket_acl, ACL="public-read", status=400)
    stranger = [{"Grantee": {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}, "Permission": "READ"}]
    fails("AccessControlListNotSupported", on, s3.put_bucket_acl, AccessControlPolicy={"Owner": acl["Owner"], "Grants": stranger})
    s3.put_object(Bucket="data", Key="key", Body=b"x")
    assert s3.get_object_acl(Bucket="data", Key="key")["Grants"] == acl["Grants"]
    s3.put_object_acl(Bucket="data", Key="key", ACL="bucket-owner-full-control")
    fails("AccessControlListNotSupported", s3.put_object_acl, Bucket="data", Key="key", ACL="public-read")

    tags = [{"Key": "cost", "Value": "12"}, {"Key": "team", "Value": "a&b"}]
    on(s3.put_bucket_tagging, Tagging={"TagSet": tags})
    assert on(s3.get_bucket_tagging)["TagSet"] == tags
    on(s3.delete_bucket_tagging)
    fails("NoSuchTagSet", on, s3.get_bucket_tagging)

    cors = [{"ID": "one", "AllowedHeaders": ["*"], "AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["https://*.example.org"], "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 30}]
    on(s3.put_bucket_cors, CORSConfiguration={"CORSRules": cors})
    assert on(s3.get_bucket_cors)["CORSRules"] == cors
    fails("InvalidRequest", on, s3.put_bucket_cors, CORSConfiguration={"CORSRules": [{"AllowedMethods": ["PATCH"], "AllowedOrigins": ["*"]}]})
    on(s3.delete_bucket_cors)
    fails("NoSuchCORSConfiguration", on, s3.get_bucket_cors)

    midnight = datetime.datetime(2031, 1, 2, tzinfo=datetime.timezone.utc)
    rules = [
        {"ID": "days", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}},
        {"ID": "date", "Status": "Disabled", "Filter": {"Tag": {"Key": "a", "Value": "1"}}, "Expiration": {"Date": midnight}},
        {"ID": "old", "Status": "Enabled", "Filter": {"And": {"Prefix": "p", "Tags": [{"Key": "b", "Value": "2"}], "ObjectSizeGreaterThan": 10, "ObjectSizeLessThan": 20}}, "NoncurrentVersionExpiration": {"NoncurrentDays": 5, "NewerNoncurrentVersions": 2}},
        {"ID": "uploads", "Status": "Enabled", "Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
        {"ID": "markers", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"ExpiredObjectDeleteMarker": True}},
        {"ID": "bare", "Status": "Enabled", "Prefix": "logs/", "Expiration": {"Days": 1}},
        {"ID": "size", "Status": "Enabled", "Filter": {"ObjectSizeGreaterThan": 100}, "Expiration": {"Days": 9}},
    ]
    on(s3.put_bucket_lifecycle_configuration, LifecycleConfiguration={"Rules": rules})
    assert on(s3.get_bucket_lifecycle_configuration)["Rules"] == rules
    put = s3.put_object(Bucket="data", Key="tmp/x", Body=b"x")
    assert 'rule-id="days"' in put["Expiration"] and s3.head_object(Bucket="data", Key="tmp/x")["Expiration"] == put["Expiration"]
    assert s3.create_multipart_upload(Bucket="data", Key="tmp/y")["AbortRuleId"] == "uploads"
    for code, wrong in (
        ("NotImplemented", {"Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}),
        ("NotImplemented", {"NoncurrentVersionTransitions": [{"NoncurrentDays": 1, "StorageClass": "GLACIER"}]}),
        ("InvalidArgument", {"Expiration": {"Days": -1}}),
        ("InvalidRequest", {"Expiration": {"Days": 0}}),
        ("InvalidRequest", {}),
        ("MalformedXML", {"Expiration": {"Days": 1, "Date": midnight}}),
        ("MalformedXML", {"Expiration": {"Days": 1}, "Status": "On"}),
    ):
        rule = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, **wrong}
        fails(code, on, s3.put_bucket_lifecycle_configuration, LifecycleConfiguration={"Rules": [rule]}, status=501 if code == "NotImplemented" else 400)
    assert on(s3.get_bucket_lifecycle_configuration)["Rules"] == rules
    on(s3.delete_bucket_lifecycle)
    fails("NoSuchLifecycleConfiguration", on, s3.get_bucket_lifecycle_configuration)

    own = f"arn:casemate:kms::{'a' * 32}:key/project"
    encryption = lambda: on(s3.get_bucket_encryption)["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"]
    encrypt = lambda **default: on(s3.put_bucket_encryption, ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": default}]})
    assert encryption() == {"SSEAlgorithm": "AES256"}
    encrypt(SSEAlgorithm="aws:kms")
    assert encryption() == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": own}
    put = s3.put_object(Bucket="data", Key="kms", Body=b"x")
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == ("aws:kms", own)
    assert s3.head_object(Bucket="data", Key="kms")["SSEKMSKeyId"] == own and read(s3, "data", "kms") == b"x"
    assert s3.put_object(Bucket="data", Key="aes", Body=b"x", ServerSideEncryption="AES256")["ServerSideEncryption"] == "AES256"
    fails("KMS.NotFoundException", encrypt, SSEAlgorithm="aws:kms", KMSMasterKeyID="alias/other")
    fails("KMS.NotFoundException", s3.put_object, Bucket="data", Key="kms", Body=b"", ServerSideEncryption="aws:kms", SSEKMSKeyId="other")
    on(s3.delete_bucket_encryption)
    assert encryption() == {"SSEAlgorithm": "AES256"}

    block = {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True}
    assert on(s3.get_public_access_block)["PublicAccessBlockConfiguration"] == block
    block["BlockPublicPolicy"] = False
    on(s3.put_public_access_block, PublicAccessBlockConfiguration=block)
    assert on(s3.get_public_access_block)["PublicAccessBlockConfiguration"] == block
    assert on(s3.get_bucket_ownership_controls)["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    on(s3.put_bucket_ownership_controls, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})
    assert on(s3.get_bucket_ownership_controls)["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "ObjectWriter"}]
    on(s3.delete_bucket_ownership_controls)
    fails("403", on, s3.head_bucket, ExpectedBucketOwner="b" * 32)
    on(s3.head_bucket, ExpectedBucketOwner="a" * 32)


def statement(effect, action, resource, principal="*", **condition):
    made = {"Effect": effect, "Principal": principal, "Action": action, "Resource": f"arn:aws:s3:::{resource}"}
    return {**made, "Condition": {"StringEquals": condition}} if condition else made


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def policies_decide_who_may():
    s3, user, reader = client(), client("user-a"), client("reader-a")
    s3.create_bucket(Bucket="data")
    for key in ("open/x", "closed/x", "tagged/yes", "tagged/no"):
        s3.put_object(Bucket="data", Key=key, Body=key.encode(), Tagging="class=open" if key == "tagged/yes" else "")
    denied = lambda call, **named: fails("AccessDenied", call, Bucket="data", status=403, **named)
    # By the caller's own policy.
    fails("AccessDenied", user.list_buckets, status=403)
    denied(user.get_object, Key="open/x")
    assert read(reader, "data", "open/x") == b"open/x"
    denied(reader.get_object, Key="closed/x")
    assert reader.list_objects_v2(Bucket="data", Prefix="open/")["KeyCount"] == 1
    denied(reader.list_objects_v2)
    denied(reader.list_objects_v2, Prefix="closed/")
    assert read(reader, "data", "tagged/yes") == b"tagged/yes"
    denied(reader.get_object, Key="tagged/no")
    # What is not there is not told to those who may not list.
    denied(reader.get_object, Key="open/none")
    fails("403", reader.head_object, Bucket="data", Key="open/none")
    denied(reader.put_object, Key="open/y", Body=b"")
    reader.put_object(Bucket="data", Key="own/y", Body=b"y")
    denied(reader.put_object, Key="own/y", Body=b"", Tagging="a=b")
    denied(reader.copy_object, Key="own/z", CopySource="data/closed/x")
    reader.copy_object(Bucket="data", Key="own/z", CopySource="data/open/x")
    answer = reader.delete_objects(Bucket="data", Delete={"Objects": [{"Key": "own/z"}, {"Key": "closed/x"}]})
    assert [d["Key"] for d in answer["Deleted"]] == ["own/z"] and [(e["Key"], e["Code"]) for e in answer["Errors"]] == [("closed/x", "AccessDenied")]
    denied(reader.put_object_tagging, Key="own/y", Tagging={"TagSet": []})
    denied(reader.delete_object, Key="own/y", BypassGovernanceRetention=True)
    # By the bucket's.
    for wrong in ("", "{", "[]", '{"Statement": 1}'):
        if wrong:
            fails("MalformedPolicy", s3.put_bucket_policy, Bucket="data", Policy=wrong, status=400)
    arn = {"AWS": f"arn:aws:iam::{'a' * 32}:user/user-a"}
    text = policy(
        statement("Allow", ["s3:GetObject", "s3:GetObjectVersion"], "data/closed/*", arn),
        statement("Deny", "s3:*", "data/open/secret*"),
        statement("Allow", "s3:PutObject", "data/sealed/*", arn, **{"s3:x-amz-server-side-encryption": "aws:kms"}),
        statement("Allow", "s3:PutObjectTagging", "data/sealed/*", arn, **{"s3:RequestObjectTag/class": "good"}),
        statement("Allow", "s3:ListBucket", "data", arn, **{"s3:prefix": "closed/", "s3:delimiter": "/", "s3:max-keys": "2"}),
        statement("Allow", "s3:GetBucketLocation", "data", arn, **{"aws:SourceIp": "127.0.0.1", "aws:SecureTransport": "false"}),
        statement("Allow", "s3:GetBucketTagging", "data", arn, **{"aws:SourceIp": "127.0.0.2"}),
    )
    s3.put_bucket_policy(Bucket="data", Policy=text)
    assert s3.get_bucket_policy(Bucket="data")["Policy"] == text
    assert s3.get_bucket_policy_status(Bucket="data")["PolicyStatus"]["IsPublic"] is False
    assert read(user, "data", "closed/x") == b"closed/x"
    denied(user.get_object, Key="open/x")
    s3.put_object(Bucket="data", Key="open/other", Body=b"")
    denied(s3.put_object, Key="open/secret", Body=b"")
    denied(s3.copy_object, Key="open/secret", CopySource="data/open/x")
    denied(user.put_object, Key="sealed/x", Body=b"")
    user.put_object(Bucket="data", Key="sealed/x", Body=b"", ServerSideEncryption="aws:kms")
    denied(user.put_object, Key="sealed/x", Body=b"", ServerSideEncryption="aws:kms", Tagging="class=bad")
    user.put_object(Bucket="data", Key="sealed/x", Body=b"", ServerSideEncryption="aws:kms", Tagging="class=good")
    user.put_object_tagging(Bucket="data", Key="sealed/x", Tagging={"TagSet": [{"Key": "class", "Value": "good"}]})
    denied(user.put_object_tagging, Key="sealed/x", Tagging={"TagSet": [{"Key": "class", "Value": "bad"}]})
    user.list_objects_v2(Bucket="data", Prefix="closed/", Delimiter="/", MaxKeys=2)
    denied(user.list_objects_v2, Prefix="closed/", Delimiter="/", MaxKeys=3)
    user.get_bucket_location(Bucket="data")
    denied(user.get_bucket_tagging)
    s3.delete_bucket_policy(Bucket="data")
    denied(user.get_object, Key="closed/x")


def callers_without_a_key_get_what_a_policy_opens():
    s3 = client()
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="open/x", Body=b"open")
    s3.put_object(Bucket="data", Key="closed", Body=b"closed")
    own = "a" * 32 + ":data"

    def anonymous(method, path, status, body=None, **headers):
        found, named, text = answer(urllib.request.Request(f"http://127.0.0.1:{PUBLIC}/{path}", data=body, method=method, headers=headers))
        assert found == status, (path, found, text)
        return named, text

    public = policy(statement("Allow", "s3:GetObject", "data/open/*"), statement("Allow", "s3:PutObject", "data/inbox/*"))
    fails("AccessDenied", s3.put_bucket_policy, Bucket="data", Policy=public, status=403)
    s3.put_public_access_block(Bucket="data", PublicAccessBlockConfiguration={"BlockPublicPolicy": False, "RestrictPublicBuckets": True})
    s3.put_bucket_policy(Bucket="data", Policy=public)
    assert s3.get_bucket_policy_status(Bucket="data")["PolicyStatus"]["IsPublic"] is True
    anonymous("GET", f"{own}/open/x", 403)
    s3.put_public_access_block(Bucket="data", PublicAccessBlockConfiguration={"RestrictPublicBuckets": False})
    _, text = anonymous("GET", f"{own}/open/x", 200)
    assert text == b"open"
    anonymous("HEAD", f"{own}/open/x", 200)
    _, text = anonymous("GET", f"{own}/open/x?response-content-type=text%2Fhtml", 400)
    assert b"<Code>InvalidRequest</Code>" in text, text
    anonymous("GET", f"{'a' * 32}%3Adata/open/x", 200)
    anonymous("PUT", f"{own}/inbox/x", 200, b"sent")
    assert read(s3, "data", "inbox/x") == b"sent"
    # What is not theirs all looks the same.
    refusals = [
        anonymous("GET", path, 403)[1]
        for path in (f"{own}/closed", f"{own}/none", f"{own}/open/none", f"{own}?list-type=2", own, f"{'a' * 32}:none/x", f"{'b' * 32}:data/open/x", "data/open/x", "", f"{own}?policy")
    ]
    assert all(b"<Code>AccessDenied</Code>" in text and text == refusals[0] for text in refusals), refusals
    anonymous("DELETE", f"{own}/open/x", 403)
    anonymous("PUT", f"{own}/open/x", 403, b"forged")
    anonymous("PUT", f"{own}/inbox/y", 403, b"tagged", **{"x-amz-tagging": "a=b"})
    anonymous("PUT", f"{own}/inbox/y", 403, None, **{"x-amz-copy-source": "data/closed"})
    anonymous("POST", f"{own}?delete", 403, b"<Delete><Object><Key>open/x</Key></Object></Delete>")
    assert read(s3, "data", "open/x") == b"open"
    # One with a key names its own project's buckets so too, and no other's.
    for name, status in ((own, 200), ("b" * 32 + ":data", 403)):
        signer = S3SigV4QueryAuth(Credentials("project-a", "secret of project-a"), "s3", "GRA", expires=60)
        request = AWSRequest("GET", f"http://127.0.0.1:{PUBLIC}/{name}/closed")
        signer.add_auth(request)
        assert answer(urllib.request.Request(request.url))[0] == status, name


def temporary_keys_are_sent_with_their_token():
    s3 = client()
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="key", Body=b"x")

    def with_token(key, token, **config):
        config = {"s3": {"addressing_style": "path"}, "retries": {"max_attempts": 1}, **config}
        return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{PUBLIC}", region_name="GRA", aws_access_key_id=key, aws_secret_access_key=f"secret of {key}", aws_session_token=token, config=Config(**config))

    good = with_token("temporary-a", "token of temporary-a", signature_version="s3v4")
    assert read(good, "data", "key") == b"x"
    status, _, body = answer(urllib.request.Request(good.generate_presigned_url("get_object", {"Bucket": "data", "Key": "key"})))
    assert (status, body) == (200, b"x")
    for key, token in (("temporary-a", None), ("temporary-a", "token of temporary-b"), ("project-a", "token of temporary-a")):
        fails("InvalidToken", with_token(key, token).get_object, Bucket="data", Key="key", status=400)
    wrong = with_token("temporary-a", "wrong", signature_version="s3v4")
    assert b"InvalidToken" in answer(urllib.request.Request(wrong.generate_presigned_url("get_object", {"Bucket": "data", "Key": "key"})))[2]


def presigned_urls_carry_headers_and_obey_no_others():
    s3 = client(signature_version="s3v4")
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="secret", Body=b"secret")
    send = lambda url, **headers: answer(urllib.request.Request(url, data=b"body", method="PUT", headers=headers))
    plain = s3.generate_presigned_url("put_object", {"Bucket": "data", "Key": "key"})
    # Else an upload could be turned into a copy of what its holder may not read.
    for headers in ({"x-amz-copy-source": "data/secret"}, {"x-amz-tagging": "a=b"}, {"x-amz-acl": "private"}):
        status, _, body = send(plain, **headers)
        assert status == 403 and b"not signed" in body, (status, body)
    assert send(plain, **{"content-type": "text/plain"})[0] == 200
    # As SDKs of Go and JavaScript make them: headers in the query.
    request = AWSRequest("PUT", f"http://127.0.0.1:{PUBLIC}/data/tagged?x-amz-tagging=a%3Db&X-Amz-Meta-Own=mine&x-id=PutObject")
    S3SigV4QueryAuth(Credentials("project-a", "secret of project-a"), "s3", "GRA", expires=60).add_auth(request)
    assert send(request.url)[0] == 200
    assert s3.get_object_tagging(Bucket="data", Key="tagged")["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert s3.head_object(Bucket="data", Key="tagged")["Metadata"] == {"own": "mine"}
    for expires, status in ((604800, 200), (604801, 400), (0, 400), (-5, 400)):
        request = AWSRequest("GET", f"http://127.0.0.1:{PUBLIC}/data/key")
        S3SigV4QueryAuth(Credentials("project-a", "secret of project-a"), "s3", "GRA", expires=expires).add_auth(request)
        assert answer(urllib.request.Request(request.url))[0] == status, expires
    for operation, method in (("head_object", "HEAD"), ("delete_object", "DELETE")):
        url = s3.generate_presigned_url(operation, {"Bucket": "data", "Key": "key"})
        assert answer(urllib.request.Request(url, method=method))[0] in (200, 204), operation


def form(url, fields, file, filename="C:\\dir\\photo.png", name="file"):
    boundary = "----formboundary"
    head = "".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: image/png\r\n\r\n'
    body = head.encode() + file + f"\r\n--{boundary}--\r\n".encode()
    return answer(urllib.request.Request(url, data=body, headers={"content-type": f"multipart/form-data; boundary={boundary}"}))


def forms_of_browsers_upload_what_their_policy_allows():
    s3 = client(signature_version="s3v4")
    s3.create_bucket(Bucket="data")
    sign = lambda key, fields={}, conditions=(), **named: s3.generate_presigned_post("data", key, Fields=dict(fields), Conditions=list(conditions), **named)

    def sent(post, file=b"body", change={}, **named):
        return form(post["url"], {**post["fields"], **change}, file, **named)

    def refused(code, status, post, *rest, **named):
        found, _, body = sent(post, *rest, **named)
        assert found == status and f"<Code>{code}</Code>".encode() in body, (found, body)

    status, headers, _ = sent(sign("plain"))
    assert status == 204 and headers["ETag"] == f'"{hashlib.md5(b"body").hexdigest()}"' and headers["Location"] == "/data/plain"
    assert read(s3, "data", "plain") == b"body"
    big = data(20 * MIB)
    assert sent(sign("big"), big)[0] == 204
    assert read(s3, "data", "big") == big
    fields = {"Content-Type": "text/plain", "x-amz-meta-own": "mine", "tagging": "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>", "success_action_status": "201"}
    conditions = [["starts-with", "$Content-Type", "text/"], {"x-amz-meta-own": "mine"}, ["starts-with", "$tagging", ""], {"success_action_status": "201"}]
    status, _, body = sent(sign("user/${filename}", fields, conditions))
    assert status == 201 and b"<Key>user/photo.png</Key>" in body and b"<Bucket>data</Bucket>" in body, body
    got = s3.get_object(Bucket="data", Key="user/photo.png")
    assert (got["ContentType"], got["Metadata"], got["TagCount"]) == ("text/plain", {"own": "mine"}, 1)
    for page, status in (("https://example.org/done?x=1", 303), ("javascript:alert(1)", 204), ("//example.org", 204)):
        fields = {"success_action_redirect": page}
        found, headers, _ = sent(sign("redirected", fields, [fields]))
        assert found == status, (page, found)
        if status == 303:
            assert headers["Location"].startswith("https://example.org/done?x=1&bucket=data&key=redirected&etag="), headers["Location"]
    refused("AccessDenied", 403, sign("plain"), change={"key": "other"})
    refused("AccessDenied", 403, sign("plain"), change={"x-amz-meta-more": "1"})
    refused("AccessDenied", 403, sign("plain"), change={"x-amz-server-side-encryption": "AES256"})
    refused("AccessDenied", 403, sign("text", {"Content-Type": "image/png"}, [["starts-with", "$Content-Type", "text/"]]))
    refused("SignatureDoesNotMatch", 403, sign("plain"), change={"x-amz-signature": "0" * 64})
    refused("EntityTooLarge", 400, sign("sized", conditions=[["content-length-range", 2, 3]]), b"body")
    refused("EntityTooSmall", 400, sign("sized", conditions=[["content-length-range", 2, 3]]), b"b")
    assert sent(sign("sized", conditions=[["content-length-range", 2, 3]]), b"bod")[0] == 204
    short = sign("late", ExpiresIn=1)
    time.sleep(1.5)
    refused("AccessDenied", 403, short)
    unknown = sign("plain")
    refused("InvalidAccessKeyId", 403, unknown, change={"x-amz-credential": unknown["fields"]["x-amz-credential"].replace("project-a", "somebody")})
    refused("InvalidPolicyDocument", 400, signed_form("data", {"key": "k"}, "bm90IGpzb24="))
    refused("IncorrectNumberOfFilesInPostRequest", 400, sign("plain"), name="other")
    refused("MaxPostPreDataLengthExceededError", 400, sign("plain"), change={"x-ignore-much": "x" * 30_000})
    without_key = sign("plain")
    del without_key["fields"]["key"]
    refused("InvalidArgument", 400, without_key)
    refused("AccessDenied", 403, {"url": f"http://127.0.0.1:{PUBLIC}/data", "fields": {"key": "anonymous"}})
    url = f"http://127.0.0.1:{PUBLIC}/data"
    for kind, body in (("multipart/form-data", b"x"), ("multipart/form-data; boundary=b", b"no form"), ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ncut')):
        status, _, text = answer(urllib.request.Request(url, data=body, headers={"content-type": kind}))
        assert status in (400, 403), (kind, status, text)
    # A form that ends within the file leaves nothing.
    post = sign("cut")
    head = "".join(f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in post["fields"].items())
    body = (head + '--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nhalf').encode()
    status, _, text = answer(urllib.request.Request(post["url"], data=body, headers={"content-type": "multipart/form-data; boundary=b"}))
    assert status == 400 and b"IncompleteBody" in text, (status, text)
    fails("404", s3.head_object, Bucket="data", Key="cut")
    # Whom a policy lets without a key.
    s3.put_public_access_block(Bucket="data", PublicAccessBlockConfiguration={})
    s3.put_bucket_policy(Bucket="data", Policy=policy(statement("Allow", "s3:PutObject", "data/inbox/*")))
    own = f"http://127.0.0.1:{PUBLIC}/{'a' * 32}:data"
    assert form(own, {"key": "inbox/${filename}"}, b"sent")[0] == 204
    assert read(s3, "data", "inbox/photo.png") == b"sent"
    assert form(own, {"key": "elsewhere"}, b"sent")[0] == 403


def signed_form(bucket, fields, text):
    """A form whose policy is any text, with a signature that is right."""
    now = datetime.datetime.now(datetime.timezone.utc)
    date, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    key = b"AWS4secret of project-a"
    for part in (day, "GRA", "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    fields = {**fields, "policy": text, "x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-date": date, "x-amz-credential": f"project-a/{day}/GRA/s3/aws4_request", "x-amz-signature": signature}
    return {"url": f"http://127.0.0.1:{PUBLIC}/{bucket}", "fields": fields}


def pages_of_other_origins_are_let_by_rules():
    s3 = client(signature_version="s3v4")
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="key", Body=b"x")
    own, origin = f"http://127.0.0.1:{PUBLIC}/{'a' * 32}:data/key", "https://app.example.org"
    signed = s3.generate_presigned_url("get_object", {"Bucket": "data", "Key": "key"})

    def asked(url, status, origin=origin, method="PUT", names="content-type"):
        headers = {"origin": origin, "access-control-request-method": method, "access-control-request-headers": names}
        found, named, body = answer(urllib.request.Request(url, method="OPTIONS", headers=headers))
        assert found == status, (url, found, body)
        return named

    for url in (own, signed, f"http://127.0.0.1:{PUBLIC}/data/key"):
        asked(url, 403)
    rule = {"AllowedHeaders": ["content-*"], "AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["https://*.example.org"], "ExposeHeaders": ["ETag", "x-amz-version-id"], "MaxAgeSeconds": 60}
    s3.put_bucket_cors(Bucket="data", CORSConfiguration={"CORSRules": [rule]})
    # The project is known by the bucket's full name, or by the key that signs; else rules of the bucket's name are asked.
    for url in (own, signed, f"http://127.0.0.1:{PUBLIC}/data/key", f"http://127.0.0.1:{PUBLIC}/data"):
        headers = asked(url, 200)
        assert headers["access-control-allow-origin"] == origin and headers["access-control-max-age"] == "60"
        assert headers["access-control-allow-headers"] == "content-type" and "PUT" in headers["access-control-allow-methods"]
        asked(url, 403, origin="https://example.com")
        asked(url, 403, method="DELETE")
        asked(url, 403, names="authorization")
        asked(url, 400, method="BREW")
    asked(f"http://127.0.0.1:{PUBLIC}/{'b' * 32}:data/key", 403)
    asked(f"http://127.0.0.1:{PUBLIC}/other/key", 403)
    assert answer(urllib.request.Request(own, method="OPTIONS"))[0] == 400
    get = lambda **headers: answer(urllib.request.Request(signed, headers=headers))
    status, headers, body = get(origin=origin)
    assert (status, body, headers["access-control-allow-origin"]) == (200, b"x", origin)
    assert headers["access-control-expose-headers"] == "ETag, x-amz-version-id" and "Origin" in headers["vary"]
    status, headers, _ = get(origin="https://example.com")
    assert status == 200 and "access-control-allow-origin" not in headers
    assert "access-control-allow-origin" not in get()[1]
    # A refusal can be read by the page too.
    missing = s3.generate_presigned_url("get_object", {"Bucket": "data", "Key": "none"})
    status, headers, _ = answer(urllib.request.Request(missing, headers={"origin": origin}))
    assert status == 404 and headers["access-control-allow-origin"] == origin


def customers_keys_open_what_they_sealed():
    s3 = client()
    s3.create_bucket(Bucket="data")
    key, other = (dict(SSECustomerAlgorithm="AES256", SSECustomerKey=bytes([n]) * 32) for n in (1, 2))
    from_key = {f"CopySource{name}": value for name, value in key.items()}
    body = data(3 * MIB)
    put = s3.put_object(Bucket="data", Key="key", Body=body, **key)
    assert put["SSECustomerAlgorithm"] == "AES256" and put["SSECustomerKeyMD5"] == base64.b64encode(hashlib.md5(bytes([1]) * 32).digest()).decode()
    assert "ServerSideEncryption" not in put and put["ETag"] != f'"{hashlib.md5(body).hexdigest()}"'
    assert read(s3, "data", "key", **key) == body and read(s3, "data", "key", Range="bytes=70000-70009", **key) == body[70000:70010]
    assert s3.head_object(Bucket="data", Key="key", **key)["SSECustomerAlgorithm"] == "AES256"
    fails("InvalidRequest", s3.get_object, Bucket="data", Key="key", status=400)
    fails("400", s3.head_object, Bucket="data", Key="key")
    fails("AccessDenied", s3.get_object, Bucket="data", Key="key", **other, status=403)
    s3.put_object(Bucket="data", Key="plain", Body=b"plain")
    fails("InvalidRequest", s3.get_object, Bucket="data", Key="plain", **key, status=400)
    fails("InvalidRequest", s3.copy_object, Bucket="data", Key="copy", CopySource="data/key")
    s3.copy_object(Bucket="data", Key="copy", CopySource="data/key", **from_key)
    assert read(s3, "data", "copy") == body
    s3.copy_object(Bucket="data", Key="key", CopySource="data/key", **from_key, **other)
    assert read(s3, "data", "key", **other) == body
    fails("AccessDenied", s3.get_object, Bucket="data", Key="key", **key)
    upload = s3.create_multipart_upload(Bucket="data", Key="parts", **key)["UploadId"]
    part = lambda number, body, **named: {"PartNumber": number, "ETag": s3.upload_part(Bucket="data", Key="parts", UploadId=upload, PartNumber=number, Body=body, **named)["ETag"]}
    fails("InvalidRequest", part, 1, b"x")
    fails("AccessDenied", part, 1, b"x", **other)
    parts = [part(1, data(5 * MIB), **key), part(2, b"end", **key)]
    copied = s3.upload_part_copy(Bucket="data", Key="parts", UploadId=upload, PartNumber=3, CopySource="data/plain", **key)
    parts.append({"PartNumber": 3, "ETag": copied["CopyPartResult"]["ETag"]})
    # Parts but the last have a least size.
    fails("EntityTooSmall", s3.complete_multipart_upload, Bucket="data", Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    s3.complete_multipart_upload(Bucket="data", Key="parts", UploadId=upload, MultipartUpload={"Parts": [parts[0], parts[2]]})
    assert read(s3, "data", "parts", **key) == data(5 * MIB) + b"plain"
    assert read(s3, "data", "parts", Range=f"bytes={5 * MIB - 2}-{5 * MIB + 1}", **key) == data(5 * MIB)[-2:] + b"pl"
    fails("InvalidRequest", s3.get_object, Bucket="data", Key="parts")
    fails("InvalidArgument", s3.put_object, Bucket="data", Key="both", Body=b"", ServerSideEncryption="AES256", **key)
    fails("InvalidEncryptionAlgorithmError", s3.put_object, Bucket="data", Key="x", Body=b"", SSECustomerAlgorithm="DES", SSECustomerKey=bytes(32))
    fails("InvalidArgument", s3.put_object, Bucket="data", Key="x", Body=b"", SSECustomerAlgorithm="AES256", SSECustomerKey=b"short")
    fails("InvalidArgument", s3.put_object, Bucket="data", Key="x", Body=b"", SSECustomerAlgorithm="AES256", SSECustomerKey=base64.b64encode(bytes(32)).decode(), SSECustomerKeyMD5=base64.b64encode(bytes(16)).decode())


def attributes_name_parts_and_versions():
    s3 = client()
    s3.create_bucket(Bucket="data")
    s3.put_bucket_versioning(Bucket="data", VersioningConfiguration={"Status": "Enabled"})
    upload = s3.create_multipart_upload(Bucket="data", Key="key", ChecksumAlgorithm="SHA256")["UploadId"]
    parts = []
    for number, size in ((2, 5 * MIB), (5, 5 * MIB), (9, 3)):
        made = s3.upload_part(Bucket="data", Key="key", UploadId=upload, PartNumber=number, Body=bytes(size), ChecksumAlgorithm="SHA256")
        parts.append({"PartNumber": number, "ETag": made["ETag"], "ChecksumSHA256": made["ChecksumSHA256"]})
    whole = s3.complete_multipart_upload(Bucket="data", Key="key", UploadId=upload, MultipartUpload={"Parts": parts})
    every = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    got = s3.get_object_attributes(Bucket="data", Key="key", ObjectAttributes=every)
    assert got["VersionId"] == whole["VersionId"] and got["ObjectSize"] == 10 * MIB + 3 and got["StorageClass"] == "STANDARD"
    listed = got["ObjectParts"]
    assert listed["TotalPartsCount"] == 3 and [(p["PartNumber"], p["Size"], p["ChecksumSHA256"]) for p in listed["Parts"]] == [(p["PartNumber"], size, p["ChecksumSHA256"]) for p, size in zip(parts, (5 * MIB, 5 * MIB, 3))]
    page = s3.get_object_attributes(Bucket="data", Key="key", ObjectAttributes=["ObjectParts"], MaxParts=1, PartNumberMarker=2)["ObjectParts"]
    assert [p["PartNumber"] for p in page["Parts"]] == [5] and page["IsTruncated"] and page["NextPartNumberMarker"] == 5
    assert "ETag" not in s3.get_object_attributes(Bucket="data", Key="key", ObjectAttributes=["ObjectSize"])
    fails("InvalidArgument", s3.get_object_attributes, Bucket="data", Key="key", ObjectAttributes=["Colour"])
    for number, size in ((1, 5 * MIB), (3, 3)):
        part = s3.get_object(Bucket="data", Key="key", PartNumber=number)
        assert part["ContentLength"] == size and part["PartsCount"] == 3 and part["ResponseMetadata"]["HTTPStatusCode"] == 206
    fails("InvalidPartNumber", s3.get_object, Bucket="data", Key="key", PartNumber=4, status=416)
    shown = s3.get_object(Bucket="data", Key="key", ResponseContentType="text/x", ResponseCacheControl="no-store", ResponseContentDisposition="inline", ResponseContentLanguage="de", ResponseContentEncoding="identity", ResponseExpires=datetime.datetime(2031, 1, 1))
    assert (shown["ContentType"], shown["CacheControl"], shown["ContentDisposition"], shown["ContentLanguage"], shown["ContentEncoding"]) == ("text/x", "no-store", "inline", "de", "identity")


def signed_call(method, path, body=b"", **headers):
    """Status and body of a request that is signed as it is."""
    request = AWSRequest(method, f"http://127.0.0.1:{PUBLIC}/{path}", data=body, headers=headers)
    S3SigV4Auth(Credentials("project-a", "secret of project-a"), "s3", "GRA").add_auth(request)
    return answer(urllib.request.Request(request.url, data=body or None, method=method, headers=dict(request.headers)))[0::2]


def malformed_requests_are_refused_with_their_code():
    s3 = client(signature_version="s3v4")
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="key", Body=b"0123456789")
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><Tagging><TagSet><Tag><Key>&b;</Key><Value>1</Value></Tag></TagSet></Tagging>'
    delete = b"<Delete><Object><Key>key</Key></Object></Delete>"
    md5 = lambda body: {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}
    crc = lambda body: {"x-amz-checksum-crc32": base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()}
    for code, status, method, path, body, headers in (
        ("MalformedXML", 400, "PUT", "data?tagging", bomb, {}),
        ("MalformedXML", 400, "PUT", "data?tagging", b"<a>" * 100_000, {}),
        ("MalformedXML", 400, "PUT", "data?tagging", b"<Tagging><TagSet>", {}),
        ("MalformedXML", 400, "PUT", "data?versioning", b"<VersioningConfiguration><Status>Maybe</Status></VersioningConfiguration>", {}),
        ("MalformedXML", 400, "PUT", "data?cors", b"<CORSConfiguration/>", {}),
        ("MalformedXML", 400, "PUT", "data?publicAccessBlock", b"<PublicAccessBlockConfiguration><BlockPublicAcls>maybe</BlockPublicAcls></PublicAccessBlockConfiguration>", {}),
        ("MalformedXML", 400, "PUT", "data/key?tagging", b"<Tagging><TagSet><Tag><Value>1</Value></Tag></TagSet></Tagging>", {}),
        ("MalformedXML", 400, "POST", "data?delete", b"<Delete><Object>", {}),
        ("MalformedPolicy", 400, "PUT", "data?policy", b"{", {}),
        ("BadDigest", 400, "POST", "data?delete", delete, md5(b"other")),
        ("BadDigest", 400, "POST", "data?delete", delete, crc(b"other")),
        ("InvalidDigest", 400, "POST", "data?delete", delete, {"content-md5": "short"}),
        ("UserKeyMustBeSpecified", 200, "POST", "data?delete", b"<Delete><Object><Key></Key></Object></Delete>", {}),
        ("InvalidArgument", 400, "PUT", "data/key?versionId=null", b"x", {}),
        ("InvalidArgument", 400, "GET", "data/key?versionId=", b"", {}),
        ("InvalidArgument", 400, "GET", "data/key?partNumber=0", b"", {}),
        ("InvalidArgument", 400, "GET", "data?max-keys=-1", b"", {}),
        ("InvalidArgument", 400, "PUT", "data/key?partNumber=10001&uploadId=0", b"", {}),
        ("NoSuchUpload", 404, "GET", "data/key?uploadId=zz", b"", {}),
        ("NotImplemented", 501, "GET", "data?location&acl", b"", {}),
        ("NotImplemented", 501, "PATCH", "data/key", b"", {}),
        ("InvalidBucketName", 400, "GET", "da/key", b"", {}),
    ):
        found, text = signed_call(method, path, body, **headers)
        assert found == status and f"<Code>{code}</Code>".encode() in text, (method, path, found, text)
    assert read(s3, "data", "key") == b"0123456789"
    url = s3.generate_presigned_url("get_object", {"Bucket": "data", "Key": "key"})
    get = lambda **headers: answer(urllib.request.Request(url, headers=headers))[0::2]
    # What is not a range of one part is as if it were not there, as RFC 9110 has it.
    for text in ("bytes=0-1,3-4", "bytes=a-b", "items=0-1", "bytes=5-2", "nonsense"):
        assert get(range=text) == (200, b"0123456789"), text
    assert get(range="bytes=-3") == (206, b"789") and get(range="bytes=10-")[0] == 416 and get(range="bytes=-0")[0] == 416
    assert get(**{"if-modified-since": "yesterday"})[0] == 200
    for good in (md5, crc):
        s3.put_object(Bucket="data", Key="key", Body=b"x")
        assert signed_call("POST", "data?delete", delete, **good(delete))[0] == 200
        fails("NoSuchKey", s3.get_object, Bucket="data", Key="key")


def conditions_on_the_target_of_a_copy_hold():
    s3 = client()
    s3.create_bucket(Bucket="data")
    etag = s3.put_object(Bucket="data", Key="key", Body=b"x")["ETag"]
    copy = lambda key, **named: s3.copy_object(Bucket="data", Key=key, CopySource="data/key", **named)
    copy("new", IfNoneMatch="*")
    fails("PreconditionFailed", copy, "new", IfNoneMatch="*", status=412)
    copy("new", IfMatch=etag)
    fails("PreconditionFailed", copy, "new", IfMatch='"other"', status=412)
    fails("NoSuchKey", copy, "none", IfMatch=etag, status=404)
    fails("PreconditionFailed", copy, "x", CopySourceIfMatch='"other"', status=412)
    fails("PreconditionFailed", copy, "x", CopySourceIfNoneMatch=etag, status=412)
    fails("InvalidRequest", copy, "key")
    copy("key", MetadataDirective="REPLACE", Metadata={"a": "1"})
    fails("PreconditionFailed", s3.delete_object, Bucket="data", Key="key", IfMatch='"other"', status=412)
    fails("NoSuchKey", s3.delete_object, Bucket="data", Key="none", IfMatch=etag, status=404)
    s3.delete_object(Bucket="data", Key="key", IfMatch=etag)
    # A delete marker counts as nothing.
    s3.put_bucket_versioning(Bucket="data", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket="data", Key="marked", Body=b"x")
    fails("PreconditionFailed", s3.put_object, Bucket="data", Key="marked", Body=b"y", IfNoneMatch="*")
    s3.delete_object(Bucket="data", Key="marked")
    s3.put_object(Bucket="data", Key="marked", Body=b"y", IfNoneMatch="*")


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


KINDS = [
    ("GET", "/", {}),
    ("PUT", "/other", {}),
    ("HEAD", "/data", {}),
    ("GET", "/data?location=", {}),
    ("GET", "/data?list-type=2", {}),
    ("PUT", "/data/key", {}),
    ("GET", "/data/key", {}),
    ("PUT", "/data/copy", {"x-amz-copy-source": "data/key"}),
    ("DELETE", "/data/copy", {}),
    ("POST", "/data/large?uploads=", {}),
]


def refusals(key="project-a", region="GRA"):
    """Calls of each kind, by header, by URL and by form, that are signed for a region: those that are refused, and how."""
    credentials = Credentials(key, f"secret of {key}")
    found = {}
    for method, path, headers in KINDS:
        for signer in [S3SigV4Auth(credentials, "s3", region), S3SigV4QueryAuth(credentials, "s3", region)]:
            request = AWSRequest(method, f"http://127.0.0.1:{PUBLIC}{path}", headers=headers)
            signer.add_auth(request)
            request = request.prepare()
            status, headers_of, body = answer(
                urllib.request.Request(request.url, headers=dict(request.headers), method=method, data=b"" if method in ["PUT", "POST"] else None)
            )
            if status >= 300:
                code = body.decode().partition("<Code>")[2].partition("</Code>")[0]
                found[method, path, type(signer).__name__] = (status, code, headers_of.get("x-amz-bucket-region"))
    post = client(key, region=region, signature_version="s3v4").generate_presigned_post("data", "posted")
    status, headers_of, body = form(post["url"], post["fields"], b"x")
    if status >= 300:
        code = body.decode().partition("<Code>")[2].partition("</Code>")[0]
        found["form"] = (status, code, headers_of.get("x-amz-bucket-region"))
    return found


def all_refused(found, status, code, right):
    assert len(found) == 2 * len(KINDS) + 1, found
    for call, told in found.items():
        assert told == (status, "" if call[0] == "HEAD" else code, right), (call, told)


def a_call_that_is_signed_for_another_region_is_refused_and_names_the_right_one():
    ours = client()
    ours.create_bucket(Bucket="data")
    ours.put_object(Bucket="data", Key="key", Body=b"ours")
    for region in ["GRA", "gra"]:
        again = {told for call, told in refusals(region=region).items() if call[1] != "/other"}
        assert not again, again
    for region in ["SBG", "us-east-1", "eu-west-1"]:
        all_refused(refusals(region=region), 400, "AuthorizationHeaderMalformed", "GRA")
        # Clients that follow, go on with the right one.
        assert read(client(region=region), "data", "key") == b""
    # Project b is in SBG.
    all_refused(refusals("project-b"), 400, "AuthorizationHeaderMalformed", "SBG")
    theirs = client("project-b", region="SBG")
    theirs.create_bucket(Bucket="data", CreateBucketConfiguration={"LocationConstraint": "sbg"})
    assert theirs.get_bucket_location(Bucket="data")["LocationConstraint"] == "SBG"
    assert theirs.head_bucket(Bucket="data")["BucketRegion"] == "SBG"
    assert theirs.list_buckets()["Buckets"][0]["BucketRegion"] == "SBG"


def a_bucket_is_made_in_the_region_of_its_project_or_not_at_all():
    s3 = client()
    for place in ["SBG", "us-west-2", "EU", "nowhere at all"]:
        answer = fails(
            "IllegalLocationConstraintException",
            s3.create_bucket,
            Bucket="data",
            CreateBucketConfiguration={"LocationConstraint": place},
            status=400,
        )
        assert "GRA" in answer["Error"]["Message"], answer
    assert s3.list_buckets()["Buckets"] == []


def a_project_of_a_region_that_is_not_served_is_sent_on():
    for region in ["BHS", "GRA"]:
        all_refused(refusals("project-b", region), 301, "PermanentRedirect", "BHS")
    request = urllib.request.Request(f"http://127.0.0.1:{PUBLIC}/v1/AUTH_{'b' * 32}", headers={"X-Auth-Token": "token-of-user-b"})
    assert answer(request)[0] == 301


globals()[sys.argv[1]]()
