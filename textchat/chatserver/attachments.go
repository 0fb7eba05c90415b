package chatserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/gif"  // sizes of pictures are told to clients
	_ "image/jpeg" // sizes of pictures are told to clients
	_ "image/png"  // sizes of pictures are told to clients
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/ratelimit"
)

// Files keeps what people attach. Keys are paths of letters and digits.
type Files interface {
	// Put keeps all of r, durably; what fails leaves nothing.
	Put(ctx context.Context, key string, r io.Reader) (int64, error)
	// Open reads a file (fs.ErrNotExist). ctx must last until it is closed.
	Open(ctx context.Context, key string) (io.ReadSeekCloser, error)
	// Drop removes a file, or all whose keys begin with key and a slash.
	Drop(ctx context.Context, key string) error
	// Each calls f with the key of each file.
	Each(ctx context.Context, f func(key string) error) error
}

const (
	// uploadTimeout bounds one request that carries files, downloadTimeout one
	// that fetches one: 25 MiB in 5 minutes are 700 kbit/s.
	uploadTimeout   = 5 * time.Minute
	downloadTimeout = 5 * time.Minute
	// dropTimeout bounds what is removed after one request: shorter than a server may
	// take to end.
	dropTimeout = 5 * time.Second
	// uploadsAtOnce bounds the uploads under way (each costs 64 KiB), and those of
	// one user; more are told to come back.
	uploadsAtOnce  = 64
	uploadsPerUser = 4
	// sniffed is how much of a file is looked at for its type and size in pixels.
	sniffed = 64 << 10
	// maxParts bounds the parts of a form: files, payload_json, some fields.
	maxParts = textchat.MaxFiles + 16
	// fileKeyLen characters make the URL of a file unguessable: 127 bits.
	fileKeyLen = 22
)

// uploads counts those under way.
type uploads struct {
	mu sync.Mutex
	// Guarded by mu.
	all    int
	byUser map[textchat.ID]int
}

func (u *uploads) begin(user textchat.ID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all >= uploadsAtOnce || u.byUser[user] >= uploadsPerUser {
		return false
	}
	if u.byUser == nil {
		u.byUser = make(map[textchat.ID]int)
	}
	u.all++
	u.byUser[user]++
	return true
}

func (u *uploads) end(user textchat.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all--
	if u.byUser[user]--; u.byUser[user] == 0 {
		delete(u.byUser, user)
	}
}

// upload is a file that came with a form and is kept already.
type upload struct {
	n    string // its number in the form
	file textchat.Attachment
}

// attachmentForm is what a form says of a file: one that comes with it (ID is its
// number there) or one the message has already.
type attachmentForm struct {
	ID          textchat.ID `json:"id"`
	Filename    *string     `json:"filename"`
	Description *string     `json:"description"`
}

func isMultipart(r *http.Request) bool {
	return strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "multipart/form-data")
}

// form reads the body of a message into v: JSON, fields of a form, or a form with
// files. may says whether files are taken. When the message is not stored in the
// end the files must be dropped.
func (c *call) form(v any, p place, user textchat.ID) ([]upload, error) {
	if !isMultipart(c.r) {
		return nil, c.bodyOf(v, textchat.MaxMessageBody)
	}
	if err := c.plain(); err != nil {
		return nil, err
	}
	if !c.srv.uploads.begin(user) {
		return nil, textchat.Unavailable("Too many uploads are under way, try again.", time.Second)
	}
	defer c.srv.uploads.end(user)
	list, err := c.multipart(v, p, user)
	if err != nil {
		c.discard(list)
		return nil, err
	}
	return list, nil
}

var fileField = regexp.MustCompile(`^(?:files\[(\d{1,9})\]|file(\d{0,9}))$`)

