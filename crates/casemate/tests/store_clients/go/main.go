// The AWS SDK for Go, unmodified, on the object store: what programs do with S3. Each function below `main` is one law.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
)

const (
	bucket = "go-sdk"
	mib    = 1 << 20
)

var background = context.Background()

func main() {
	c := client(os.Getenv("S3"), true)
	failed := false
	for _, law := range []struct {
		name  string
		holds func(*s3.Client)
	}{
		{"buckets", buckets}, {"objects", objects}, {"checksums", checksums}, {"metadata", metadata}, {"metadata beyond ASCII", unicodeMetadata},
		{"ranges", ranges}, {"conditions", conditions}, {"lists", lists}, {"odd keys", oddKeys}, {"copies", copies}, {"removals", removals}, {"parts", parts},
		{"presigned", presigned}, {"streams", streams}, {"strangers", strangers}, {"virtual hosts", virtualHosts}, {"end", end},
	} {
		if fault := try(law.holds, c); fault != nil {
			failed = true
			fmt.Fprintf(os.Stderr, "%s: %v\n", law.name, fault)
		}
	}
	if failed {
		os.Exit(1)
	}
	fmt.Println("the Go SDK did everything")
}

// try runs a law to its end or its first fault, so that one that is broken does not hide the next.
func try(law func(*s3.Client), c *s3.Client) (fault any) {
	defer func() { fault = recover() }()
	law(c)
	return nil
}

// local makes a transport reach every name below `localhost` on this machine (RFC 6761), as not every resolver does.
func local(transport *http.Transport) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err == nil && strings.HasSuffix(host, ".localhost") {
			address = net.JoinHostPort("127.0.0.1", port)
		}
		return dialer.DialContext(ctx, network, address)
	}
}

func client(endpoint string, path bool, change ...func(*s3.Options)) *s3.Client {
	defaults := must(config.LoadDefaultConfig(
		background,
		config.WithRegion(os.Getenv("REGION")),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(os.Getenv("ACCESS_KEY"), os.Getenv("SECRET_KEY"), "")),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(local)),
		config.WithLogger(logging.Nop{}),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	))
	place := func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = &endpoint, path }
	return s3.NewFromConfig(defaults, append([]func(*s3.Options){place}, change...)...)
}

func buckets(c *s3.Client) {
	place := &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(os.Getenv("REGION"))}
	_, err := c.CreateBucket(background, &s3.CreateBucketInput{Bucket: aws.String(bucket), CreateBucketConfiguration: place})
	done(err)
	_, err = c.CreateBucket(background, &s3.CreateBucketInput{Bucket: aws.String(bucket), CreateBucketConfiguration: place})
	var owned *types.BucketAlreadyOwnedByYou
	check(errors.As(err, &owned), "a second bucket of the name: %v", err)
	_, err = c.HeadBucket(background, &s3.HeadBucketInput{Bucket: aws.String(bucket)})
	done(err)
	_, err = c.HeadBucket(background, &s3.HeadBucketInput{Bucket: aws.String("none-such")})
	var absent *types.NotFound
	check(errors.As(err, &absent), "a bucket that is not there: %v", err)
	listed := must(c.ListBuckets(background, &s3.ListBucketsInput{}))
	found := slices.ContainsFunc(listed.Buckets, func(b types.Bucket) bool { return *b.Name == bucket })
	check(found, "the bucket is not listed: %v", listed.Buckets)
	where := must(c.GetBucketLocation(background, &s3.GetBucketLocationInput{Bucket: aws.String(bucket)}))
	check(string(where.LocationConstraint) == os.Getenv("REGION"), "the bucket is in %q", where.LocationConstraint)
	_, err = c.CreateBucket(background, &s3.CreateBucketInput{Bucket: aws.String("No_Name")})
	fails(err, "InvalidBucketName")
}

func objects(c *s3.Client) {
	for _, size := range []int{0, 1, 65535, 65536, 65537, 3*mib + 7} {
		body := data(size)
		key := fmt.Sprintf("sizes/%d", size)
		sent := put(c, key, body)
		// The SDK sends a checksum without being asked, and checks the one that it gets.
		check(sent.ChecksumCRC32 != nil || sent.ChecksumCRC64NVME != nil, "no checksum came back for %s", key)
		got := must(c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key, ChecksumMode: types.ChecksumModeEnabled}))
		check(bytes.Equal(read(got.Body), body), "%s came back as something else", key)
		check(*got.ETag == *sent.ETag && *got.ContentLength == int64(size), "%s: tag %s, length %d", key, *got.ETag, *got.ContentLength)
		head := must(c.HeadObject(background, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: &key}))
		check(*head.ContentLength == int64(size) && time.Since(*head.LastModified) < time.Minute, "%s: %+v", key, head)
	}
	_, err := c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("absent")})
	var absent *types.NoSuchKey
	check(errors.As(err, &absent), "a key that is not there: %v", err)
}

