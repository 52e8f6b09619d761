// A round trip through the JavaScript SDK as programs use it: put, metadata, tags, listing with
// folders, a multipart upload from a stream, ranges, conditions, delete. Prints "ok" or throws.
// Arguments: bucket, megabytes of the large object. Endpoint and keys: the usual AWS_* environment.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import {
  CopyObjectCommand, DeleteObjectsCommand, GetObjectCommand, GetObjectTaggingCommand,
  HeadObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";

const [Bucket, megabytes] = process.argv.slice(2);
const client = new S3Client({
  endpoint: process.env.AWS_ENDPOINT_URL, region: "us-east-1", forcePathStyle: true,
});
const digest = (data) => createHash("sha256").update(data).digest("hex");

const small = randomBytes(100_000);
for (const Key of ["a/one.bin", "a/b/two words.bin", "ü+&.bin"]) {
  await client.send(new PutObjectCommand({
    Bucket, Key, Body: small, ContentType: "text/x-check", CacheControl: "max-age=60",
    Metadata: { colour: "blue", empty: "" }, Tagging: "team=red&stage=two%20words",
  }));
  const found = await client.send(new GetObjectCommand({ Bucket, Key }));
  assert.equal(digest(await found.Body.transformToByteArray()), digest(small));
  assert.deepEqual(found.Metadata, { colour: "blue", empty: "" });
  assert.equal(found.ContentType, "text/x-check");
  assert.equal(found.CacheControl, "max-age=60");
  const tags = await client.send(new GetObjectTaggingCommand({ Bucket, Key }));
  const pairs = Object.fromEntries(tags.TagSet.map(({ Key, Value }) => [Key, Value]));
  assert.deepEqual(pairs, { team: "red", stage: "two words" });
}

const listed = await client.send(new ListObjectsV2Command({ Bucket, Delimiter: "/" }));
assert.deepEqual(listed.CommonPrefixes.map(({ Prefix }) => Prefix), ["a/"]);
assert.deepEqual(listed.Contents.map(({ Key }) => Key), ["ü+&.bin"]);

const piece = randomBytes(1 << 20);
const sent = createHash("sha256");
function* pieces() {
  for (let number = 0; number < Number(megabytes); number += 1) {
    piece.writeUInt32BE(number, 0);
    sent.update(piece);
    yield Buffer.from(piece);
  }
}
const upload = new Upload({
  client, params: { Bucket, Key: "large", Body: Readable.from(pieces()) }, queueSize: 4,
  partSize: 8 << 20,
});
await upload.done();
const large = await client.send(new GetObjectCommand({ Bucket, Key: "large" }));
const received = createHash("sha256");
for await (const data of large.Body) received.update(data);
assert.equal(received.digest("hex"), sent.copy().digest("hex"));

const last = Number(megabytes) - 1;
const range = await client.send(new GetObjectCommand({
  Bucket, Key: "large", Range: `bytes=${last << 20}-${(last << 20) + 99}`,
}));
const bytes = Buffer.from(await range.Body.transformToByteArray());
assert.equal(bytes.length, 100);
assert.equal(bytes.readUInt32BE(0), last);

await client.send(new CopyObjectCommand({ Bucket, Key: "copy", CopySource: `${Bucket}/large` }));
const head = await client.send(new HeadObjectCommand({ Bucket, Key: "copy" }));
assert.equal(head.ContentLength, Number(megabytes) << 20);
await assert.rejects(
  client.send(new PutObjectCommand({ Bucket, Key: "copy", Body: "x", IfNoneMatch: "*" })),
  { name: "PreconditionFailed" },
);
await assert.rejects(client.send(new GetObjectCommand({ Bucket, Key: "nothing" })), {
  name: "NoSuchKey",
});
const keys = ["a/one.bin", "a/b/two words.bin", "ü+&.bin", "large", "copy"];
await client.send(new DeleteObjectsCommand({
  Bucket, Delete: { Objects: keys.map((Key) => ({ Key })) },
}));
assert.equal((await client.send(new ListObjectsV2Command({ Bucket }))).KeyCount, 0);
console.log("ok");
