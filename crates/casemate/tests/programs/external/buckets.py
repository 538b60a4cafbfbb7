"""A bucket that lives in another S3 service, by boto3 and python-swiftclient, and that service seen by its own key. Each
public function is one law; the arguments name those that are run, in their order."""

import hashlib
import os
import sys
import urllib.request

import boto3
import ovh
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from swiftclient import Connection

REGION, PROJECT = os.environ["REGION"], os.environ["PROJECT"]
MIB = 1 << 20
THERE_PREFIX = f"{os.environ['THERE_PREFIX']}{PROJECT[:16]}-"


def client(url, access, secret, region, **config):
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, **config),
    )


S3 = client(os.environ["S3"], os.environ["ACCESS_KEY"], os.environ["SECRET_KEY"], REGION)
THERE = client(
    os.environ["THERE"],
    os.environ["THERE_ACCESS_KEY"],
    os.environ["THERE_SECRET_KEY"],
    "us-east-1",
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as fault:
        assert fault.response["Error"]["Code"] == code, fault.response
        return fault.response
    raise AssertionError(f"no {code}")


def put(key, body, bucket="far", **more):
    return S3.put_object(Bucket=bucket, Key=key, Body=body, **more)


def get(key, bucket="far", **more):
    return S3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()


def keys(bucket="far", **more):
    pages = S3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **more)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def raw(key, bucket="far"):
    got = THERE.get_object(Bucket=THERE_PREFIX + bucket, Key=key)
    return got["Body"].read(), got["Metadata"]


def replace(key, body, metadata, bucket="far"):
    THERE.put_object(Bucket=THERE_PREFIX + bucket, Key=key, Body=body, Metadata=metadata)


def buckets():
    S3.create_bucket(Bucket="far")
    refused("BucketAlreadyOwnedByYou", S3.create_bucket, Bucket="far")
    S3.head_bucket(Bucket="far")
    names = [bucket["Name"] for bucket in THERE.list_buckets()["Buckets"]]
    assert names == [THERE_PREFIX + "far"], names
    # One from before the configuration named the service is still here.
    assert {"far", "near"} <= {bucket["Name"] for bucket in S3.list_buckets()["Buckets"]}