// multipart reads the parts in whatever order they come.
func (c *call) multipart(v any, p place, user textchat.ID) (list []upload, err error) {
	rc := http.NewResponseController(c.w)
	_ = rc.SetWriteDeadline(c.now.Add(uploadTimeout + bodyTimeout))
	most := int64(c.srv.cfg.Limits.File) << 20
	body := &patient{r: http.MaxBytesReader(c.w, c.r.Body, textchat.MaxFiles*most+textchat.MaxMessageBody+64<<10), rc: rc, wait: c.srv.bodyTimeout}
	_, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || params["boundary"] == "" {
		return nil, textchat.ErrInvalidJSON
	}
	var payload []byte
	fields, left := map[string]any{}, textchat.MaxMessageBody
	mr := multipart.NewReader(body, params["boundary"])
	for n := 0; ; n++ {
		part, err := mr.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || n >= maxParts {
			return list, formError(err)
		}
		name := part.FormName()
		m := fileField.FindStringSubmatch(name)
		if m == nil {
			b, err := io.ReadAll(io.LimitReader(part, int64(left)+1))
			left -= len(b)
			switch {
			case err != nil:
				return list, formError(err)
			case left < 0: // all of them together
				return list, textchat.ErrTooLarge
			case name == "payload_json" && payload != nil:
				return list, textchat.ErrInvalidJSON
			case name == "payload_json":
				payload = b
			case name == "tts":
				fields[name] = string(b) == "true"
			case utf8.Valid(b):
				fields[name] = string(b)
			default:
				return list, textchat.ErrInvalidJSON
			}
			continue
		}
		switch {
		case !p.perms.Has(textchat.AttachFiles):
			return list, textchat.ErrMissingPerms
		case len(list) >= textchat.MaxFiles:
			return list, textchat.InvalidField("files", "BASE_TYPE_BAD_LENGTH", "Must be 10 or fewer in length.")
		case slices.ContainsFunc(list, func(u upload) bool { return u.n == m[1]+m[2] }):
			return list, textchat.InvalidField("files", "BASE_TYPE_DUPLICATE", "Two files have one number.")
		}
		u, err := c.keep(part, p.channel.ID, most)
		if err != nil {
			return list, err
		}
		u.n = m[1] + m[2]
		list = append(list, u)
		kib := int(u.file.Size>>10) + 1
		if a := c.srv.slow.TakeN(c.now, "files|"+user.String(), ratelimit.Rule{Limit: c.srv.cfg.Limits.Files << 10, Window: time.Hour}, kib); !a.OK {
			return list, c.limited(a, byUser)
		}
	}
	if payload == nil {
		payload, err = json.Marshal(fields)
		if err != nil {
			return list, textchat.ErrInvalidJSON
		}
	}
	return list, decode(payload, v)
}

// formError is what a form that cannot be read is answered.
func formError(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return textchat.ErrFileTooLarge
	}
	return textchat.Refuse(http.StatusBadRequest, textchat.CodeInvalidForm, "The form cannot be read.")
}

// patient reads a body for as long as some of it keeps coming.
type patient struct {
	r     io.Reader
	rc    *http.ResponseController
	wait  time.Duration // for more of it
	until time.Time
}

func (p *patient) Read(b []byte) (int, error) {
	if now := time.Now(); now.After(p.until.Add(-p.wait / 2)) {
		p.until = now.Add(p.wait)
		_ = p.rc.SetReadDeadline(p.until)
	}
	return p.r.Read(b)
}

// keep stores one file while it comes in.
func (c *call) keep(part *multipart.Part, channel textchat.ID, most int64) (upload, error) {
	_, params, _ := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	a := textchat.Attachment{ID: c.srv.newID(), Filename: filename(params["filename"])}
	in := bufio.NewReaderSize(part, sniffed)
	head, err := in.Peek(sniffed)
	if err != nil && !errors.Is(err, io.EOF) {
		return upload{}, formError(err)
	}
	a.ContentType = http.DetectContentType(head)
	if strings.HasPrefix(a.ContentType, "image/") {
		if img, _, err := image.DecodeConfig(bytes.NewReader(head)); err == nil {
			a.Width, a.Height = &img.Width, &img.Height
		}
	}
	key := fileKey(channel, a.ID, randomCode(fileKeyLen))
	body := &counted{r: io.LimitReader(in, most+1)}
	a.Size, err = c.srv.files.Put(c.ctx, key, body)
	switch {
	case body.err != nil: // the client's fault, or its connection's
		return upload{}, formError(body.err)
	case err != nil:
		c.srv.cfg.Log.Error("keep attachment", "err", err)
		return upload{}, textchat.Unavailable("The file could not be kept, try again.", 5*time.Second)
	}
	a.URL = filePath + key + "/" + url.PathEscape(a.Filename)
	u := upload{file: a}
	if a.Size > most {
		c.discard([]upload{u})
		return upload{}, textchat.ErrFileTooLarge
	}
	return u, nil
}

// counted remembers the error that its reader ended with.
type counted struct {
	r   io.Reader
	err error
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

func fileKey(channel, id textchat.ID, secret string) string {
	return channel.String() + "/" + id.String() + "/" + secret
}

// discard drops files that no message has.
func (c *call) discard(list []upload) {
	for _, u := range list {
		c.srv.dropFiles(fileOf(u.file))
	}
}

// fileOf is the key of an attachment.
func fileOf(a textchat.Attachment) string {
	key := strings.TrimPrefix(a.URL, filePath)
	return key[:max(0, strings.LastIndexByte(key, '/'))]
}

// filesOf are the keys of a message's attachments.
func filesOf(m textchat.Message) []string {
	keys := make([]string, len(m.Attachments))
	for i, a := range m.Attachments {
		keys[i] = fileOf(a)
	}
	return keys
}

// dropFiles removes files in the background, also while the server ends; one that
// stays costs only its space.
func (s *Server) dropFiles(keys ...string) {
	if len(keys) == 0 {
		return
	}
	s.task(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
		defer cancel()
		for _, k := range keys {
			if err := s.files.Drop(ctx, k); err != nil {
				s.cfg.Log.Warn("drop attachment", "err", err)
			}
		}
	})
}

