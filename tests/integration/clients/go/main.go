// A round trip through the Go SDK as programs use it: put, metadata, tags, listing with folders, a
// parallel multipart upload and download, ranges, conditions, delete. Prints "ok" or fails.
// Arguments: bucket, megabytes of the large object. Endpoint and keys: the usual AWS_* environment.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func check(holds bool, format string, details ...any) {
	if !holds {
		log.Fatalf(format, details...)
	}
}

func random(size int) []byte {
	data := make([]byte, size)
	must(rand.Read(data))
	return data
}

func small(ctx context.Context, client *s3.Client, bucket *string) {
	data := random(100_000)
	for _, key := range []string{"a/one.bin", "a/b/two words.bin", "ü+&.bin"} {
		must(client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: bucket, Key: aws.String(key), Body: bytes.NewReader(data),
			ContentType: aws.String("text/x-check"), Metadata: map[string]string{"colour": "blue"},
			Tagging: aws.String("team=red"),
		}))
		found := must(client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String(key)}))
		check(bytes.Equal(must(io.ReadAll(found.Body)), data), "%s differs", key)
		check(found.Metadata["colour"] == "blue", "metadata %v", found.Metadata)
		check(*found.ContentType == "text/x-check", "type %s", *found.ContentType)
		tags := must(client.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{
			Bucket: bucket, Key: aws.String(key),
		}))
		check(len(tags.TagSet) == 1 && *tags.TagSet[0].Value == "red", "tags %v", tags.TagSet)
	}
	listed := must(client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket: bucket, Delimiter: aws.String("/"),
	}))
	check(len(listed.CommonPrefixes) == 1 && *listed.CommonPrefixes[0].Prefix == "a/", "folders")
	check(len(listed.Contents) == 1 && *listed.Contents[0].Key == "ü+&.bin", "keys")
}

func large(ctx context.Context, client *s3.Client, bucket *string, size int) {
	data := random(size)
	uploader := manager.NewUploader(client, func(u *manager.Uploader) { u.PartSize = 8 << 20 })
	must(uploader.Upload(ctx, &s3.PutObjectInput{
		Bucket: bucket, Key: aws.String("large"), Body: bytes.NewReader(data),
	}))
	buffer := manager.NewWriteAtBuffer(make([]byte, 0, size))
	must(manager.NewDownloader(client).Download(ctx, buffer, &s3.GetObjectInput{
		Bucket: bucket, Key: aws.String("large"),
	}))
	check(bytes.Equal(buffer.Bytes(), data), "the large object differs")
	found := must(client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: bucket, Key: aws.String("large"), Range: aws.String("bytes=-100"),
	}))
	check(bytes.Equal(must(io.ReadAll(found.Body)), data[size-100:]), "the range differs")
}

func refusals(ctx context.Context, client *s3.Client, bucket *string) {
	_, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("nothing")})
	var missing *types.NoSuchKey
	check(errors.As(err, &missing), "not NoSuchKey: %v", err)
	_, err = client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: bucket, Key: aws.String("large"), Body: bytes.NewReader(nil),
		IfNoneMatch: aws.String("*"),
	})
	var failed smithy.APIError
	check(errors.As(err, &failed) && failed.ErrorCode() == "PreconditionFailed", "%v", err)
}

func main() {
	ctx := context.Background()
	bucket := aws.String(os.Args[1])
	client := s3.NewFromConfig(must(config.LoadDefaultConfig(ctx)), func(o *s3.Options) {
		o.UsePathStyle = true
	})
	small(ctx, client, bucket)
	large(ctx, client, bucket, must(strconv.Atoi(os.Args[2]))<<20)
	refusals(ctx, client, bucket)
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{
		Bucket: bucket, MaxKeys: aws.Int32(2),
	})
	for pages.HasMorePages() {
		for _, entry := range must(pages.NextPage(ctx)).Contents {
			must(client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: entry.Key}))
		}
	}
	fmt.Println("ok")
}