func checksums(c *s3.Client) {
	body := data(200_000)
	sum := sha256.Sum256(body)
	for _, algorithm := range []types.ChecksumAlgorithm{
		types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmCrc64nvme, types.ChecksumAlgorithmSha1, types.ChecksumAlgorithmSha256,
	} {
		key := "sum/" + string(algorithm)
		must(c.PutObject(background, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(body), ChecksumAlgorithm: algorithm}))
		got := must(c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key, ChecksumMode: types.ChecksumModeEnabled}))
		check(bytes.Equal(read(got.Body), body), "%s came back as something else", key)
		value := map[types.ChecksumAlgorithm]*string{
			types.ChecksumAlgorithmCrc32: got.ChecksumCRC32, types.ChecksumAlgorithmCrc32c: got.ChecksumCRC32C, types.ChecksumAlgorithmCrc64nvme: got.ChecksumCRC64NVME,
			types.ChecksumAlgorithmSha1: got.ChecksumSHA1, types.ChecksumAlgorithmSha256: got.ChecksumSHA256,
		}[algorithm]
		check(value != nil && *value != "", "%s has no checksum", key)
		check(algorithm != types.ChecksumAlgorithmSha256 || *value == base64.StdEncoding.EncodeToString(sum[:]), "SHA-256 is %s", *value)
	}
	wrong := base64.StdEncoding.EncodeToString(make([]byte, 32))
	_, err := c.PutObject(background, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("sum/wrong"), Body: bytes.NewReader(body), ChecksumSHA256: &wrong})
	fails(err, "BadDigest")
	md5 := base64.StdEncoding.EncodeToString(make([]byte, 16))
	_, err = c.PutObject(background, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("sum/wrong"), Body: bytes.NewReader(body), ContentMD5: &md5})
	fails(err, "BadDigest")
	_, err = c.HeadObject(background, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("sum/wrong")})
	fails(err, "NotFound")
}

func metadata(c *s3.Client) {
	given := map[string]string{"plain": "text, with a comma", "empty": "", "encoded": "=?UTF-8?Q?Gr=C3=BC=C3=9Fe?="}
	expires := time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC)
	must(c.PutObject(background, &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String("about"), Body: strings.NewReader("x"), Metadata: given, ContentType: aws.String("text/plain; charset=utf-8"),
		CacheControl: aws.String("max-age=60"), ContentDisposition: aws.String(`attachment; filename="a b.txt"`), ContentEncoding: aws.String("identity"),
		ContentLanguage: aws.String("de"), Expires: &expires,
	}))
	head := must(c.HeadObject(background, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("about")}))
	for name, value := range given {
		check(plain(head.Metadata[name]) == plain(value), "metadata %s is %q instead of %q", name, head.Metadata[name], value)
	}
	check(*head.ContentType == "text/plain; charset=utf-8" && *head.CacheControl == "max-age=60" && *head.ContentLanguage == "de", "%+v", head)
	check(*head.ContentDisposition == `attachment; filename="a b.txt"` && *head.ContentEncoding == "identity", "%+v", head)
	check(*head.ExpiresString == expires.Format(http.TimeFormat), "expires is %q", *head.ExpiresString)
	replaced := must(c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("about"), ResponseContentType: aws.String("a/b")}))
	check(*replaced.ContentType == "a/b", "%s", *replaced.ContentType)
}

func unicodeMetadata(c *s3.Client) {
	for key, value := range map[string]string{"umlaut": "Grüße aus Łódź", "crab": "🦀"} {
		must(c.PutObject(background, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: strings.NewReader("x"), Metadata: map[string]string{"said": value}}))
		head := must(c.HeadObject(background, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: &key}))
		check(plain(head.Metadata["said"]) == value, "metadata is %q instead of %q", head.Metadata["said"], value)
	}
}

// plain undoes RFC 2047, in which a header has what is not ASCII.
func plain(value string) string {
	return must(new(mime.WordDecoder).DecodeHeader(value))
}

