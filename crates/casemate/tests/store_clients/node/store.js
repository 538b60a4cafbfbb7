// The AWS SDK for JavaScript, unmodified, on the object store: what programs do with S3. Each entry of `laws` is one.
import { strict as assert } from "node:assert";
import { createHash } from "node:crypto";
import dns from "node:dns";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Readable } from "node:stream";

// The packages stand elsewhere: `NODE_PATH` is for `require` only.
const require = createRequire(import.meta.url);
const s3 = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");

const Bucket = "js-sdk";
const MIB = 1024 * 1024;

// Every name below `localhost` is this machine (RFC 6761); not every resolver knows.
const lookup = dns.lookup;
dns.lookup = (host, options, done) => lookup(host.endsWith(".localhost") ? "127.0.0.1" : host, options, done);

function client(change = {}) {
  return new s3.S3Client({
    endpoint: process.env.S3,
    region: process.env.REGION,
    credentials: { accessKeyId: process.env.ACCESS_KEY, secretAccessKey: process.env.SECRET_KEY },
    forcePathStyle: true,
    maxAttempts: 1,
    ...change,
  });
}

const c = client();
const send = (name, input = {}, to = c) => to.send(new s3[`${name}Command`](name === "ListBuckets" ? input : { Bucket, ...input }));
const put = (Key, Body, more = {}) => send("PutObject", { Key, Body, ...more });
const read = async (Key, more = {}) => Buffer.from(await (await send("GetObject", { Key, ...more })).Body.transformToByteArray());

async function fails(name, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.name, name, `${error.name} instead of ${name}: ${error.message}`);
    return true;
  });
}

function data(size) {
  // Bytes that do not repeat, the same at each run.
  const blocks = [];
  for (let number = 0; number * 32 < size; number++) blocks.push(createHash("sha256").update(`${size}/${number}`).digest());
  return Buffer.concat(blocks).subarray(0, size);
}

async function inParallel(items, work) {
  const rest = [...items];
  await Promise.all(Array.from({ length: 16 }, async () => {
    while (rest.length > 0) await work(rest.shift());
  }));
}

async function list(Prefix, more = {}) {
  const keys = [];
  for await (const page of s3.paginateListObjectsV2({ client: c }, { Bucket, Prefix, EncodingType: "url", ...more })) {
    keys.push(...(page.Contents ?? []).map((item) => decodeURIComponent(item.Key.replaceAll("+", " "))));
  }
  return keys;
}

const inOrder = (keys) => [...keys].sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)));

