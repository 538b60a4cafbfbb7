"""Buckets that tell of their changes. Each public function is what one test does."""

import json
import sys
import urllib.request
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

PUBLIC = int(sys.argv[2])
QUEUE, TOPIC = "arn:casemate:sqs:::", "arn:casemate:sns:::"
s3 = boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{PUBLIC}",
    region_name="GRA",
    aws_access_key_id="project-a",
    aws_secret_access_key="secret of project-a",
    config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
)


def queue(name="hook", events=("s3:ObjectCreated:*",), **rules):
    filters = [{"Name": name, "Value": value} for name, value in rules.items()]
    given = {"QueueArn": QUEUE + name, "Events": list(events)}
    return {**given, "Filter": {"Key": {"FilterRules": filters}}} if filters else given


def tell(bucket, **configuration):
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)


def told(bucket):
    found = s3.get_bucket_notification_configuration(Bucket=bucket)
    del found["ResponseMetadata"]
    return found


def everything():
    s3.create_bucket(Bucket="told")
    s3.put_object(Bucket="told", Key="in/before.txt", Body=b"content")
    events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
    tell("told", QueueConfigurations=[{**queue(events=events, prefix="in/", suffix=".txt"), "Id": "all"}])
    s3.put_object(Bucket="told", Key="in/a b.txt", Body=b"content")
    # Not of the filter.
    s3.put_object(Bucket="told", Key="out/a.txt", Body=b"content")
    s3.put_object(Bucket="told", Key="in/a.bin", Body=b"content")
    # Not made.
    try:
        s3.put_object(Bucket="told", Key="in/a b.txt", Body=b"content", IfNoneMatch="*")
        raise AssertionError("a write that its condition forbids")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "PreconditionFailed", error
    s3.copy_object(Bucket="told", Key="in/copy.txt", CopySource={"Bucket": "told", "Key": "in/a b.txt"})
    upload = s3.create_multipart_upload(Bucket="told", Key="in/parts.txt")["UploadId"]
    parts = []
    for number, body in enumerate([bytes(5 << 20), b"last"], 1):
        tag = s3.upload_part(Bucket="told", Key="in/parts.txt", UploadId=upload, PartNumber=number, Body=body)["ETag"]
        parts.append({"PartNumber": number, "ETag": tag})
    for _ in range(2):
        # Done again it answers the same, and is no other event.
        s3.complete_multipart_upload(
            Bucket="told", Key="in/parts.txt", UploadId=upload, MultipartUpload={"Parts": parts}
        )
    form = s3.generate_presigned_post("told", "in/form.txt")
    border = uuid.uuid4().hex
    fields = [*form["fields"].items(), ("file", "form")]
    body = "".join(f'--{border}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields)
    kind = {"Content-Type": f"multipart/form-data; boundary={border}"}
    request = urllib.request.Request(form["url"], f"{body}--{border}--\r\n".encode(), kind)
    assert urllib.request.urlopen(request).status in (200, 204)
    s3.delete_object(Bucket="told", Key="in/a b.txt")
    # There is none of it any more.
    s3.delete_object(Bucket="told", Key="in/a b.txt")
    s3.delete_objects(Bucket="told", Delete={"Objects": [{"Key": "in/copy.txt"}, {"Key": "in/none.txt"}]})

    s3.create_bucket(Bucket="versions")
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    topic = {"TopicArn": TOPIC + "hook", "Events": events, "Id": "of versions"}
    tell("versions", TopicConfigurations=[topic])
    version = s3.put_object(Bucket="versions", Key="key", Body=b"1")["VersionId"]
    marker = s3.delete_object(Bucket="versions", Key="key")["VersionId"]
    s3.delete_object(Bucket="versions", Key="key", VersionId=marker)
    s3.delete_object(Bucket="versions", Key="key", VersionId=version)
    # Taken away.
    tell("versions")
    assert told("versions") == {}
    s3.put_object(Bucket="versions", Key="key", Body=b"2")


def configurations():
    s3.create_bucket(Bucket="data")
    assert told("data") == {}

    def refused(code, message="", **configuration):
        try:
            tell("data", **configuration)
        except ClientError as error:
            found = error.response["Error"]
            assert found["Code"] == code and message in found["Message"], error
            assert told("data") == {}
            return
        raise AssertionError(f"was not refused: {json.dumps(configuration)}")

    def queues(*list_of):
        return {"QueueConfigurations": list(list_of)}

    unknown = "Unable to validate the following destination configurations"
    refused("InvalidArgument", unknown, **queues(queue("nobody")))
    for arn in ["arn:aws:sqs:GRA:1:hook", QUEUE, TOPIC + "hook", "hook"]:
        refused("InvalidArgument", "ARN", **queues({**queue(), "QueueArn": arn}))
    for event in ["s3:*", "s3:Object*", "s3:ObjectCreated:", "s3:ObjectCreated:Pu*", "ObjectCreated:Put", "x"]:
        refused("InvalidArgument", "event", **queues(queue(events=[event])))
    for event in ["s3:ObjectTagging:*", "s3:ObjectRestore:Post", "s3:ReducedRedundancyLostObject"]:
        refused("NotImplemented", event, **queues(queue(events=[event])))
    refused("InvalidArgument", "prefix or suffix", **queues(queue(middle="x")))
    twice = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "a"}, {"Name": "Prefix", "Value": "b"}]}}
    refused("InvalidArgument", "more than one", **queues({**queue(), "Filter": twice}))
    refused("InvalidArgument", "1024", **queues(queue(prefix="x" * 1025)))
    refused("InvalidArgument", "255", **queues({**queue(), "Id": "x" * 256}))
    same = [{**queue(prefix="a"), "Id": "1"}, {**queue(prefix="b"), "Id": "1"}]
    refused("InvalidArgument", "unique", **queues(*same))
    refused("InvalidArgument", "overlap", **queues(queue(), queue("other", prefix="x")))
    overlapping = queue("other", ["s3:ObjectCreated:Put"], prefix="ab", suffix=".x.y")
    refused("InvalidArgument", "overlap", **queues(queue(prefix="a", suffix=".y"), overlapping))
    refused("NotImplemented", "EventBridge", EventBridgeConfiguration={})
    function = {"LambdaFunctionArn": "arn:aws:lambda:x", "Events": ["s3:ObjectCreated:*"]}
    refused("NotImplemented", "functions", LambdaFunctionConfigurations=[function])

    # The same events for other keys, other events for the same keys.
    good = [
        {**queue(prefix="a", suffix=".x"), "Id": "1"},
        {**queue("other", prefix="a", suffix=".y"), "Id": "2"},
        {**queue("other", ["s3:ObjectRemoved:Delete", "s3:LifecycleExpiration:*"]), "Id": "3"},
    ]
    topic = {"TopicArn": TOPIC + "hook", "Events": ["s3:ObjectRemoved:DeleteMarkerCreated"], "Id": "4"}
    tell("data", QueueConfigurations=good, TopicConfigurations=[topic])
    assert told("data") == {"QueueConfigurations": good, "TopicConfigurations": [topic]}, told("data")
    tell("data", QueueConfigurations=[queue()])
    assert len(told("data")["QueueConfigurations"][0]["Id"]) == 36
    tell("data")
    assert told("data") == {}


def two_webhooks():
    tell("data", QueueConfigurations=[queue("hook", prefix="hook/"), queue("other", prefix="other/")])


globals()[sys.argv[1]]()