func ranges(c *s3.Client) {
	body := data(300_000)
	put(c, "ranges", body)
	for asked, expected := range map[string][]byte{
		"bytes=0-0": body[:1], "bytes=65535-65536": body[65535:65537], "bytes=131072-": body[131072:], "bytes=-10": body[299_990:], "bytes=299990-999999": body[299_990:],
	} {
		got := must(c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("ranges"), Range: aws.String(asked)}))
		check(bytes.Equal(read(got.Body), expected), "%s gave other bytes", asked)
	}
	_, err := c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("ranges"), Range: aws.String("bytes=300000-")})
	fails(err, "InvalidRange")
}

func conditions(c *s3.Client) {
	write := func(body string, match, none *string) error {
		_, err := c.PutObject(background, &s3.PutObjectInput{
			Bucket: aws.String(bucket), Key: aws.String("once"), Body: strings.NewReader(body), IfMatch: match, IfNoneMatch: none,
		})
		return err
	}
	// Sixteen at once, and one of them writes.
	var group sync.WaitGroup
	answers := make([]error, 16)
	for number := range answers {
		group.Add(1)
		go func() {
			defer group.Done()
			answers[number] = write(fmt.Sprint(number), nil, aws.String("*"))
		}()
	}
	group.Wait()
	won := 0
	for _, err := range answers {
		if err == nil {
			won++
		} else {
			failsWith(err, "PreconditionFailed", "ConditionalRequestConflict")
		}
	}
	check(won == 1, "%d of 16 wrote what could be written once", won)
	head := must(c.HeadObject(background, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("once")}))
	done(write("next", head.ETag, nil))
	fails(write("late", head.ETag, nil), "PreconditionFailed")
	_, err := c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("once"), IfMatch: head.ETag})
	fails(err, "PreconditionFailed")
	_, err = c.DeleteObject(background, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String("once"), IfMatch: head.ETag})
	fails(err, "PreconditionFailed")
	head = must(c.HeadObject(background, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("once")}))
	_, err = c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("once"), IfNoneMatch: head.ETag})
	fails(err, "NotModified")
	_, err = c.DeleteObject(background, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String("once"), IfMatch: head.ETag})
	done(err)
}

func lists(c *s3.Client) {
	var keys []string
	for number := range 1100 {
		keys = append(keys, fmt.Sprintf("list/%d/%04d", number%3, number))
	}
	putAll(c, keys)
	slices.Sort(keys)
	check(slices.Equal(list(c, "list/", 0), keys), "a list of more than a page")
	check(slices.Equal(list(c, "list/", 7), keys), "a list in pages of seven")
	page := must(c.ListObjectsV2(background, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String("list/"), Delimiter: aws.String("/")}))
	check(len(page.CommonPrefixes) == 3 && *page.CommonPrefixes[2].Prefix == "list/2/" && len(page.Contents) == 0, "%+v", page)
	after := must(c.ListObjectsV2(background, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String("list/"), StartAfter: &keys[1097]}))
	check(len(after.Contents) == 2 && *after.KeyCount == 2 && !*after.IsTruncated, "after the third last: %+v", after)
	// The older form, by markers.
	var old []string
	marker := ""
	for {
		page := must(c.ListObjects(background, &s3.ListObjectsInput{Bucket: aws.String(bucket), Prefix: aws.String("list/"), Marker: &marker}))
		for _, object := range page.Contents {
			old = append(old, *object.Key)
		}
		if !*page.IsTruncated {
			break
		}
		marker = old[len(old)-1]
	}
	check(slices.Equal(old, keys), "the older list has %d keys", len(old))
}

func oddKeys(c *s3.Client) {
	text, err := os.ReadFile(os.Getenv("KEYS"))
	done(err)
	var keys []string
	done(json.Unmarshal(text, &keys))
	for index := range keys {
		keys[index] = "odd/" + keys[index]
	}
	for letter := 1; letter < 128; letter++ {
		keys = append(keys, fmt.Sprintf("odd/byte/%c/%d", rune(letter), letter))
	}
	keys = append(keys, "odd/"+strings.Repeat("x", 1020), "odd/"+strings.Repeat("ü", 510))
	putAll(c, keys)
	for _, key := range keys {
		got := must(c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key}))
		check(string(read(got.Body)) == key, "the object %q is another", key)
	}
	slices.Sort(keys)
	listed := list(c, "odd/", 13)
	check(slices.Equal(listed, keys), "listed %q\ninstead of %q", listed, keys)
	for _, key := range []string{"odd/carriage\rreturn", "odd/new\nline", "odd/<xml>&amp;</xml>", "odd/ leading space"} {
		unencoded := must(c.ListObjectsV2(background, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: &key}))
		check(*unencoded.Contents[0].Key == key && *unencoded.Prefix == key, "%q is listed as %q", key, aws.ToString(unencoded.Contents[0].Key))
	}
	_, err = c.PutObject(background, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(strings.Repeat("x", 1025)), Body: strings.NewReader("")})
	fails(err, "KeyTooLongError")
}