def objects():
    body = os.urandom(200_000)
    made = put("a/b c/d+é%25&x=1#?.bin", body, ContentType="text/x-test", CacheControl="max-age=9", Metadata={"who": "boto"})
    got = S3.get_object(Bucket="far", Key="a/b c/d+é%25&x=1#?.bin")
    assert got["Body"].read() == body and got["ETag"] == made["ETag"], got
    head = S3.head_object(Bucket="far", Key="a/b c/d+é%25&x=1#?.bin")
    for answer in (got, head):
        assert answer["ContentLength"] == 200_000 and answer["ContentType"] == "text/x-test", answer
        assert answer["CacheControl"] == "max-age=9" and answer["Metadata"] == {"who": "boto"}, answer
    for size in (0, 1, 65_535, 65_536, 65_537, 131_072):
        body = os.urandom(size)
        put(f"size/{size}", body)
        assert get(f"size/{size}") == body, size
        assert S3.head_object(Bucket="far", Key=f"size/{size}")["ContentLength"] == size
    sizes = {item["Key"]: item["Size"] for item in S3.list_objects_v2(Bucket="far", Prefix="size/")["Contents"]}
    assert sizes == {f"size/{size}": size for size in (0, 1, 65_535, 65_536, 65_537, 131_072)}, sizes
    refused("NoSuchKey", S3.get_object, Bucket="far", Key="absent")
    refused("404", S3.head_object, Bucket="far", Key="absent")
    refused("BadDigest", S3.put_object, Bucket="far", Key="torn", Body=b"abc", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    refused("404", S3.head_object, Bucket="far", Key="torn")
    put("size/1", b"another")
    assert get("size/1") == b"another"
    # Names that would be lost, or mean something else.
    for name in ("casemate-key", "casemate-expires", "casemate-x"):
        refused("InvalidRequest", S3.put_object, Bucket="far", Key="named", Body=b"x", Metadata={name: "1"})
    refused("404", S3.head_object, Bucket="far", Key="named")


def large():
    """More than goes there in one request."""
    body = os.urandom(80 * MIB + 7)
    put("large", body)
    digest = hashlib.sha256()
    for chunk in S3.get_object(Bucket="far", Key="large")["Body"].iter_chunks(MIB):
        digest.update(chunk)
    assert digest.digest() == hashlib.sha256(body).digest()
    for first, last in [(0, 0), (64 * MIB - 3, 64 * MIB + 3), (80 * MIB, 80 * MIB + 6)]:
        assert get("large", Range=f"bytes={first}-{last}") == body[first : last + 1], (first, last)
    assert THERE.head_object(Bucket=THERE_PREFIX + "far", Key="large")["ContentLength"] > len(body)


def ranges():
    body = os.urandom(300_000)
    put("ranges", body)
    for asked, expected in [
        ("bytes=0-0", body[:1]),
        ("bytes=65535-65536", body[65535:65537]),
        ("bytes=65536-131071", body[65536:131072]),
        ("bytes=100000-250000", body[100000:250001]),
        ("bytes=131072-", body[131072:]),
        ("bytes=-10", body[-10:]),
        ("bytes=-999999", body),
        ("bytes=299990-999999", body[299990:]),
    ]:
        got = S3.get_object(Bucket="far", Key="ranges", Range=asked)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206 and got["Body"].read() == expected, asked
    refused("InvalidRange", S3.get_object, Bucket="far", Key="ranges", Range="bytes=300000-")


def parts():
    pieces = [os.urandom(5 * MIB), os.urandom(6 * MIB + 1), os.urandom(77)]
    begun = S3.create_multipart_upload(Bucket="far", Key="parts", ContentType="text/x-parts", Metadata={"in": "parts"})
    upload = {"Bucket": "far", "Key": "parts", "UploadId": begun["UploadId"]}
    sent = [{"PartNumber": at, "ETag": S3.upload_part(**upload, PartNumber=at, Body=piece)["ETag"]} for at, piece in enumerate(pieces, 1)]
    assert [part["Size"] for part in S3.list_parts(**upload)["Parts"]] == [len(piece) for piece in pieces]
    refused("404", S3.head_object, Bucket="far", Key="parts")
    refused("InvalidPart", S3.complete_multipart_upload, **upload, MultipartUpload={"Parts": [sent[0], {"PartNumber": 2, "ETag": sent[0]["ETag"]}]})
    made = S3.complete_multipart_upload(**upload, MultipartUpload={"Parts": sent})
    got = S3.get_object(Bucket="far", Key="parts")
    assert got["Body"].read() == b"".join(pieces) and got["ETag"] == made["ETag"], (got, made)
    # One that did not see the answer asks again, whatever its condition was.
    for condition in ({}, {"IfNoneMatch": "*"}):
        again = S3.complete_multipart_upload(**upload, MultipartUpload={"Parts": sent}, **condition)
        assert again["ETag"] == made["ETag"] == S3.head_object(Bucket="far", Key="parts")["ETag"], (again, made)
    assert got["ContentType"] == "text/x-parts" and got["Metadata"] == {"in": "parts"}, got
    assert get("parts", Range=f"bytes={5 * MIB - 2}-{5 * MIB + 1}") == pieces[0][-2:] + pieces[1][:2]
    assert "Uploads" not in S3.list_multipart_uploads(Bucket="far")
    # By another upload, or when it was replaced, it is not there to be completed.
    refused("NoSuchUpload", S3.complete_multipart_upload, **{**upload, "UploadId": "0" * 32}, MultipartUpload={"Parts": sent})
    S3.copy_object(Bucket="far", Key="parts-copied", CopySource={"Bucket": "far", "Key": "parts"})
    refused("NoSuchUpload", S3.complete_multipart_upload, **{**upload, "Key": "parts-copied"}, MultipartUpload={"Parts": sent})
    put("parts", b"another")
    refused("NoSuchUpload", S3.complete_multipart_upload, **upload, MultipartUpload={"Parts": sent})
    assert get("parts") == b"another"
    given_up = S3.create_multipart_upload(Bucket="far", Key="given-up")["UploadId"]
    S3.upload_part(Bucket="far", Key="given-up", UploadId=given_up, PartNumber=1, Body=b"x")
    S3.abort_multipart_upload(Bucket="far", Key="given-up", UploadId=given_up)
    refused("404", S3.head_object, Bucket="far", Key="given-up")


def lists():
    made = sorted(f"list/{number % 5}/{number:02}" for number in range(25)) + ["list/plain"]
    for key in made:
        put(key, b"x")
    assert keys(Prefix="list/", PaginationConfig={"PageSize": 7}) == made
    old = S3.get_paginator("list_objects").paginate(Bucket="far", Prefix="list/", PaginationConfig={"PageSize": 7})
    assert [item["Key"] for page in old for item in page["Contents"]] == made
    page = S3.list_objects_v2(Bucket="far", Prefix="list/", Delimiter="/")
    assert [item["Prefix"] for item in page["CommonPrefixes"]] == [f"list/{number}/" for number in range(5)], page
    assert [item["Key"] for item in page["Contents"]] == ["list/plain"], page
    rolled = S3.get_paginator("list_objects_v2").paginate(Bucket="far", Prefix="list/", Delimiter="/", PaginationConfig={"PageSize": 2})
    rolled = list(rolled)
    assert [item["Prefix"] for page in rolled for item in page.get("CommonPrefixes", [])] == [f"list/{number}/" for number in range(5)], rolled
    assert [item["Key"] for page in rolled for item in page.get("Contents", [])] == ["list/plain"], rolled
    after = S3.list_objects_v2(Bucket="far", Prefix="list/", StartAfter="list/3/03")
    assert [item["Key"] for item in after["Contents"]] == [key for key in made if key > "list/3/03"]
    removed = S3.delete_objects(Bucket="far", Delete={"Objects": [{"Key": key} for key in [*made, "absent"]]})
    assert len(removed["Deleted"]) == 27 and "Errors" not in removed, removed
    assert keys(Prefix="list/") == []
    refused("NoSuchKey", S3.get_object, Bucket="far", Key="list/plain")
    S3.delete_object(Bucket="far", Key="absent")


def copies():
    body = os.urandom(6 * MIB)
    put("source", body, Metadata={"kept": "yes"})
    S3.copy_object(Bucket="far", Key="copy", CopySource={"Bucket": "far", "Key": "source"})
    got = S3.get_object(Bucket="far", Key="copy")
    assert got["Body"].read() == body and got["Metadata"] == {"kept": "yes"}, got
    S3.copy_object(Bucket="far", Key="source", CopySource={"Bucket": "far", "Key": "source"}, MetadataDirective="REPLACE", Metadata={"new": "1"})
    got = S3.get_object(Bucket="far", Key="source")
    assert got["Body"].read() == body and got["Metadata"] == {"new": "1"}, got
    # Between there and here, whole and in parts.
    for of, to in [("far", "near"), ("near", "far")]:
        S3.copy_object(Bucket=to, Key=f"from-{of}", CopySource={"Bucket": of, "Key": "source"})
        assert get(f"from-{of}", to) == body
        upload = {"Bucket": to, "Key": f"parts-from-{of}"}
        upload["UploadId"] = S3.create_multipart_upload(**upload)["UploadId"]
        source = {"Bucket": of, "Key": "source"}
        first = S3.upload_part_copy(**upload, PartNumber=1, CopySource=source)
        second = S3.upload_part_copy(**upload, PartNumber=2, CopySource=source, CopySourceRange="bytes=65530-70000")
        sent = [{"PartNumber": at, "ETag": part["CopyPartResult"]["ETag"]} for at, part in [(1, first), (2, second)]]
        S3.complete_multipart_upload(**upload, MultipartUpload={"Parts": sent})
        assert get(f"parts-from-{of}", to) == body + body[65530:70001]
        if of == "far":
            put("source", body, to)


def conditions():
    first = put("once", b"1", IfNoneMatch="*")["ETag"]
    refused("PreconditionFailed", S3.put_object, Bucket="far", Key="once", Body=b"2", IfNoneMatch="*")
    second = put("once", b"2", IfMatch=first)["ETag"]
    assert second != first
    refused("PreconditionFailed", S3.put_object, Bucket="far", Key="once", Body=b"3", IfMatch=first)
    refused("NoSuchKey", S3.put_object, Bucket="far", Key="never", Body=b"3", IfMatch=first)
    refused("304", S3.get_object, Bucket="far", Key="once", IfNoneMatch=second)
    refused("PreconditionFailed", S3.get_object, Bucket="far", Key="once", IfMatch=first)
    assert get("once", IfMatch=second) == b"2"


def signed():
    url = S3.generate_presigned_url("put_object", {"Bucket": "far", "Key": "signed/ü +"})
    with urllib.request.urlopen(urllib.request.Request(url, data=b"by a URL", method="PUT", headers={"content-type": ""})) as answer:
        assert answer.status == 200
    url = S3.generate_presigned_url("get_object", {"Bucket": "far", "Key": "signed/ü +"})
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"by a URL"


def not_there():
    """What such a bucket does not have says so."""
    refused("NotImplemented", S3.put_bucket_versioning, Bucket="far", VersioningConfiguration={"Status": "Enabled"})
    refused("NotImplemented", S3.put_object, Bucket="far", Key="tagged", Body=b"x", Tagging="a=b")
    refused("NotImplemented", S3.put_object, Bucket="far", Key="own-key", Body=b"x", SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32)
    refused("NotImplemented", S3.create_multipart_upload, Bucket="far", Key="tagged", Tagging="a=b")
    refused("NotImplemented", S3.create_multipart_upload, Bucket="far", Key="own-key", SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32)
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    refused("NotImplemented", S3.put_bucket_lifecycle_configuration, Bucket="far", LifecycleConfiguration={"Rules": [rule]})
    for key in ("tagged", "own-key"):
        refused("404", S3.head_object, Bucket="far", Key=key)


def api():
    ovh.client.ENDPOINTS["casemate"] = os.environ["ENDPOINT"]
    return ovh.Client(endpoint="casemate", **{name: os.environ[name.upper()] for name in ("application_key", "application_secret", "consumer_key")})


def swift_connection():
    user = api().post(f"/cloud/project/{PROJECT}/user", role="objectstore_operator")
    options = {"user_domain_name": "Default", "region_name": REGION, "project_id": PROJECT}
    return Connection(authurl=f"{os.environ['S3']}/v3", user=user["username"], key=user["password"], auth_version="3", os_options=options, retries=0)


def counted():
    """What each route says that the buckets hold; nothing where it cannot be known."""
    shown, buckets, containers = api(), f"/cloud/project/{PROJECT}/region/{REGION}/storage", f"/cloud/project/{PROJECT}/storage"
    listed = {bucket["name"]: bucket for bucket in shown.get(buckets)}
    old = {bucket["name"]: bucket for bucket in shown.get(containers)}
    return {name: (listed[name]["objectsCount"], listed[name]["objectsSize"], old[name]["storedObjects"], old[name]["storedBytes"]) for name in listed}


def sizes():
    """More than a page of a list."""
    S3.create_bucket(Bucket="sizes")
    for number in range(1003):
        put(f"key/{number}", b"x" * (number % 3), "sizes")
    upload = S3.create_multipart_upload(Bucket="sizes", Key="unfinished")["UploadId"]
    S3.upload_part(Bucket="sizes", Key="unfinished", UploadId=upload, PartNumber=1, Body=b"not counted")
    held = (1003, sum(number % 3 for number in range(1003)))
    assert counted()["sizes"] == held + held, counted()
    connection = swift_connection()
    head = connection.head_container("sizes")
    assert (head["x-container-object-count"], head["x-container-bytes-used"]) == tuple(map(str, held)), head
    account, containers = connection.get_account()
    assert {(item["name"], item["count"], item["bytes"]) for item in containers} >= {("sizes", *held)}, containers
    assert account["x-account-object-count"] == str(sum(item["count"] for item in containers)), account
    assert account["x-account-bytes-used"] == str(sum(item["bytes"] for item in containers)), account


def swift():
    connection = swift_connection()
    body = os.urandom(100_000)
    connection.put_object("far", "swift/one", body, content_type="text/x-swift")
    headers, got = connection.get_object("far", "swift/one")
    assert got == body and headers["content-type"] == "text/x-swift", headers
    assert get("swift/one") == body
    put("swift/two", b"22")
    listed = connection.get_container("far", prefix="swift/")[1]
    assert [(item["name"], item["bytes"]) for item in listed] == [("swift/one", 100_000), ("swift/two", 2)], listed
    assert connection.head_object("far", "swift/two")["content-length"] == "2"
    connection.delete_object("far", "swift/one")
    refused("NoSuchKey", S3.get_object, Bucket="far", Key="swift/one")


def end():
    refused("BucketNotEmpty", S3.delete_bucket, Bucket="far")
    left = keys()
    assert len(left) > 10, left
    S3.delete_objects(Bucket="far", Delete={"Objects": [{"Key": key} for key in left]})
    S3.delete_bucket(Bucket="far")
    refused("404", S3.head_bucket, Bucket="far")
    assert THERE.list_buckets()["Buckets"] == []


def unreadable():
    S3.create_bucket(Bucket="far")
    word = b"a word that nobody else may read "
    put("secret", word * 5000)
    lying, metadata = raw("secret")
    assert len(lying) > 5000 * len(word) and not any(word[at : at + 8] in lying for at in range(len(word) - 8))
    assert word.strip() not in repr(metadata).encode()
    # The same data under another key of the bucket is other bytes.
    put("again", word * 5000)
    assert raw("again")[0][:64] != lying[:64]


def is_never_data(key, good, **more):
    """An error, before or while the data comes, which then is the beginning of what was written at most."""
    try:
        body = S3.get_object(Bucket="far", Key=key, **more)["Body"]
    except ClientError as fault:
        assert fault.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 500), fault.response
        return "refused"
    got = b""
    try:
        for chunk in body.iter_chunks(4096):
            got += chunk
    except HTTPClientError:
        assert good.startswith(got) and len(got) < len(good)
        return "cut"
    raise AssertionError(f"{key} was read whole, {len(got)} bytes, {'as it was' if got == good else 'as something else'}")


