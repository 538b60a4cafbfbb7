"""s3fs of Python (fsspec), unmodified, on the object store: what pandas, dask and the like do with S3."""
import os
import random
import sys
import traceback

import s3fs

MIB = 1 << 20
BUCKET = "py-s3fs"


def data(size):
    return random.Random(size).randbytes(size)


def buckets(fs):
    fs.mkdir(BUCKET)
    assert fs.exists(BUCKET) and not fs.exists("none-such-bucket")
    assert BUCKET in fs.ls("")


def files(fs):
    for size in (0, 1, 65537, 3 * MIB + 7):
        fs.pipe(f"{BUCKET}/sizes/{size}", data(size))
        assert fs.cat(f"{BUCKET}/sizes/{size}") == data(size)
        assert fs.info(f"{BUCKET}/sizes/{size}")["size"] == size
    try:
        fs.cat(f"{BUCKET}/absent")
    except FileNotFoundError:
        return
    raise AssertionError("what is not there was read")


def streams(fs):
    body = data(66 * MIB + 5)
    # In blocks: an upload in parts.
    with fs.open(f"{BUCKET}/large", "wb", block_size=8 * MIB) as file:
        for at in range(0, len(body), 700_001):
            file.write(body[at : at + 700_001])
    assert fs.info(f"{BUCKET}/large")["ETag"].endswith('-8"') or fs.info(f"{BUCKET}/large")["ETag"].endswith('-9"')
    assert fs.cat(f"{BUCKET}/large") == body
    with fs.open(f"{BUCKET}/large", "rb", block_size=MIB) as file:
        for at, length in ((0, 10), (8 * MIB - 3, 6), (len(body) - 4, 100), (65_530, 20)):
            file.seek(at)
            assert file.read(length) == body[at : at + length], (at, length)
    assert fs.cat_ranges([f"{BUCKET}/large"] * 2, [5, 9 * MIB], [50, 9 * MIB + 7]) == [body[5:50], body[9 * MIB : 9 * MIB + 7]]
    # Appending copies what is there as the first part.
    with fs.open(f"{BUCKET}/large", "ab") as file:
        file.write(b"and more")
    assert fs.tail(f"{BUCKET}/large", 10) == (body + b"and more")[-10:]
    assert fs.info(f"{BUCKET}/large")["size"] == len(body) + 8


def once(fs):
    fs.pipe_file(f"{BUCKET}/once", b"1", mode="create")
    try:
        fs.pipe_file(f"{BUCKET}/once", b"2", mode="create")
    except OSError as fault:
        assert fault.__cause__.response["Error"]["Code"] == "PreconditionFailed", fault
        assert fs.cat(f"{BUCKET}/once") == b"1"
        return
    raise AssertionError("what was there was written over")


def attributes(fs):
    fs.pipe(f"{BUCKET}/about", b"x")
    fs.setxattr(f"{BUCKET}/about", who="s3fs")
    assert fs.getxattr(f"{BUCKET}/about", "who") == "s3fs"
    assert fs.metadata(f"{BUCKET}/about")["who"] == "s3fs"


def trees(fs):
    names = [f"{BUCKET}/tree/{number % 3}/{number:04}" for number in range(1100)]
    fs.pipe({name: b"x" for name in names})
    assert sorted(fs.find(f"{BUCKET}/tree")) == sorted(names)
    assert fs.ls(f"{BUCKET}/tree") == [f"{BUCKET}/tree/{number}" for number in range(3)]
    assert len(fs.glob(f"{BUCKET}/tree/*/000?")) == 10
    assert fs.du(f"{BUCKET}/tree") == 1100
    fs.copy(f"{BUCKET}/tree/0", f"{BUCKET}/copied/", recursive=True)
    assert len(fs.find(f"{BUCKET}/copied")) == 367
    fs.mv(f"{BUCKET}/tree/1/0001", f"{BUCKET}/moved")
    assert fs.exists(f"{BUCKET}/moved") and not fs.exists(f"{BUCKET}/tree/1/0001")
    fs.rm(f"{BUCKET}/tree", recursive=True)
    assert fs.find(f"{BUCKET}/tree") == []


def odd_keys(fs):
    keys = ["two words", "plus+plus", "per%cent", "per%20cent", "é", "e\u0301", "日本語/漢字", "🦀", "a=b&c=d", "hash#tag", "quote'\"", "~tilde", "semi;colon,comma", "<xml>&amp;"]
    for key in keys:
        fs.pipe(f"{BUCKET}/odd/{key}", key.encode())
    for key in keys:
        assert fs.cat(f"{BUCKET}/odd/{key}") == key.encode(), key
    assert sorted(fs.find(f"{BUCKET}/odd")) == sorted(f"{BUCKET}/odd/{key}" for key in keys)


def links(fs):
    import urllib.request

    fs.pipe(f"{BUCKET}/linked a+b", b"by a link")
    with urllib.request.urlopen(fs.sign(f"{BUCKET}/linked a+b", expiration=60)) as answer:
        assert answer.read() == b"by a link"


def end(fs):
    fs.rm(BUCKET, recursive=True)
    fs.invalidate_cache()
    assert not fs.exists(BUCKET)


def main():
    fs = s3fs.S3FileSystem(
        key=os.environ["ACCESS_KEY"],
        secret=os.environ["SECRET_KEY"],
        endpoint_url=os.environ["S3"],
        client_kwargs={"region_name": os.environ["REGION"]},
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    failed = False
    for law in (buckets, files, streams, once, attributes, trees, odd_keys, links, end):
        # One that is broken does not hide the next.
        try:
            law(fs)
        except Exception:
            failed = True
            print(law.__name__, traceback.format_exc(), file=sys.stderr)
    if failed:
        sys.exit(1)
    print("s3fs of Python did everything")


main()