const laws = {
  async buckets() {
    await send("CreateBucket", { CreateBucketConfiguration: { LocationConstraint: process.env.REGION } });
    await fails("BucketAlreadyOwnedByYou", send("CreateBucket"));
    await send("HeadBucket");
    await fails("NotFound", send("HeadBucket", { Bucket: "none-such" }));
    assert.ok((await send("ListBuckets")).Buckets.some((bucket) => bucket.Name === Bucket));
  },

  async objects() {
    for (const size of [0, 1, 65535, 65536, 65537, 3 * MIB + 7]) {
      const body = data(size);
      const sent = await put(`sizes/${size}`, body);
      assert.ok(sent.ChecksumCRC32, "the SDK sends a checksum without being asked");
      assert.equal(sent.ETag, `"${createHash("md5").update(body).digest("hex")}"`);
      const got = await send("GetObject", { Key: `sizes/${size}`, ChecksumMode: "ENABLED" });
      assert.equal(got.ChecksumCRC32, sent.ChecksumCRC32);
      assert.ok(body.equals(await got.Body.transformToByteArray()), `size ${size}`);
    }
    await fails("NoSuchKey", send("GetObject", { Key: "absent" }));
    await fails("NotFound", send("HeadObject", { Key: "absent" }));
  },

  async checksums() {
    const body = data(100_000);
    for (const algorithm of ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]) {
      const sent = await put(`sum/${algorithm}`, body, { ChecksumAlgorithm: algorithm });
      const got = await send("GetObject", { Key: `sum/${algorithm}`, ChecksumMode: "ENABLED" });
      assert.ok(sent[`Checksum${algorithm}`], algorithm);
      assert.equal(got[`Checksum${algorithm}`], sent[`Checksum${algorithm}`]);
      assert.ok(body.equals(await got.Body.transformToByteArray()));
    }
    await fails("BadDigest", put("sum/wrong", body, { ChecksumSHA256: Buffer.alloc(32).toString("base64") }));
    await fails("BadDigest", put("sum/wrong", body, { ContentMD5: Buffer.alloc(16).toString("base64") }));
    await fails("NotFound", send("HeadObject", { Key: "sum/wrong" }));
  },

  async metadata() {
    const about = { ContentType: "text/plain; charset=utf-8", CacheControl: "max-age=60", ContentLanguage: "de", ContentDisposition: 'attachment; filename="a b.txt"' };
    await put("about", "x", { ...about, Metadata: { who: "js, unmodified", "two-words": "1" } });
    const head = await send("HeadObject", { Key: "about" });
    for (const [name, value] of Object.entries(about)) assert.equal(head[name], value);
    assert.deepEqual(head.Metadata, { who: "js, unmodified", "two-words": "1" });
  },

  async ranges() {
    const body = data(300_000);
    await put("ranges", body);
    for (const [Range, from, to] of [["bytes=0-0", 0, 1], ["bytes=65535-65536", 65535, 65537], ["bytes=131072-", 131072], ["bytes=-10", 299_990], ["bytes=299990-999999", 299_990]]) {
      assert.ok(body.subarray(from, to).equals(await read("ranges", { Range })), Range);
    }
    await fails("InvalidRange", send("GetObject", { Key: "ranges", Range: "bytes=300000-" }));
  },

  async conditions() {
    const answers = await Promise.allSettled(Array.from({ length: 16 }, (_, number) => put("once", String(number), { IfNoneMatch: "*" })));
    assert.equal(answers.filter((answer) => answer.status === "fulfilled").length, 1, "one of sixteen writes");
    const { ETag } = await send("HeadObject", { Key: "once" });
    await put("once", "next", { IfMatch: ETag });
    await fails("PreconditionFailed", put("once", "late", { IfMatch: ETag }));
    await fails("PreconditionFailed", send("DeleteObject", { Key: "once", IfMatch: ETag }));
    await fails("PreconditionFailed", send("GetObject", { Key: "once", IfMatch: ETag }));
    const now = (await send("HeadObject", { Key: "once" })).ETag;
    await assert.rejects(send("GetObject", { Key: "once", IfNoneMatch: now }), (error) => error.$metadata.httpStatusCode === 304);
  },

  async lists() {
    const keys = Array.from({ length: 1100 }, (_, number) => `list/${number % 3}/${String(number).padStart(4, "0")}`);
    await inParallel(keys, (key) => put(key, "x"));
    assert.deepEqual(await list("list/"), inOrder(keys));
    assert.deepEqual(await list("list/", { MaxKeys: 99 }), inOrder(keys));
    const page = await send("ListObjectsV2", { Prefix: "list/", Delimiter: "/" });
    assert.deepEqual(page.CommonPrefixes.map((item) => item.Prefix), ["list/0/", "list/1/", "list/2/"]);
    assert.equal(page.KeyCount, 3);
  },

  async "odd keys"() {
    const keys = JSON.parse(readFileSync(process.env.KEYS, "utf8")).map((key) => `odd/${key}`);
    for (let letter = 1; letter < 128; letter++) keys.push(`odd/byte/${String.fromCharCode(letter)}/${letter}`);
    keys.push(`odd/${"x".repeat(1020)}`, `odd/${"ü".repeat(510)}`);
    await inParallel(keys, (key) => put(key, key));
    await inParallel(keys, async (key) => assert.equal((await read(key)).toString(), key));
    assert.deepEqual(await list("odd/", { MaxKeys: 13 }), inOrder(keys));
    await fails("KeyTooLongError", put("x".repeat(1025), ""));
  },

  async copies() {
    const key = "from/a b+c%ü?";
    await put(key, "body", { Metadata: { who: "one" } });
    const CopySource = encodeURIComponent(`${Bucket}/${key}`);
    await send("CopyObject", { Key: "to", CopySource });
    assert.deepEqual((await send("HeadObject", { Key: "to" })).Metadata, { who: "one" });
    await send("CopyObject", { Key: "to", CopySource: `${Bucket}/to`, MetadataDirective: "REPLACE", Metadata: { who: "two" } });
    assert.deepEqual((await send("HeadObject", { Key: "to" })).Metadata, { who: "two" });
    assert.equal((await read("to")).toString(), "body");
    await fails("PreconditionFailed", send("CopyObject", { Key: "to", CopySource, CopySourceIfMatch: '"other"' }));
    await fails("NoSuchKey", send("CopyObject", { Key: "to", CopySource: `${Bucket}/absent` }));
  },

  async removals() {
    const keys = [...(await list("list/")).slice(0, 999), "never was"];
    const answer = await send("DeleteObjects", { Delete: { Objects: keys.map((Key) => ({ Key })) } });
    assert.equal(answer.Deleted.length, 1000);
    assert.equal(answer.Errors, undefined);
    assert.equal((await list("list/")).length, 101);
  },

  async parts() {
    const body = data(65 * MIB + 321);
    const done = await new Upload({ client: c, params: { Bucket, Key: "large", Body: body }, partSize: 8 * MIB, queueSize: 4 }).done();
    assert.ok(done.ETag.endsWith('-9"'), done.ETag);
    assert.ok(body.equals(await read("large")), "the large object came back as something else");
    assert.ok(body.subarray(8 * MIB - 3, 8 * MIB + 3).equals(await read("large", { Range: `bytes=${8 * MIB - 3}-${8 * MIB + 2}` })));
    const second = await send("GetObject", { Key: "large", PartNumber: 2 });
    assert.equal(second.PartsCount, 9);
    assert.ok(body.subarray(8 * MIB, 16 * MIB).equals(await second.Body.transformToByteArray()));

    const { UploadId } = await send("CreateMultipartUpload", { Key: "joined" });
    const named = { Key: "joined", UploadId };
    const copied = await send("UploadPartCopy", { ...named, PartNumber: 1, CopySource: `${Bucket}/large`, CopySourceRange: `bytes=${MIB}-${7 * MIB - 1}` });
    const last = await send("UploadPart", { ...named, PartNumber: 3, Body: "end" });
    assert.deepEqual((await send("ListParts", named)).Parts.map((part) => [part.PartNumber, part.Size]), [[1, 6 * MIB], [3, 3]]);
    assert.deepEqual((await send("ListMultipartUploads")).Uploads.map((upload) => upload.UploadId), [UploadId]);
    const one = { PartNumber: 1, ETag: copied.CopyPartResult.ETag };
    const three = { PartNumber: 3, ETag: last.ETag };
    await fails("InvalidPartOrder", send("CompleteMultipartUpload", { ...named, MultipartUpload: { Parts: [three, one] } }));
    await send("CompleteMultipartUpload", { ...named, MultipartUpload: { Parts: [one, three] } });
    assert.ok(Buffer.concat([body.subarray(MIB, 7 * MIB), Buffer.from("end")]).equals(await read("joined")));
    const given = await send("CreateMultipartUpload", { Key: "given up" });
    await send("AbortMultipartUpload", { Key: "given up", UploadId: given.UploadId });
    await fails("NoSuchUpload", send("UploadPart", { Key: "given up", UploadId: given.UploadId, PartNumber: 1, Body: "x" }));
  },

  // A stream whose length is not known before: sent in parts; and one in chunks of which only the length is known.
  async streams() {
    const body = data(12 * MIB + 5);
    const pieces = () => Readable.from((function* () { for (let at = 0; at < body.length; at += 100_000) yield body.subarray(at, at + 100_000); })());
    await new Upload({ client: c, params: { Bucket, Key: "stream", Body: pieces(), ChecksumAlgorithm: "SHA256" } }).done();
    assert.ok(body.equals(await read("stream")));
    await put("stream", pieces(), { ContentLength: body.length, ChecksumAlgorithm: "CRC32C" });
    const got = await send("GetObject", { Key: "stream", ChecksumMode: "ENABLED" });
    assert.ok(got.ChecksumCRC32C, "the checksum that came behind the data");
    assert.ok(body.equals(await got.Body.transformToByteArray()));
  },

  async presigned() {
    for (const Key of ["signed/plain", "signed/a b+c%ü"]) {
      const to = await getSignedUrl(c, new s3.PutObjectCommand({ Bucket, Key }), { expiresIn: 60 });
      const sent = await fetch(to, { method: "PUT", body: Key });
      assert.equal(sent.status, 200, await sent.text());
      const from = await getSignedUrl(c, new s3.GetObjectCommand({ Bucket, Key }), { expiresIn: 60 });
      assert.equal(await (await fetch(from)).text(), Key);
      const other = await fetch(from, { method: "PUT", body: "other" });
      assert.equal(other.status, 403);
      assert.match(await other.text(), /<Code>SignatureDoesNotMatch<\/Code>/);
    }
    const short = await getSignedUrl(c, new s3.GetObjectCommand({ Bucket, Key: "signed/plain" }), { expiresIn: 1 });
    await new Promise((resolve) => setTimeout(resolve, 2100));
    const late = await fetch(short);
    assert.equal(late.status, 403);
    assert.match(await late.text(), /<Code>AccessDenied<\/Code>/);
  },

  async strangers() {
    const as = (accessKeyId, secretAccessKey) => client({ credentials: { accessKeyId, secretAccessKey } });
    await fails("InvalidAccessKeyId", send("ListBuckets", {}, as("AKIAUNKNOWN", "x")));
    await fails("SignatureDoesNotMatch", send("ListBuckets", {}, as(process.env.ACCESS_KEY, "wrong")));
  },

  async "virtual hosts"() {
    const named = client({ endpoint: process.env.S3_NAMED, forcePathStyle: false });
    await send("PutObject", { Key: "by name/a b", Body: "named" }, named);
    assert.equal((await read("by name/a b")).toString(), "named");
    assert.equal(await (await send("GetObject", { Key: "by name/a b" }, named)).Body.transformToString(), "named");
  },

  async end() {
    await fails("BucketNotEmpty", send("DeleteBucket"));
    const keys = await list("");
    for (let at = 0; at < keys.length; at += 1000) {
      const answer = await send("DeleteObjects", { Delete: { Quiet: true, Objects: keys.slice(at, at + 1000).map((Key) => ({ Key })) } });
      assert.equal(answer.Errors, undefined);
    }
    await send("DeleteBucket");
  },
};

let failed = false;
for (const [name, law] of Object.entries(laws)) {
  // One that is broken does not hide the next.
  await law().catch((error) => {
    failed = true;
    console.error(`${name}: ${error.stack}`);
  });
}
if (failed) process.exit(1);
console.log("the JavaScript SDK did everything");