def changed():
    body = os.urandom(300_000)
    put("whole", body)
    lying, metadata = raw("whole")
    for at in (0, 40_000, 65_536, 65_551, 200_000, len(lying) - 1):
        flipped = bytearray(lying)
        flipped[at] ^= 1
        replace("whole", bytes(flipped), metadata)
        how = is_never_data("whole", body)
        assert how == ("refused" if at < 65_552 else "cut"), (at, how)
    # A range beside what was changed is good.
    assert get("whole", Range="bytes=0-100") == body[:101]
    assert is_never_data("whole", body[-10:], Range="bytes=-10") == "refused"
    # Cut at the end of a segment, and anywhere; something appended; nothing at all; an empty object of no key.
    for other in (lying[: 2 * 65_552], lying[:100_000], lying + b"x" * 65_552, lying[:16], os.urandom(16), b""):
        replace("whole", other, metadata)
        is_never_data("whole", body)
    # Segments that changed places.
    replace("whole", lying[65_552 : 2 * 65_552] + lying[:65_552] + lying[2 * 65_552 :], metadata)
    is_never_data("whole", body)
    replace("whole", lying, metadata)
    assert get("whole") == body


def exchanged():
    one, two = os.urandom(70_000), os.urandom(70_000)
    put("one", one)
    put("two", two)
    (lying_one, metadata_one), (lying_two, metadata_two) = raw("one"), raw("two")
    replace("one", lying_two, metadata_two)
    replace("two", lying_one, metadata_one)
    assert is_never_data("one", one) == "refused" and is_never_data("two", two) == "refused"
    # The right metadata with the other's bytes.
    replace("one", lying_two, metadata_one)
    assert is_never_data("one", one) == "refused"
    # The same key of another bucket.
    S3.create_bucket(Bucket="other")
    put("one", b"x", "other")
    replace("one", lying_one, metadata_one, "other")
    refused("InternalError", S3.get_object, Bucket="other", Key="one")
    replace("one", lying_one, metadata_one)
    assert get("one") == one


