package chatserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	neturl "net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"voicefleet/textchat"
)

// part is one part of a form.
type part struct {
	name, file string
	body       []byte
}

// upload sends a form in the order of its parts.
func (w *world) upload(method, path, token string, parts ...part) answer {
	w.t.Helper()
	var buf bytes.Buffer
	mw := multipart.NewWriter(&buf)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		d := fmt.Sprintf(`form-data; name=%q`, p.name)
		if p.file != "" {
			d += fmt.Sprintf(`; filename="%s"`, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p.file))
			h.Set("Content-Type", "text/html") // what a client says of a file does not count
		}
		h.Set("Content-Disposition", d)
		pw, err := mw.CreatePart(h)
		if err != nil {
			w.t.Fatal(err)
		}
		_, _ = pw.Write(p.body)
	}
	_ = mw.Close()
	return w.send(method, path, token, mw.FormDataContentType(), &buf)
}

// send makes a request with a body of any kind.
func (w *world) send(method, path, token, kind string, body io.Reader) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, w.http.URL+"/api/v10"+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	resp, err := w.http.Client().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	a := answer{status: resp.StatusCode, header: resp.Header, raw: raw}
	_ = json.Unmarshal(raw, &a.body)
	return a
}

func (w *world) fetch(url string) (int, http.Header, string) {
	w.t.Helper()
	resp, err := w.http.Client().Get(url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(b)
}

// kept counts the files in the store.
func (w *world) kept() (n int) {
	w.t.Helper()
	if err := w.srv.files.Each(context.Background(), func(string) error { n++; return nil }); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// bucket is one of an S3 server in this process.
func bucket(t *testing.T) Files {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("files"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	at, err := ParseFiles("s3://" + strings.TrimPrefix(server.URL, "http://") + "/files?tls=off&region=us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	files, err := at.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func picture(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 7, 5))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAttachments(t *testing.T) {
	t.Run("Folder", func(t *testing.T) { testAttachments(t, nil) })
	t.Run("Bucket", func(t *testing.T) { testAttachments(t, bucket(t)) })
}

func testAttachments(t *testing.T, files Files) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.File, c.Files = 1, files }, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	general := w.channelID(ann, "general")
	path := "/channels/" + general + "/messages"
	b := w.enter(bob)
	// The payload may come after the files, whose numbers need not begin at 0.
	r := w.upload("POST", path, ann.token,
		part{"files[1]", "../../etc/pass\\wd\u202egnp.png", picture(t)},
		part{"files[2]", "", []byte("no name")},
		part{"payload_json", "", []byte(`{"content":"hi","attachments":[{"id":1,"description":"a picture"},{"id":"2","filename":"..\\x.html"}]}`)})
	if r.status != 200 || r.body["content"] != "hi" {
		t.Fatalf("upload: %d %s", r.status, r.raw)
	}
	one, two := field(r.body, "attachments.0").(map[string]any), field(r.body, "attachments.1").(map[string]any)
	if one["filename"] != "wdgnp.png" || one["content_type"] != "image/png" || one["width"] != 7.0 || one["height"] != 5.0 || one["description"] != "a picture" ||
		one["url"] != one["proxy_url"] || !strings.HasPrefix(one["url"].(string), w.http.URL+"/attachments/"+general+"/") {
		t.Fatalf("first file: %v", one)
	}
	if two["filename"] != "x.html" || two["size"] != 7.0 {
		t.Fatalf("second file: %v", two)
	}
	if e := b.event("MESSAGE_CREATE"); field(e, "attachments.0.url") != one["url"] {
		t.Fatalf("event: %v", e["attachments"])
	}
	status, h, body := w.fetch(one["url"].(string))
	if status != 200 || body != string(picture(t)) || h.Get("Content-Type") != "image/png" || !strings.HasPrefix(h.Get("Content-Disposition"), "inline") ||
		h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") {
		t.Fatalf("fetched: %d %v", status, h)
	}
	url := one["url"].(string)
	for _, bad := range []string{w.http.URL + "/attachments/" + general, w.http.URL + "/attachments/..%2f..%2ftextchat.db", w.http.URL + "/attachments/1/2/../../x",
		strings.Replace(url, "/attachments/"+general, "/attachments/..", 1), url + "/more", url[:len(url)-20] + "x"} {
		if status, _, _ := w.fetch(bad); status != 404 {
			t.Errorf("%s: %d", bad, status)
		}
	}
	req, err := http.NewRequest("GET", two["url"].(string), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Range", "bytes=3-6")
	resp, err := w.http.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	some, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusPartialContent || string(some) != "name" {
		t.Fatalf("a part: %d %q %v", resp.StatusCode, some, err)
	}
	// An edit keeps what it lists.
	id := r.body["id"].(string)
	m := w.upload("PATCH", path+"/"+id, ann.token, part{"payload_json", "", []byte(`{"attachments":[{"id":"` + two["id"].(string) + `"},{"id":"0"}]}`)},
		part{"files[0]", "n.txt", []byte("new")})
	if m.status != 200 || len(m.body["attachments"].([]any)) != 2 || field(m.body, "attachments.0.id") != two["id"] || field(m.body, "attachments.1.filename") != "n.txt" {
		t.Fatalf("edit: %d %s", m.status, m.raw)
	}
	w.do("DELETE", path+"/"+id, boss.token, nil)
	// What was refused leaves nothing.
	for _, c := range []struct {
		name   string
		parts  []part
		status int
		code   float64
		field  string
	}{
		{"too large", []part{{"files[0]", "x", make([]byte, 1<<20+1)}}, 413, 50045, ""},
		{"too many", func() (l []part) {
			for i := range 11 {
				l = append(l, part{fmt.Sprintf("files[%d]", i), "x", []byte("x")})
			}
			return l
		}(), 400, 50035, "files"},
		{"one number twice", []part{{"files[0]", "x", nil}, {"files[0]", "y", nil}}, 400, 50035, "files"},
		{"a file that did not come", []part{{"files[0]", "x", nil}, {"payload_json", "", []byte(`{"attachments":[{"id":3}]}`)}}, 400, 50035, "attachments.0.id"},
		{"bad payload", []part{{"files[0]", "x", nil}, {"payload_json", "", []byte(`{`)}}, 400, 50109, ""},
		{"two payloads", []part{{"payload_json", "", []byte(`{}`)}, {"payload_json", "", []byte(`{"content":"x"}`)}}, 400, 50109, ""},
		{"bad UTF-8", []part{{"files[0]", "x", nil}, {"content", "", []byte("\xff")}}, 400, 50109, ""},
		{"nothing", []part{{"content", "", []byte(" ")}}, 400, 50006, ""},
		{"too long", []part{{"files[0]", "x", nil}, {"content", "", bytes.Repeat([]byte("x"), 2001)}}, 400, 50035, "content"},
		{"long description", []part{{"files[0]", "x", nil}, {"payload_json", "", []byte(`{"attachments":[{"id":0,"description":"` + strings.Repeat("x", 1025) + `"}]}`)}}, 400, 50035, "attachments.0.description"},
		{"a huge payload", []part{{"payload_json", "", make([]byte, 300<<10)}}, 413, 40005, ""},
	} {
		r := w.upload("POST", path, ann.token, c.parts...)
		if r.status != c.status || r.body["code"] != c.code || c.field != "" && field(r.body, "errors."+c.field) == nil {
			t.Errorf("%s: %d %.200s", c.name, r.status, r.raw)
		}
	}
	if r := w.send("POST", path, ann.token, "multipart/form-data", strings.NewReader("x")); r.status != 400 {
		t.Errorf("no boundary: %d %s", r.status, r.raw)
	}
	if r := w.send("POST", path, ann.token, "multipart/form-data; boundary=b", strings.NewReader("--b\r\nContent-Disposition: form-data; name=\"files[0]\"; filename=\"x\"\r\n\r\nhalf")); r.status != 400 {
		t.Errorf("broken off: %d %s", r.status, r.raw)
	}
	w.do("PUT", "/channels/"+general+"/permissions/"+w.guildID(), boss.token, map[string]any{"type": 0, "deny": "32768"})
	if r := w.upload("POST", path, ann.token, part{"files[0]", "x", nil}); r.status != 403 || r.body["code"] != 50013.0 {
		t.Errorf("without the permission: %d %s", r.status, r.raw)
	}
	// A plain form is a message too.
	if r := w.send("POST", path, ann.token, "application/x-www-form-urlencoded", strings.NewReader("content=a+b")); r.status != 200 || r.body["content"] != "a b" {
		t.Errorf("form: %d %s", r.status, r.raw)
	}
	w.end() // everything in the background has ended
	if n := w.kept(); n != 0 {
		t.Errorf("%d files are left over", n)
	}
}

// TestBucketBackup: a backup has what is in the bucket, and brings it to another one.
func TestBucketBackup(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Files = bucket(t) }, nil)
	ann := w.guest("Ann")
	r := w.upload("POST", "/channels/"+w.channelID(ann, "general")+"/messages", ann.token, part{"files[0]", "a.txt", []byte("words")})
	if r.status != 200 {
		t.Fatalf("upload: %d %s", r.status, r.raw)
	}
	dir, data := t.TempDir(), filepath.Join(t.TempDir(), "data")
	if err := w.srv.Backup(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if err := Restore(ctx, dir, data); err != nil {
		t.Fatal(err)
	}
	to := bucket(t)
	for _, want := range []int{1, 0} { // what is there is not brought again
		if n, err := RestoreFiles(ctx, data, to); n != want || err != nil {
			t.Fatalf("%d files brought back, %v; want %d", n, err, want)
		}
	}
	url, err := neturl.Parse(field(r.body, "attachments.0.url").(string))
	if err != nil {
		t.Fatal(err)
	}
	f, err := to.Open(ctx, fileOf(textchat.Attachment{URL: url.Path}))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); string(b) != "words" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestEmbedShowsFile: a picture of an embed may be a file of its message.
func TestEmbedShowsFile(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	path := "/channels/" + w.channelID(ann, "general") + "/messages"
	r := w.upload("POST", path, ann.token, part{"files[0]", "a.png", picture(t)}, part{"payload_json", "", []byte(`{"embeds":[{"image":{"url":"attachment://a.png"},
		"footer":{"text":"x","icon_url":"attachment://none.png"}}]}`)})
	if r.status != 200 || field(r.body, "embeds.0.image.url") != field(r.body, "attachments.0.url") || field(r.body, "embeds.0.footer.icon_url") != "attachment://none.png" {
		t.Fatalf("posted: %d %s", r.status, r.raw)
	}
	if m := w.do("GET", path+"/"+r.body["id"].(string), ann.token, nil).body; field(m, "embeds.0.image.url") != field(r.body, "attachments.0.url") {
		t.Fatalf("read: %v", m["embeds"])
	}
}

// TestFileTypes: what could run in a browser under our name is saved instead,
// whatever it is called.
func TestFileTypes(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	path := "/channels/" + w.channelID(ann, "general") + "/messages"
	for _, c := range []struct {
		name, body, kind string
		inline           bool
	}{
		{"a.png", "<html><script>alert(1)</script>", "application/octet-stream", false},
		{"a.html", "plain words", "text/plain; charset=utf-8", true},
		{"a.svg", `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>`, "application/octet-stream", false},
		{"a.pdf", "%PDF-1.7", "application/octet-stream", false},
		{"a.bin", "\x00\x01\x02", "application/octet-stream", false},
		{"a.ogg", "OggS\x00aaaa", "application/ogg", true},
		{`q";x="y.txt`, "words", "text/plain; charset=utf-8", true},
	} {
		r := w.upload("POST", path, ann.token, part{"files[0]", c.name, []byte(c.body)})
		if r.status != 200 {
			t.Fatalf("%s: %d %s", c.name, r.status, r.raw)
		}
		status, h, body := w.fetch(field(r.body, "attachments.0.url").(string))
		if status != 200 || body != c.body || h.Get("Content-Type") != c.kind || strings.HasPrefix(h.Get("Content-Disposition"), "inline") != c.inline {
			t.Errorf("%s: %d %v", c.name, status, h)
		}
	}
}

func TestUploadBudget(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Files = 1 }, nil)
	ann := w.guest("Ann")
	path := "/channels/" + w.channelID(ann, "general") + "/messages"
	half := part{"files[0]", "x", make([]byte, 600<<10)}
	if r := w.upload("POST", path, ann.token, half); r.status != 200 {
		t.Fatalf("first: %d %s", r.status, r.raw)
	}
	if r := w.upload("POST", path, ann.token, half); r.status != 429 || r.body["retry_after"].(float64) < 3000 {
		t.Fatalf("second: %d %s", r.status, r.raw)
	}
}

func TestFilename(t *testing.T) {
	for in, want := range map[string]string{"": "file", "..": "file", "a/b": "b", `C:\x\y.txt`: "y.txt", ".env": "env", "a\x00b\n": "ab", "\u202efdp.exe": "fdp.exe",
		"\xff\xfe": "file", "ä.png": "ä.png", strings.Repeat("x", 300) + ".png": strings.Repeat("x", 251) + ".png",
		strings.Repeat("ä", 200): strings.Repeat("ä", 127)} {
		if got := filename(in); got != want {
			t.Errorf("%.20q: %q", in, got)
		}
	}
}