// filename makes a plain name of what a client calls a file: no path, no
// control characters, no leading dots, not too long.
func filename(v string) string {
	v = v[strings.LastIndexAny(v, `/\`)+1:]
	v = strings.TrimLeft(clean(strings.ToValidUTF8(v, "")), ".")
	if len(v) > textchat.MaxFilename {
		ext := path.Ext(v)
		if len(ext) > 16 {
			ext = ""
		}
		v = strings.ToValidUTF8(v[:textchat.MaxFilename-len(ext)], "") + ext
	}
	if v == "" {
		return "file"
	}
	return v
}

// attach puts the files of a form on a message: those it keeps, as the form
// lists them, and those that came. Without a list it keeps what it has.
func attach(m *textchat.Message, list *[]attachmentForm, came []upload) error {
	keep := m.Attachments
	described := map[string]*attachmentForm{}
	if list != nil {
		keep = []textchat.Attachment{}
		for i := range *list {
			f := &(*list)[i]
			if f.Description != nil && utf8.RuneCountInString(*f.Description) > textchat.MaxAlt {
				return textchat.InvalidField(fmt.Sprintf("attachments.%d.description", i), "BASE_TYPE_MAX_LENGTH", "Must be 1024 or fewer in length.")
			}
			old := slices.IndexFunc(m.Attachments, func(a textchat.Attachment) bool { return a.ID == f.ID })
			if old >= 0 {
				keep = append(keep, m.Attachments[old])
				continue
			}
			n := f.ID.String()
			if !slices.ContainsFunc(came, func(u upload) bool { return u.number() == n }) {
				return textchat.InvalidField(fmt.Sprintf("attachments.%d.id", i), "ATTACHMENT_NOT_FOUND", "There is no such file.")
			}
			described[n] = f
		}
	}
	m.Attachments = slices.Clone(keep)
	for _, u := range came {
		a := u.file
		if f := described[u.number()]; f != nil {
			a.Description = f.Description
			if f.Filename != nil {
				a.Filename = filename(*f.Filename)
				a.URL = filePath + fileOf(a) + "/" + url.PathEscape(a.Filename)
			}
		}
		m.Attachments = append(m.Attachments, a)
	}
	if len(m.Attachments) > textchat.MaxFiles {
		return textchat.InvalidField("attachments", "BASE_TYPE_BAD_LENGTH", "Must be 10 or fewer in length.")
	}
	return nil
}

// number is the file's number without leading zeros; "file" alone is 0.
func (u upload) number() string {
	n, err := strconv.Atoi(u.n)
	if err != nil {
		n = 0
	}
	return strconv.Itoa(n)
}

// inline are the types that a browser may show by itself. Everything else is
// saved: markup and scripts of strangers must not run under our name.
var inline = []string{"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "audio/", "video/", "application/ogg", "text/plain"}

// attachment serves a file. Whoever has its URL may read it.
func (s *Server) attachment(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	now := time.Now()
	if a := s.rates.Take(now, "download|"+prefixKey(s.clientAddr(r)), perSecond(4*s.cfg.Limits.Requests)); !a.OK {
		s.writeLimited(w, now, a, bucketName("GET /attachments"))
		return
	}
	// /attachments/channel/id/secret/name, of which only the name is a stranger's.
	parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), filePath), "/")
	if len(parts) != 4 || len(parts[2]) != fileKeyLen {
		http.NotFound(w, r)
		return
	}
	channel, err1 := snowflake.Parse(parts[0])
	id, err2 := snowflake.Parse(parts[1])
	name, err3 := pathUnescape(parts[3])
	if errors.Join(err1, err2, err3) != nil {
		http.NotFound(w, r)
		return
	}
	f, err := s.files.Open(r.Context(), fileKey(channel, id, parts[2]))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.cfg.Log.Error("read attachment", "err", err)
			http.Error(w, "cannot read", http.StatusInternalServerError)
			return
		}
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		http.Error(w, "cannot read", http.StatusInternalServerError)
		return
	}
	kind, disposition := http.DetectContentType(head[:n]), "inline"
	if !slices.ContainsFunc(inline, func(p string) bool { return strings.HasPrefix(kind, p) }) {
		kind, disposition = "application/octet-stream", "attachment"
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", mime.FormatMediaType(disposition, map[string]string{"filename": filename(name)}))
	h.Set("Cache-Control", "private, max-age=31536000, immutable") // a file never changes
	_ = http.NewResponseController(w).SetWriteDeadline(now.Add(downloadTimeout))
	http.ServeContent(w, r, "", id.Time(), f)
}