def foreign():
    replace("foreign", b"put by somebody else", {})
    words = refused("InvalidRequest", S3.get_object, Bucket="far", Key="foreign")["Error"]["Message"]
    assert "not written by this service" in words, words
    replace("foreign", os.urandom(100), {"casemate-key": "bm90IGEga2V5"})
    refused("InternalError", S3.get_object, Bucket="far", Key="foreign")
    refused("InternalError", S3.copy_object, Bucket="far", Key="copy", CopySource={"Bucket": "far", "Key": "foreign"})
    # It is in the way of nobody.
    put("foreign", b"ours")
    assert get("foreign") == b"ours"
    replace("foreign", b"again", {})
    upload = {"Bucket": "far", "Key": "foreign"}
    upload["UploadId"] = S3.create_multipart_upload(**upload)["UploadId"]
    part = S3.upload_part(**upload, PartNumber=1, Body=b"in parts")["ETag"]
    S3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
    assert get("foreign") == b"in parts"
    replace("foreign", b"again", {})
    S3.delete_object(Bucket="far", Key="foreign")
    refused("NoSuchKey", S3.get_object, Bucket="far", Key="foreign")


def survivor():
    S3.create_bucket(Bucket="far")
    put("survivor", b"it was here before")


def works():
    assert get("survivor") == b"it was here before"
    put("later", b"1")
    assert get("later") == b"1" and keys() == ["later", "survivor"]
    S3.delete_object(Bucket="far", Key="later")