func copies(c *s3.Client) {
	must(c.PutObject(background, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("from/a b+c%ü?"), Body: strings.NewReader("body"), Metadata: map[string]string{"who": "one"}}))
	source := bucket + "/" + url.QueryEscape("from/a b+c%ü?")
	source = strings.ReplaceAll(source, "+", "%20")
	copied := must(c.CopyObject(background, &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: aws.String("to"), CopySource: &source}))
	head := must(c.HeadObject(background, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("to")}))
	check(head.Metadata["who"] == "one" && *head.ETag == *copied.CopyObjectResult.ETag, "%+v", head)
	must(c.CopyObject(background, &s3.CopyObjectInput{
		Bucket: aws.String(bucket), Key: aws.String("to"), CopySource: aws.String(bucket + "/to"), MetadataDirective: types.MetadataDirectiveReplace, Metadata: map[string]string{"who": "two"},
	}))
	head = must(c.HeadObject(background, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("to")}))
	check(head.Metadata["who"] == "two" && *head.ContentLength == 4, "%+v", head)
	_, err := c.CopyObject(background, &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: aws.String("to"), CopySource: &source, CopySourceIfMatch: aws.String(`"other"`)})
	fails(err, "PreconditionFailed")
	_, err = c.CopyObject(background, &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: aws.String("to"), CopySource: aws.String(bucket + "/absent")})
	fails(err, "NoSuchKey")
}

func removals(c *s3.Client) {
	keys := append(list(c, "list/", 0)[:999], "never was")
	var wanted []types.ObjectIdentifier
	for _, key := range keys {
		wanted = append(wanted, types.ObjectIdentifier{Key: aws.String(key)})
	}
	answer := must(c.DeleteObjects(background, &s3.DeleteObjectsInput{Bucket: aws.String(bucket), Delete: &types.Delete{Objects: wanted}}))
	check(len(answer.Deleted) == 1000 && len(answer.Errors) == 0, "%d removed, errors %+v", len(answer.Deleted), answer.Errors)
	check(len(list(c, "list/", 0)) == 101, "what was removed is listed")
	_, err := c.DeleteObjects(background, &s3.DeleteObjectsInput{Bucket: aws.String(bucket), Delete: &types.Delete{Objects: append(wanted, wanted[0])}})
	fails(err, "MalformedXML")
}

