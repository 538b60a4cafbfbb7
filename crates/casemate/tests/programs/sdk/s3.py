"""boto3, unmodified, on the object store: what applications do with S3."""
import hashlib
import io
import os
import socket
import urllib.error
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

MIB = 1024 * 1024


def client(**changes):
    settings = {
        "endpoint_url": os.environ["S3"],
        "region_name": os.environ["REGION"],
        "aws_access_key_id": os.environ["ACCESS_KEY"],
        "aws_secret_access_key": os.environ["SECRET_KEY"],
    }
    config = changes.pop("config", {})
    settings.update(changes)
    return boto3.client("s3", config=Config(retries={"max_attempts": 1}, **config), **settings)


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as fault:
        assert fault.response["Error"]["Code"] == code, fault.response
        return fault.response
    raise AssertionError(f"no {code}")


def http(method, url, data=None):
    request = urllib.request.Request(url, data=data, method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def buckets(s3):
    s3.create_bucket(Bucket="boto")
    assert "boto" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    s3.head_bucket(Bucket="boto")
    refused("404", s3.head_bucket, Bucket="none-such")
    refused("NoSuchBucket", s3.list_objects_v2, Bucket="none-such")


def objects(s3):
    body = bytes(range(256)) * 1024
    put = s3.put_object(Bucket="boto", Key="a/b c/d+é.bin", Body=body, ContentType="application/x-test", Metadata={"who": "boto"})
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"', put
    got = s3.get_object(Bucket="boto", Key="a/b c/d+é.bin")
    assert got["Body"].read() == body
    assert got["ContentType"] == "application/x-test" and got["Metadata"] == {"who": "boto"}, got
    head = s3.head_object(Bucket="boto", Key="a/b c/d+é.bin")
    assert head["ContentLength"] == len(body) and head["ETag"] == put["ETag"]
    s3.put_object(Bucket="boto", Key="empty", Body=b"")
    assert s3.get_object(Bucket="boto", Key="empty")["Body"].read() == b""
    refused("NoSuchKey", s3.get_object, Bucket="boto", Key="absent")
    refused("404", s3.head_object, Bucket="boto", Key="absent")
    # A body that is not what the client said that it is must not be stored.
    refused("BadDigest", s3.put_object, Bucket="boto", Key="torn", Body=b"abc", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    refused("404", s3.head_object, Bucket="boto", Key="torn")


def ranges(s3):
    body = os.urandom(300_000)
    s3.put_object(Bucket="boto", Key="ranges", Body=body)
    # Borders of the 64 KiB segments that the store encrypts by.
    for asked, expected in [
        ("bytes=0-0", body[:1]),
        ("bytes=65535-65536", body[65535:65537]),
        ("bytes=131072-", body[131072:]),
        ("bytes=-10", body[-10:]),
        ("bytes=299990-999999", body[299990:]),
    ]:
        got = s3.get_object(Bucket="boto", Key="ranges", Range=asked)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206 and got["Body"].read() == expected, asked
    refused("InvalidRange", s3.get_object, Bucket="boto", Key="ranges", Range="bytes=300000-")


def conditions(s3):
    first = s3.put_object(Bucket="boto", Key="once", Body=b"1", IfNoneMatch="*")["ETag"]
    refused("PreconditionFailed", s3.put_object, Bucket="boto", Key="once", Body=b"2", IfNoneMatch="*")
    second = s3.put_object(Bucket="boto", Key="once", Body=b"2", IfMatch=first)["ETag"]
    refused("PreconditionFailed", s3.put_object, Bucket="boto", Key="once", Body=b"3", IfMatch=first)
    refused("304", s3.get_object, Bucket="boto", Key="once", IfNoneMatch=second)
    refused("PreconditionFailed", s3.get_object, Bucket="boto", Key="once", IfMatch=first)
    assert s3.get_object(Bucket="boto", Key="once", IfMatch=second)["Body"].read() == b"2"


def listing(s3):
    for number in range(25):
        s3.put_object(Bucket="boto", Key=f"list/{number % 5}/{number:02}", Body=b"x")
    keys = [item["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket="boto", Prefix="list/", PaginationConfig={"PageSize": 7}) for item in page["Contents"]]
    assert len(keys) == 25 and keys == sorted(keys), keys
    old = [item["Key"] for page in s3.get_paginator("list_objects").paginate(Bucket="boto", Prefix="list/", PaginationConfig={"PageSize": 7}) for item in page["Contents"]]
    assert old == keys
    page = s3.list_objects_v2(Bucket="boto", Prefix="list/", Delimiter="/")
    assert [item["Prefix"] for item in page["CommonPrefixes"]] == [f"list/{number}/" for number in range(5)], page
    assert "Contents" not in page
    removed = s3.delete_objects(Bucket="boto", Delete={"Objects": [{"Key": key} for key in [*keys, "absent"]]})
    assert len(removed["Deleted"]) == 26 and "Errors" not in removed, removed
    assert s3.list_objects_v2(Bucket="boto", Prefix="list/")["KeyCount"] == 0


def multipart(s3):
    body = os.urandom(17 * MIB + 123)
    transfer = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=3)
    s3.upload_fileobj(io.BytesIO(body), "boto", "large", Config=transfer)
    head = s3.head_object(Bucket="boto", Key="large")
    assert head["ContentLength"] == len(body) and head["ETag"].endswith('-3"'), head
    got = io.BytesIO()
    s3.download_fileobj("boto", "large", got, Config=transfer)
    assert got.getvalue() == body
    assert s3.get_object(Bucket="boto", Key="large", Range=f"bytes={8 * MIB - 3}-{8 * MIB + 2}")["Body"].read() == body[8 * MIB - 3 : 8 * MIB + 3]
    upload = s3.create_multipart_upload(Bucket="boto", Key="parts")["UploadId"]
    part = s3.upload_part(Bucket="boto", Key="parts", UploadId=upload, PartNumber=1, Body=b"p" * 5 * MIB)["ETag"]
    copied = s3.upload_part_copy(Bucket="boto", Key="parts", UploadId=upload, PartNumber=2, CopySource="boto/large", CopySourceRange="bytes=0-99")
    assert [item["PartNumber"] for item in s3.list_parts(Bucket="boto", Key="parts", UploadId=upload)["Parts"]] == [1, 2]
    parts = [{"PartNumber": 1, "ETag": part}, {"PartNumber": 2, "ETag": copied["CopyPartResult"]["ETag"]}]
    s3.complete_multipart_upload(Bucket="boto", Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket="boto", Key="parts")["Body"].read() == b"p" * 5 * MIB + body[:100]
    upload = s3.create_multipart_upload(Bucket="boto", Key="given-up")["UploadId"]
    s3.upload_part(Bucket="boto", Key="given-up", UploadId=upload, PartNumber=1, Body=b"x")
    assert [item["Key"] for item in s3.list_multipart_uploads(Bucket="boto")["Uploads"]] == ["given-up"]
    s3.abort_multipart_upload(Bucket="boto", Key="given-up", UploadId=upload)
    refused("NoSuchUpload", s3.upload_part, Bucket="boto", Key="given-up", UploadId=upload, PartNumber=1, Body=b"x")
    refused("404", s3.head_object, Bucket="boto", Key="given-up")


def copies(s3):
    s3.copy_object(Bucket="boto", Key="copy", CopySource={"Bucket": "boto", "Key": "a/b c/d+é.bin"})
    assert s3.get_object(Bucket="boto", Key="copy")["Metadata"] == {"who": "boto"}
    s3.copy_object(Bucket="boto", Key="copy", CopySource="boto/copy", MetadataDirective="REPLACE", Metadata={"who": "new"})
    assert s3.head_object(Bucket="boto", Key="copy")["Metadata"] == {"who": "new"}
    refused("NoSuchKey", s3.copy_object, Bucket="boto", Key="copy", CopySource="boto/absent")


def presigned(s3):
    put = s3.generate_presigned_url("put_object", {"Bucket": "boto", "Key": "signed url"}, ExpiresIn=60)
    http("PUT", put, b"by a URL")
    get = s3.generate_presigned_url("get_object", {"Bucket": "boto", "Key": "signed url"}, ExpiresIn=60)
    assert http("GET", get) == b"by a URL"
    at = get.index("X-Amz-Signature=") + len("X-Amz-Signature=")
    forged = f"{get[:at]}{'1' if get[at] == '0' else '0'}{get[at + 1 :]}"
    for wrong in [forged, f"{os.environ['S3']}/boto/signed%20url"]:
        try:
            http("GET", wrong)
        except urllib.error.HTTPError as fault:
            assert fault.code == 403, fault
        else:
            raise AssertionError("a URL without a right signature gave the object")


def checksums(s3):
    # The client computes the other algorithms only with an extension of its own; the store's own tests have them.
    for algorithm in ["CRC32", "SHA1", "SHA256"]:
        put = s3.put_object(Bucket="boto", Key=f"sum-{algorithm}", Body=b"summed", ChecksumAlgorithm=algorithm)
        assert put[f"Checksum{algorithm}"], put
        got = s3.get_object(Bucket="boto", Key=f"sum-{algorithm}", ChecksumMode="ENABLED")
        assert got[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"] and got["Body"].read() == b"summed"
    refused("BadDigest", s3.put_object, Bucket="boto", Key="sum", Body=b"summed", ChecksumSHA256="47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")


def strangers():
    refused("InvalidAccessKeyId", client(aws_access_key_id="AKIAUNKNOWN").list_buckets)
    refused("SignatureDoesNotMatch", client(aws_secret_access_key="wrong").list_buckets)


def name_on_loopback():
    """Every name below `localhost` is this machine (RFC 6761); not every resolver knows."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **named):
        return resolve("127.0.0.1" if host.endswith(".localhost") else host, *arguments, **named)

    socket.getaddrinfo = getaddrinfo


def main():
    s3 = client(config={"s3": {"addressing_style": "path"}})
    for law in [buckets, objects, ranges, conditions, listing, multipart, copies, presigned, checksums]:
        law(s3)
    strangers()
    name_on_loopback()
    virtual = client(config={"s3": {"addressing_style": "virtual"}}, endpoint_url=os.environ["S3_NAMED"])
    assert virtual.get_object(Bucket="boto", Key="once")["Body"].read() == b"2", "virtual-host style"
    refused("BucketNotEmpty", s3.delete_bucket, Bucket="boto")
    for item in s3.list_objects_v2(Bucket="boto")["Contents"]:
        s3.delete_object(Bucket="boto", Key=item["Key"])
    s3.delete_bucket(Bucket="boto")
    refused("404", s3.head_bucket, Bucket="boto")
    print("boto3 did everything")


main()