def fails():
    """Each call says that it is the other service, and no secret; buckets that live here go on."""
    begun = S3.create_multipart_upload(Bucket="far", Key="parts")["UploadId"]
    upload = {"Bucket": "far", "Key": "parts", "UploadId": begun}
    part = S3.upload_part(**upload, PartNumber=1, Body=b"kept here")["ETag"]
    complete = {**upload, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part}]}}
    for call, arguments in [
        (S3.get_object, {"Bucket": "far", "Key": "survivor"}),
        (S3.put_object, {"Bucket": "far", "Key": "new", "Body": b"x" * 100_000}),
        (S3.delete_object, {"Bucket": "far", "Key": "survivor"}),
        (S3.list_objects_v2, {"Bucket": "far"}),
        (S3.copy_object, {"Bucket": "near", "Key": "copy", "CopySource": {"Bucket": "far", "Key": "survivor"}}),
        (S3.create_bucket, {"Bucket": "new-one"}),
        (S3.complete_multipart_upload, complete),
    ]:
        answer = refused("ServiceUnavailable", call, **arguments)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503, answer
        words = answer["Error"]["Message"]
        assert words.startswith("the external object store failed: "), words
        assert not any(secret in str(answer) for secret in (os.environ["THERE_ACCESS_KEY"], os.environ["THERE_SECRET_KEY"], "Signature=", "http://")), answer
    many = S3.delete_objects(Bucket="far", Delete={"Objects": [{"Key": "survivor"}]})
    assert many.get("Deleted", []) == [] and len(many["Errors"]) == 1, many
    refused("503", S3.head_object, Bucket="far", Key="survivor")
    put("here", b"still", "near")
    assert get("here", "near") == b"still" and "here" in keys("near")
    held = counted()
    near = (len(keys("near")), sum(item["Size"] for item in S3.list_objects_v2(Bucket="near")["Contents"]))
    assert held["far"] == (None, None, None, None) and held["near"] == near + near, held
    account, containers = swift_connection().get_account()
    assert "x-account-object-count" not in account and "x-account-bytes-used" not in account, account
    assert ["count" in item for item in containers] == [item["name"] == "near" for item in containers], containers
    # What was uploaded is there to be completed later.
    assert len(S3.list_parts(**upload)["Parts"]) == 1
    S3.abort_multipart_upload(**upload)


def main():
    for name in sys.argv[1:]:
        globals()[name]()
        print("held:", name, flush=True)
    print("all of it holds")


if __name__ == "__main__":
    main()