func parts(c *s3.Client) {
	body := data(65*mib + 321)
	uploader := manager.NewUploader(c, func(u *manager.Uploader) { u.PartSize, u.Concurrency = 8*mib, 4 })
	sent := must(uploader.Upload(background, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("large"), Body: bytes.NewReader(body)}))
	check(strings.HasSuffix(*sent.ETag, `-9"`), "the tag is %s", *sent.ETag)
	got := manager.NewWriteAtBuffer(nil)
	downloader := manager.NewDownloader(c, func(d *manager.Downloader) { d.PartSize, d.Concurrency = 8*mib, 4 })
	must(downloader.Download(background, got, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("large")}))
	check(bytes.Equal(got.Bytes(), body), "the large object came back as something else")
	whole := must(c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("large"), ChecksumMode: types.ChecksumModeEnabled}))
	check(bytes.Equal(read(whole.Body), body), "in one piece")
	second := must(c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("large"), PartNumber: aws.Int32(2)}))
	check(*second.PartsCount == 9 && bytes.Equal(read(second.Body), body[8*mib:16*mib]), "part 2 is other bytes")

	begun := must(c.CreateMultipartUpload(background, &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String("joined")}))
	copied := must(c.UploadPartCopy(background, &s3.UploadPartCopyInput{
		Bucket: aws.String(bucket), Key: aws.String("joined"), UploadId: begun.UploadId, PartNumber: aws.Int32(1), CopySource: aws.String(bucket + "/large"),
		CopySourceRange: aws.String(fmt.Sprintf("bytes=%d-%d", mib, 7*mib-1)),
	}))
	last := must(c.UploadPart(background, &s3.UploadPartInput{Bucket: aws.String(bucket), Key: aws.String("joined"), UploadId: begun.UploadId, PartNumber: aws.Int32(3), Body: strings.NewReader("end")}))
	listed := must(c.ListParts(background, &s3.ListPartsInput{Bucket: aws.String(bucket), Key: aws.String("joined"), UploadId: begun.UploadId}))
	check(len(listed.Parts) == 2 && *listed.Parts[1].PartNumber == 3 && *listed.Parts[0].Size == 6*mib, "%+v", listed.Parts)
	uploads := must(c.ListMultipartUploads(background, &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket)}))
	check(len(uploads.Uploads) == 1 && *uploads.Uploads[0].UploadId == *begun.UploadId, "%+v", uploads.Uploads)
	complete := func(numbers ...types.CompletedPart) error {
		_, err := c.CompleteMultipartUpload(background, &s3.CompleteMultipartUploadInput{
			Bucket: aws.String(bucket), Key: aws.String("joined"), UploadId: begun.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: numbers},
		})
		return err
	}
	one := types.CompletedPart{PartNumber: aws.Int32(1), ETag: copied.CopyPartResult.ETag}
	three := types.CompletedPart{PartNumber: aws.Int32(3), ETag: last.ETag, ChecksumCRC32: last.ChecksumCRC32}
	fails(complete(three, one), "InvalidPartOrder")
	fails(complete(one, types.CompletedPart{PartNumber: aws.Int32(2), ETag: last.ETag}), "InvalidPart")
	done(complete(one, three))
	joined := must(c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("joined")}))
	check(bytes.Equal(read(joined.Body), append(slices.Clone(body[mib:7*mib]), "end"...)), "the joined object is other bytes")

	given := must(c.CreateMultipartUpload(background, &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String("given up")}))
	_, err := c.AbortMultipartUpload(background, &s3.AbortMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String("given up"), UploadId: given.UploadId})
	done(err)
	_, err = c.UploadPart(background, &s3.UploadPartInput{Bucket: aws.String(bucket), Key: aws.String("given up"), UploadId: given.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("x")})
	fails(err, "NoSuchUpload")
}

func presigned(c *s3.Client) {
	signer := s3.NewPresignClient(c)
	soon := s3.WithPresignExpires(time.Minute)
	for _, key := range []string{"signed/plain", "signed/a b+c%ü"} {
		to := must(signer.PresignPutObject(background, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key}, soon))
		status, said := exchange("PUT", to.URL, []byte(key))
		check(status == 200, "%s: %d %s", key, status, said)
		from := must(signer.PresignGetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key}, soon))
		status, said = exchange("GET", from.URL, nil)
		check(status == 200 && said == key, "%s: %d %s", key, status, said)
		status, said = exchange("PUT", from.URL, []byte("other"))
		check(status == 403 && strings.Contains(said, "<Code>SignatureDoesNotMatch</Code>"), "%d %s", status, said)
	}
	key := "signed/plain"
	short := must(signer.PresignGetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key}, s3.WithPresignExpires(time.Second)))
	time.Sleep(2100 * time.Millisecond)
	status, said := exchange("GET", short.URL, nil)
	check(status == 403 && strings.Contains(said, "<Code>AccessDenied</Code>"), "%d %s", status, said)
	gone := must(signer.PresignDeleteObject(background, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: &key}, soon))
	status, said = exchange("DELETE", gone.URL, nil)
	check(status == 204, "%d %s", status, said)
}

// streams sends bodies whose length or content is not known before: over TLS the SDK signs none of them and puts the
// checksum behind the data; without TLS it can only send in parts.
func streams(c *s3.Client) {
	body := data(12*mib + 5)
	uploader := manager.NewUploader(c, func(u *manager.Uploader) { u.PartSize = 5 * mib })
	must(uploader.Upload(background, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("stream"), Body: io.MultiReader(bytes.NewReader(body))}))
	got := must(c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("stream")}))
	check(bytes.Equal(read(got.Body), body), "the stream came back as something else")
	if !strings.HasPrefix(os.Getenv("S3"), "https:") {
		return
	}
	must(c.PutObject(background, &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String("stream"), Body: io.MultiReader(bytes.NewReader(body[:mib])), ContentLength: aws.Int64(mib), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c,
	}))
	got = must(c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("stream"), ChecksumMode: types.ChecksumModeEnabled}))
	check(bytes.Equal(read(got.Body), body[:mib]) && got.ChecksumCRC32C != nil, "the stream came back as something else")
}

