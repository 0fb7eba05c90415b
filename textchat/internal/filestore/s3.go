package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3Scheme begins the address of a bucket.
const S3Scheme = "s3://"

const (
	// s3Tries bounds how often a request is made: the client's own default, 10, takes
	// minutes.
	s3Tries = 3
	// s3Start bounds the look at the bucket when it is opened.
	s3Start = 15 * time.Second
	// s3Whole is up to which size an object is one request: larger ones than the largest
	// attachment there can be.
	s3Whole = 1 << 30
)

// S3Config says where a bucket is.
type S3Config struct {
	// Endpoint is HOST or HOST:PORT of the service, Plain that it is spoken to without
	// TLS, Region where the bucket is (default: asked for).
	Endpoint string
	Plain    bool
	Region   string
	// Bucket must be there; keys are put below Prefix, which is a key itself or empty.
	Bucket, Prefix string
	// Access, Secret and Session are the credentials.
	Access, Secret, Session string
	// Spool is the folder in which an upload waits until all of it has come (default:
	// that for temporary files): one is as large as an attachment may be.
	Spool string
}

// ParseS3 reads s3://HOST[:PORT]/BUCKET[/PREFIX] with the options region and tls after
// a "?". Credentials are not part of it: addresses are seen in the list of processes.
func ParseS3(address string) (S3Config, error) {
	var c S3Config
	u, err := url.Parse(address)
	if err != nil || u.Scheme+"://" != S3Scheme || u.Host == "" {
		return c, fmt.Errorf("want %sHOST/BUCKET", S3Scheme)
	}
	if u.User != nil {
		return c, errors.New("there are credentials in it: they belong in $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY")
	}
	c.Endpoint = u.Host
	c.Bucket, c.Prefix, _ = strings.Cut(strings.Trim(u.Path, "/"), "/")
	if c.Bucket == "" {
		return c, fmt.Errorf("a bucket is missing: want %sHOST/BUCKET", S3Scheme)
	}
	if c.Prefix != "" && check(c.Prefix) != nil {
		return c, fmt.Errorf("prefix %q: want letters, digits and /", c.Prefix)
	}
	options, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return c, fmt.Errorf("options %q cannot be read", u.RawQuery)
	}
	for name, values := range options {
		switch value := values[len(values)-1]; {
		case name == "region":
			c.Region = value
		case name == "tls" && (value == "on" || value == "off"):
			c.Plain = value == "off"
		case name == "tls":
			return c, fmt.Errorf("tls=%s: want on or off", value)
		default:
			return c, fmt.Errorf("unknown option %q; there are region and tls", name)
		}
	}
	return c, nil
}

// S3 is a bucket. Safe for concurrent use.
type S3 struct {
	client         *minio.Client
	bucket, prefix string // of keys: empty, or with a slash at its end
	spool          string
}

// OpenS3 looks whether the bucket is there.
func OpenS3(ctx context.Context, c S3Config) (*S3, error) {
	client, err := minio.New(c.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(c.Access, c.Secret, c.Session), Secure: !c.Plain, Region: c.Region, MaxRetries: s3Tries,
	})
	if err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s3Start)
	defer cancel()
	there, err := client.BucketExists(ctx, c.Bucket)
	if err == nil && !there {
		err = errors.New("there is no such bucket")
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %q at %s: %w", c.Bucket, c.Endpoint, err)
	}
	s := &S3{client: client, bucket: c.Bucket, spool: c.Spool}
	if c.Prefix != "" {
		s.prefix = c.Prefix + "/"
	}
	return s, nil
}

// Put keeps all of r, durably, and says how much that was. What fails leaves nothing:
// all of it has come before the service hears of it. A key is put once.
func (s *S3) Put(ctx context.Context, key string, r io.Reader) (n int64, err error) {
	if err := check(key); err != nil {
		return 0, fmt.Errorf("put object: %w", keyless(err))
	}
	f, err := os.CreateTemp(s.spool, "upload-")
	if err != nil {
		return 0, fmt.Errorf("put object: %w", keyless(err))
	}
	// Without a name it goes with this process, however that ends.
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := os.Remove(f.Name()); err != nil {
		return 0, fmt.Errorf("put object: %w", keyless(err))
	}
	n, err = io.Copy(f, r)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		// The client does not tell the length of an empty body that it signs piece by piece.
		options := minio.PutObjectOptions{PartSize: s3Whole, ContentType: "application/octet-stream", DisableContentSha256: n == 0}
		_, err = s.client.PutObject(ctx, s.bucket, s.prefix+key, f, n, options)
	}
	if err != nil {
		return 0, fmt.Errorf("put object: %w", keyless(err))
	}
	return n, nil
}

// Open reads an object (fs.ErrNotExist). ctx must last until it is closed.
func (s *S3) Open(ctx context.Context, key string) (io.ReadSeekCloser, error) {
	if check(key) != nil {
		return nil, fmt.Errorf("open object: %w", os.ErrNotExist)
	}
	o, err := s.client.GetObject(ctx, s.bucket, s.prefix+key, minio.GetObjectOptions{})
	if err != nil {
		return nil, fmt.Errorf("open object: %w", keyless(err))
	}
	if _, err := o.Stat(); err != nil {
		o.Close()
		if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
			err = os.ErrNotExist
		}
		return nil, fmt.Errorf("open object: %w", keyless(err))
	}
	return o, nil
}

// Drop removes an object, or all whose keys begin with key and a slash.
func (s *S3) Drop(ctx context.Context, key string) error {
	if err := check(key); err != nil {
		return fmt.Errorf("drop object: %w", keyless(err))
	}
	err := s.client.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{})
	if err == nil {
		err = s.list(ctx, key+"/", func(name string) error {
			return s.client.RemoveObject(ctx, s.bucket, name, minio.RemoveObjectOptions{})
		})
	}
	if err != nil {
		return fmt.Errorf("drop object: %w", keyless(err))
	}
	return nil
}

// Each calls f with the key of each object, in order.
func (s *S3) Each(ctx context.Context, f func(key string) error) error {
	err := s.list(ctx, "", func(name string) error {
		key := strings.TrimPrefix(name, s.prefix)
		if check(key) != nil {
			return nil // somebody else's
		}
		return f(key)
	})
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	return nil
}

// list calls f with the name of each object below a prefix.
func (s *S3) list(ctx context.Context, below string, f func(name string) error) error {
	ctx, cancel := context.WithCancel(ctx) // ends the listing
	defer cancel()
	for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + below, Recursive: true}) {
		if o.Err != nil {
			return o.Err
		}
		if err := f(o.Key); err != nil {
			return err
		}
	}
	return ctx.Err()
}