func strangers(*s3.Client) {
	as := func(key, secret string) *s3.Client {
		return client(os.Getenv("S3"), true, func(o *s3.Options) { o.Credentials = credentials.NewStaticCredentialsProvider(key, secret, "") })
	}
	_, err := as("AKIAUNKNOWN", "x").ListBuckets(background, &s3.ListBucketsInput{})
	fails(err, "InvalidAccessKeyId")
	_, err = as(os.Getenv("ACCESS_KEY"), "wrong").ListBuckets(background, &s3.ListBucketsInput{})
	fails(err, "SignatureDoesNotMatch")
}

func virtualHosts(c *s3.Client) {
	named := client(os.Getenv("S3_NAMED"), false)
	put(named, "by name/a b", []byte("named"))
	for _, c := range []*s3.Client{c, named} {
		got := must(c.GetObject(background, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("by name/a b")}))
		check(string(read(got.Body)) == "named", "both styles of address reach the same object")
	}
}

func end(c *s3.Client) {
	_, err := c.DeleteBucket(background, &s3.DeleteBucketInput{Bucket: aws.String(bucket)})
	fails(err, "BucketNotEmpty")
	// XML has no form for most control characters: keys with those are removed one by one.
	unwritable := func(key string) bool {
		return strings.ContainsFunc(key, func(r rune) bool { return r < ' ' && !strings.ContainsRune("\t\n\r", r) })
	}
	for _, key := range list(c, "odd/", 0) {
		if unwritable(key) {
			must(c.DeleteObject(background, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: &key}))
		}
	}
	for keys := range slices.Chunk(list(c, "", 0), 1000) {
		var wanted []types.ObjectIdentifier
		for _, key := range keys {
			wanted = append(wanted, types.ObjectIdentifier{Key: aws.String(key)})
		}
		answer := must(c.DeleteObjects(background, &s3.DeleteObjectsInput{Bucket: aws.String(bucket), Delete: &types.Delete{Objects: wanted, Quiet: aws.Bool(true)}}))
		check(len(answer.Errors) == 0, "%+v", answer.Errors)
	}
	check(len(list(c, "", 0)) == 0, "left: %q", list(c, "", 0))
	_, err = c.DeleteBucket(background, &s3.DeleteBucketInput{Bucket: aws.String(bucket)})
	done(err)
}

func put(c *s3.Client, key string, body []byte) *s3.PutObjectOutput {
	return must(c.PutObject(background, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(body)}))
}

// putAll writes objects that hold their own key.
func putAll(c *s3.Client, keys []string) {
	work := make(chan string)
	var group sync.WaitGroup
	for range 16 {
		group.Add(1)
		go func() {
			defer group.Done()
			for key := range work {
				put(c, key, []byte(key))
			}
		}()
	}
	for _, key := range keys {
		work <- key
	}
	close(work)
	group.Wait()
}

func list(c *s3.Client, prefix string, page int32) []string {
	input := s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: &prefix, EncodingType: types.EncodingTypeUrl}
	if page > 0 {
		input.MaxKeys = &page
	}
	var keys []string
	for pages := s3.NewListObjectsV2Paginator(c, &input); pages.HasMorePages(); {
		for _, object := range must(pages.NextPage(background)).Contents {
			// This SDK gives the key as it is in the answer.
			key, err := url.QueryUnescape(*object.Key)
			done(err)
			keys = append(keys, key)
		}
	}
	return keys
}

func exchange(method, to string, body []byte) (int, string) {
	request, err := http.NewRequest(method, to, bytes.NewReader(body))
	done(err)
	answer := must(http.DefaultClient.Do(request))
	return answer.StatusCode, string(read(answer.Body))
}

func data(size int) []byte {
	body := make([]byte, size)
	rand.New(rand.NewSource(int64(size))).Read(body)
	return body
}

func read(body io.ReadCloser) []byte {
	defer body.Close()
	return must(io.ReadAll(body))
}

func must[T any](value T, err error) T {
	done(err)
	return value
}

func done(err error) {
	if err != nil {
		panic(err)
	}
}

func check(holds bool, format string, values ...any) {
	if !holds {
		panic(fmt.Sprintf(format, values...))
	}
}

func fails(err error, code string) { failsWith(err, code) }

func failsWith(err error, codes ...string) {
	var refusal smithy.APIError
	check(errors.As(err, &refusal) && slices.Contains(codes, refusal.ErrorCode()), "expected %v, got %v", codes, err)
}
