package chatserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
	"voicefleet/textchat/internal/password"
	"voicefleet/textchat/internal/ratelimit"
	"voicefleet/textchat/internal/strictjson"
)

// bodyTimeout is how long a request body may take to arrive; requestTimeout how
// long a request may take in all.
const (
	bodyTimeout    = 10 * time.Second
	requestTimeout = 10 * time.Second
)

// call is one REST request under way.
type call struct {
	srv   *Server
	w     http.ResponseWriter
	r     *http.Request
	ctx   context.Context
	now   time.Time
	addr  string // the client's prefix, for rate limits
	route string // the bucket that clients know the route by
	user  textchat.User
	token textchat.TokenHash
	paths bool // see forAll
}

// run is a route's work: the status and body of a success (a nil body sends
// none), or an error.
type run func(*call) (status int, body any, err error)

// Who may call a route.
type access int

const (
	anybody  access = iota
	account         // a token
	operator        // the admin token
)

// route is one row of the table of routes.
type route struct {
	pattern string // as net/http wants it, below the version
	access  access
	rule    ratelimit.Rule // per user (or address) and major parameter
	run     run
}

func perSecond(n int) ratelimit.Rule { return ratelimit.Rule{Limit: n, Window: time.Second} }
func perMinute(n int) ratelimit.Rule { return ratelimit.Rule{Limit: n, Window: time.Minute} }

// routes are all there is of REST.
func (s *Server) routes() []route {
	read, write, react := perSecond(30), perSecond(10), perSecond(5)
	lim := s.cfg.Limits
	talk := ratelimit.Rule{Limit: lim.Messages, Window: 5 * time.Second}
	return []route{
		{"POST /auth/guest", anybody, perMinute(lim.Guests), (*call).authGuest},
		{"POST /auth/register", anybody, perMinute(lim.Registers), (*call).authRegister},
		{"POST /auth/login", anybody, perMinute(lim.Logins), (*call).authLogin},
		{"POST /auth/owner", anybody, perMinute(lim.Logins), (*call).authOwner},
		{"POST /auth/logout", account, write, (*call).authLogout},
		{"POST /auth/claim", account, perMinute(lim.Registers), (*call).authClaim},

		{"GET /gateway", anybody, read, (*call).gatewayInfo},
		{"GET /gateway/bot", account, read, (*call).gatewayBot},
		{"GET /users/@me", account, read, (*call).usersMe},
		{"PATCH /users/@me", account, perMinute(10), (*call).usersPatchMe},
		{"GET /users/@me/guilds", account, read, (*call).usersGuilds},
		{"DELETE /users/@me/guilds/{guild}", account, write, (*call).guildLeave},
		{"GET /users/{user}", account, read, (*call).usersGet},
		{"GET /oauth2/applications/@me", account, read, (*call).application},
		{"GET /applications/@me", account, read, (*call).application},
		{"GET /voice/regions", account, read, (*call).regions},

		{"GET /invites/{code}", anybody, perMinute(lim.Invites), (*call).inviteGet},
		{"POST /invites/{code}", account, perMinute(lim.Invites), (*call).inviteUse},
		{"DELETE /invites/{code}", account, write, (*call).inviteDelete},

		{"POST /guilds", account, perMinute(5), (*call).guildCreate},
		{"GET /guilds/{guild}", account, read, (*call).guildGet},
		{"PATCH /guilds/{guild}", account, write, (*call).guildPatch},
		{"GET /guilds/{guild}/channels", account, read, (*call).channelList},
		{"POST /guilds/{guild}/channels", account, write, (*call).channelCreate},
		{"PATCH /guilds/{guild}/channels", account, write, (*call).channelsArrange},
		{"GET /guilds/{guild}/roles", account, read, (*call).roleList},
		{"POST /guilds/{guild}/roles", account, write, (*call).roleCreate},
		{"PATCH /guilds/{guild}/roles", account, write, (*call).rolesArrange},
		{"GET /guilds/{guild}/roles/{role}", account, read, (*call).roleGet},
		{"PATCH /guilds/{guild}/roles/{role}", account, write, (*call).rolePatch},
		{"DELETE /guilds/{guild}/roles/{role}", account, write, (*call).roleDelete},
		{"GET /guilds/{guild}/members", account, read, (*call).memberList},
		{"GET /guilds/{guild}/members/search", account, read, (*call).memberSearch},
		{"GET /guilds/{guild}/members/{user}", account, read, (*call).memberGet},
		{"PATCH /guilds/{guild}/members/{user}", account, write, (*call).memberPatch},
		{"PATCH /guilds/{guild}/members/@me/nick", account, write, (*call).nickPatch},
		{"DELETE /guilds/{guild}/members/{user}", account, write, (*call).memberKick},
		{"PUT /guilds/{guild}/members/{user}/roles/{role}", account, write, (*call).memberRole},
		{"DELETE /guilds/{guild}/members/{user}/roles/{role}", account, write, (*call).memberRole},
		{"GET /guilds/{guild}/bans", account, read, (*call).banList},
		{"GET /guilds/{guild}/bans/{user}", account, read, (*call).banGet},
		{"PUT /guilds/{guild}/bans/{user}", account, write, (*call).banAdd},
		{"DELETE /guilds/{guild}/bans/{user}", account, write, (*call).banDrop},
		{"GET /guilds/{guild}/prune", account, perMinute(30), (*call).pruneCount},
		{"POST /guilds/{guild}/bulk-ban", account, perMinute(5), (*call).bansAdd},
		{"GET /guilds/{guild}/audit-logs", account, read, (*call).auditLog},
		{"GET /guilds/{guild}/webhooks", account, read, (*call).webhookList},
		{"GET /guilds/{guild}/invites", account, read, (*call).inviteList},
		{"GET /guilds/{guild}/regions", account, read, (*call).regions},
		{"GET /guilds/{guild}/voice-states/{user}", account, read, (*call).voiceState},
		{"PATCH /guilds/{guild}/voice-states/{user}", account, write, (*call).voicePatch},
		{"POST /guilds/{guild}/bots", account, perMinute(5), (*call).botCreate},

		{"GET /channels/{channel}", account, read, (*call).channelGet},
		{"PATCH /channels/{channel}", account, write, (*call).channelPatch},
		{"DELETE /channels/{channel}", account, write, (*call).channelDelete},
		{"PUT /channels/{channel}/permissions/{overwrite}", account, write, (*call).overwritePut},
		{"DELETE /channels/{channel}/permissions/{overwrite}", account, write, (*call).overwriteDelete},
		{"POST /channels/{channel}/invites", account, perMinute(20), (*call).inviteCreate},
		{"GET /channels/{channel}/invites", account, read, (*call).inviteList},
		{"POST /channels/{channel}/typing", account, perSecond(5), (*call).typing},
		{"GET /channels/{channel}/messages", account, read, (*call).messageList},
		{"POST /channels/{channel}/messages", account, talk, (*call).messageCreate},
		{"GET /channels/{channel}/messages/{message}", account, read, (*call).messageGet},
		{"PATCH /channels/{channel}/messages/{message}", account, talk, (*call).messageEdit},
		{"DELETE /channels/{channel}/messages/{message}", account, write, (*call).messageDelete},
		{"POST /channels/{channel}/messages/bulk-delete", account, perSecond(1), (*call).messagesDelete},
		{"PUT /channels/{channel}/messages/{message}/reactions/{emoji}/@me", account, react, (*call).reactionAdd},
		{"DELETE /channels/{channel}/messages/{message}/reactions/{emoji}/{user}", account, react, (*call).reactionDrop},
		{"GET /channels/{channel}/messages/{message}/reactions/{emoji}", account, read, (*call).reactionList},
		{"DELETE /channels/{channel}/messages/{message}/reactions/{emoji}", account, react, (*call).reactionsDrop},
		{"GET /channels/{channel}/messages/pins", account, read, (*call).pinPage},
		{"PUT /channels/{channel}/messages/pins/{message}", account, perSecond(2), (*call).pinAdd},
		{"DELETE /channels/{channel}/messages/{message}/{what}", account, react, (*call).pinOrReactions},
		{"GET /channels/{channel}/pins", account, read, (*call).pinList},
		{"PUT /channels/{channel}/pins/{message}", account, perSecond(2), (*call).pinAdd},
		{"DELETE /channels/{channel}/pins/{message}", account, perSecond(2), (*call).pinDrop},

		{"POST /channels/{channel}/threads", account, perMinute(30), (*call).threadCreate},
		{"POST /channels/{channel}/messages/{message}/threads", account, perMinute(30), (*call).threadOfMessage},
		{"GET /channels/{channel}/thread-members", account, read, (*call).threadMembers},
		{"GET /channels/{channel}/thread-members/{user}", account, read, (*call).threadMember},
		{"PUT /channels/{channel}/thread-members/{user}", account, write, (*call).threadJoin},
		{"DELETE /channels/{channel}/thread-members/{user}", account, write, (*call).threadLeave},
		{"GET /channels/{channel}/threads/archived/public", account, read, (*call).threadsPublic},
		{"GET /channels/{channel}/threads/archived/private", account, read, (*call).threadsPrivate},
		{"GET /channels/{channel}/users/@me/threads/archived/private", account, read, (*call).threadsJoined},
		{"GET /guilds/{guild}/threads/active", account, read, (*call).threadsActive},

		{"GET /users/@me/channels", account, read, (*call).dmList},
		{"POST /users/@me/channels", account, perMinute(30), (*call).dmOpen},

		{"GET /channels/{channel}/webhooks", account, read, (*call).webhookList},
		{"POST /channels/{channel}/webhooks", account, perMinute(30), (*call).webhookCreate},
		{"GET /webhooks/{webhook}", account, read, (*call).webhookGet},
		{"PATCH /webhooks/{webhook}", account, write, (*call).webhookPatch},
		{"DELETE /webhooks/{webhook}", account, write, (*call).webhookDelete},
		{"GET /webhooks/{webhook}/{token}", anybody, read, (*call).webhookGet},
		{"PATCH /webhooks/{webhook}/{token}", anybody, write, (*call).webhookPatch},
		{"DELETE /webhooks/{webhook}/{token}", anybody, write, (*call).webhookDelete},
		{"POST /webhooks/{webhook}/{token}", anybody, write, (*call).webhookPost},
		{"GET /webhooks/{webhook}/{token}/messages/{message}", anybody, read, (*call).hookMessageGet},
		{"PATCH /webhooks/{webhook}/{token}/messages/{message}", anybody, write, (*call).hookMessageEdit},
		{"DELETE /webhooks/{webhook}/{token}/messages/{message}", anybody, write, (*call).hookMessageDelete},

		{"POST /admin/reset-password", operator, read, (*call).adminReset},
		{"POST /admin/bots", operator, perSecond(100), (*call).adminBot},
		{"GET /admin/users", operator, read, (*call).adminUsers},
		{"GET /admin/users/{user}/export", operator, perMinute(30), (*call).adminExport},
		{"DELETE /admin/users/{user}", operator, perMinute(30), (*call).adminErase},
		{"GET /admin/guilds", operator, read, (*call).adminGuilds},
		{"GET /admin/guilds/{guild}/invites", operator, read, (*call).adminInvites},
	}
}

func (s *Server) newAPI() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range s.routes() {
		mux.Handle(rt.pattern, s.serveRoute(rt))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Via", "1.1 voicefleet") // clients take a 429 without it for a proxy's
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		path, err := unversioned(r.URL.EscapedPath())
		if err != nil {
			s.refuse(w, "none", err)
			return
		}
		r2 := r.Clone(r.Context())
		r2.URL.RawPath, r2.URL.Path = "", path
		if strings.Contains(path, "%") {
			r2.URL.RawPath = path
			if r2.URL.Path, err = pathUnescape(path); err != nil {
				s.refuse(w, "none", textchat.ErrNotFound)
				return
			}
		}
		h, pattern := mux.Handler(r2)
		if pattern == "" {
			// The mux knows whether only the method is wrong.
			probe := &statusProbe{header: http.Header{}}
			h.ServeHTTP(probe, r2)
			if probe.status == http.StatusMethodNotAllowed {
				w.Header().Set("Allow", probe.header.Get("Allow"))
				s.refuse(w, "none", textchat.ErrMethod)
				return
			}
			s.refuse(w, "none", textchat.ErrNotFound)
			return
		}
		mux.ServeHTTP(w, r2)
	})
}

type statusProbe struct {
	header http.Header
	status int
}

func (p *statusProbe) Header() http.Header         { return p.header }
func (p *statusProbe) Write(b []byte) (int, error) { return len(b), nil }
func (p *statusProbe) WriteHeader(status int)      { p.status = status }

// unversioned takes /api, /api/v9 or /api/v10 off a path.
func unversioned(path string) (string, error) {
	path = strings.TrimPrefix(path, "/api")
	rest, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return path, nil
	}
	version, rest, _ := strings.Cut(rest, "/")
	if n, err := strconv.Atoi(version); err != nil {
		return path, nil // /voice/regions
	} else if n != 9 && n != 10 {
		return "", textchat.Refuse(http.StatusBadRequest, textchat.CodeInvalidVersion, "Invalid API version provided.")
	}
	return "/" + rest, nil
}

// serveRoute is the frame around every route: who calls, how often, what came
// out.
func (s *Server) serveRoute(rt route) http.Handler {
	bucket := bucketName(rt.pattern)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timeout := requestTimeout
		switch {
		case rt.access == operator:
			timeout = operatorTimeout
		case isMultipart(r):
			timeout = uploadTimeout
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		c := &call{srv: s, w: w, r: r, ctx: ctx, now: time.Now(), addr: prefixKey(s.clientAddr(r)), route: bucket}
		defer func() {
			s.metrics.latency.Observe(time.Since(c.now).Seconds())
			if p := recover(); p != nil {
				s.panicked("rest_request", p)
				s.refuse(w, rt.pattern, textchat.ErrorOf(errors.New("panic")))
			}
		}()
		if err := c.admit(rt); err != nil {
			s.refuse(w, rt.pattern, err)
			return
		}
		status, body, err := rt.run(c)
		if err != nil {
			s.refuse(w, rt.pattern, err)
			return
		}
		s.metrics.requests.WithLabelValues(rt.pattern, strconv.Itoa(status)).Inc()
		switch body := body.(type) {
		case nil:
			w.WriteHeader(status)
		case stream:
			body.send(w)
		case raw:
			body.send(w, status)
		default:
			writeJSON(w, status, body)
		}
	})
}

func bucketName(pattern string) string {
	var h uint32 = 2166136261 // FNV-1a: short, and tells nothing
	for _, b := range []byte(pattern) {
		h = (h ^ uint32(b)) * 16777619
	}
	return strconv.FormatUint(uint64(h), 16)
}

// admit checks token and rates. The headers of the rate go out with every
// answer.
func (c *call) admit(rt route) error {
	s := c.srv
	who := "ip|" + c.addr
	switch rt.access {
	case operator:
		if err := c.admitOperator(); err != nil {
			return err
		}
		who = "operator"
	case account:
		// A wrong token costs a look-up; the address pays for it.
		if a := s.rates.Take(c.now, "token|"+c.addr, perSecond(20*s.cfg.Limits.Requests)); !a.OK {
			return c.limited(a, globally)
		}
		auth := c.r.Header.Get("Authorization")
		auth = strings.TrimPrefix(strings.TrimPrefix(auth, "Bot "), "Bearer ")
		var err error
		if c.user, c.token, err = s.authenticate(c.ctx, auth); err != nil {
			return err
		}
		who = c.user.ID.String()
	}
	if rt.access != operator {
		if a := s.rates.Take(c.now, "all|"+who, perSecond(s.cfg.Limits.Requests)); !a.OK {
			return c.limited(a, globally)
		}
	}
	major := c.r.PathValue("guild") + c.r.PathValue("channel") + c.r.PathValue("webhook")
	if len(major) > 20 {
		return textchat.ErrNotFound
	}
	a := s.rates.Take(c.now, c.route+"|"+who+"|"+major, rt.rule)
	if !a.OK {
		return c.limited(a, byUser)
	}
	setRateHeaders(c.w.Header(), a, c.now, c.route)
	return nil
}

func setRateHeaders(h http.Header, a ratelimit.Answer, now time.Time, bucket string) {
	h.Set("X-RateLimit-Limit", strconv.Itoa(a.Limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(a.Remaining))
	h.Set("X-RateLimit-Reset", strconv.FormatFloat(float64(a.Reset.UnixMilli())/1000, 'f', 3, 64))
	h.Set("X-RateLimit-Reset-After", strconv.FormatFloat(max(0, a.Reset.Sub(now).Seconds()), 'f', 3, 64))
	h.Set("X-RateLimit-Bucket", bucket)
}

// whose says, in X-RateLimit-Scope, whose budget is used up.
type whose string

const (
	byUser   whose = "user"   // of the caller, for this route or for something it does
	byAll    whose = "shared" // of a thing that many use: a webhook, an account's name
	globally whose = "global" // of the caller, for all routes
)

// limited is a 429, whatever is used up: it is counted, and its headers tell of that
// budget, under the name by which clients know the route: they hold back what goes there.
func (s *Server) limited(h http.Header, now time.Time, a ratelimit.Answer, scope whose, route string) *textchat.Error {
	a.Remaining = 0
	setRateHeaders(h, a, now, route)
	h.Set("X-RateLimit-Scope", string(scope))
	if scope == globally {
		h.Set("X-RateLimit-Global", "true")
	}
	s.metrics.limited.Inc()
	return &textchat.Error{Status: http.StatusTooManyRequests, Message: "You are being rate limited.", RetryAfter: max(a.Reset.Sub(now), time.Millisecond)}
}

func (c *call) limited(a ratelimit.Answer, scope whose) *textchat.Error {
	return c.srv.limited(c.w.Header(), c.now, a, scope, c.route)
}

// writeLimited is a 429 outside of REST, where an address is the caller.
func (s *Server) writeLimited(w http.ResponseWriter, now time.Time, a ratelimit.Answer, route string) {
	w.Header().Set("Via", "1.1 voicefleet")
	writeError(w, s.limited(w.Header(), now, a, byUser, route))
}

// refuse answers with an error and counts it.
func (s *Server) refuse(w http.ResponseWriter, pattern string, err error) {
	e := textchat.ErrorOf(err)
	switch {
	case errors.Is(err, password.ErrBusy):
		e = textchat.Unavailable("Too many people log in right now, try again.", 2*time.Second)
	case e.Status == http.StatusInternalServerError && !errors.Is(err, context.Canceled):
		s.cfg.Log.Error("request failed", "route", pattern, "err", err)
	}
	s.metrics.requests.WithLabelValues(pattern, strconv.Itoa(e.Status)).Inc()
	writeError(w, e)
}

func writeError(w http.ResponseWriter, e *textchat.Error) {
	if e.RetryAfter == 0 {
		writeJSON(w, e.Status, e)
		return
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	writeJSON(w, e.Status, map[string]any{"message": e.Message, "code": e.Code, "retry_after": e.RetryAfter.Seconds(),
		"global": w.Header().Get("X-RateLimit-Global") != ""})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	b := encode(body)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client may be gone
}

// raw is a body that is JSON already, in parts.
type raw [][]byte

func (b raw) send(w http.ResponseWriter, status int) {
	n := 0
	for _, part := range b {
		n += len(part)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(n))
	w.WriteHeader(status)
	for _, part := range b {
		_, _ = w.Write(part) // the client may be gone
	}
}

// body reads the request's JSON into v. No body is an empty object.
func (c *call) body(v any) error { return c.bodyOf(v, textchat.MaxBody) }

// arrived is the body, when it has come: at most so many bytes, in time, and none of
// them is inflated.
func (c *call) arrived(most int64) ([]byte, error) {
	if err := c.plain(); err != nil {
		return nil, err
	}
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(c.now.Add(c.srv.bodyTimeout))
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, most))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, textchat.ErrTooLarge
	}
	if err != nil {
		return nil, textchat.ErrInvalidJSON
	}
	_ = rc.SetReadDeadline(time.Time{})
	return b, nil
}

// plain refuses a body that is compressed: a few bytes could become any number.
func (c *call) plain() error {
	if e := c.r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return textchat.Refuse(http.StatusUnsupportedMediaType, textchat.CodeGeneral, "Bodies are taken without Content-Encoding only.")
	}
	return nil
}

// bodyOf reads a body of at most so many bytes: JSON, or the fields of a form.
func (c *call) bodyOf(v any, most int64) error {
	b, err := c.arrived(most)
	if err != nil {
		return err
	}
	if strings.HasPrefix(c.r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") && len(b) > 0 {
		fields, err := url.ParseQuery(string(b))
		if err != nil {
			return textchat.ErrInvalidJSON
		}
		object := make(map[string]string, len(fields))
		for k, list := range fields {
			if len(list) != 1 || !utf8.ValidString(k) || !utf8.ValidString(list[0]) {
				return textchat.ErrInvalidJSON
			}
			object[k] = list[0]
		}
		b = encode(object)
	}
	return decode(b, v)
}

// list reads a body that is an array into the field "list" of *v.
func (c *call) list(v any) error {
	b, err := c.arrived(textchat.MaxBody)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) {
		return textchat.ErrInvalidJSON
	}
	err = decode(append(append([]byte(`{"list":`), b...), '}'), v)
	if e := (*textchat.Error)(nil); errors.As(err, &e) && e.Fields != nil {
		own := *e // the fields of the array, which has no name
		own.Fields = textchat.FieldErrors{}
		for name, problem := range e.Fields {
			own.Fields[strings.TrimPrefix(name, "list.")] = problem
		}
		return &own
	}
	return err
}

// decode reads strict JSON into v and names the field that is wrong.
func decode(b []byte, v any) error {
	if len(bytes.TrimSpace(b)) == 0 {
		b = []byte("{}") // some clients send a type without a body
	}
	if strictjson.Check(b, textchat.MaxDepth) != nil {
		return textchat.ErrInvalidJSON
	}
	err := json.Unmarshal(b, v)
	if err == nil {
		return nil
	}
	message := "This value has the wrong form."
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		message = "This value has the wrong type."
	}
	path := wrongField(b, reflect.TypeOf(v).Elem())
	if path == "" {
		path = "_"
	}
	return textchat.InvalidField(path, "BASE_TYPE_BAD_TYPE", message)
}

// wrongField is the path to the first value within b, by names and places in lists,
// that cannot be read into its part of a form; empty: it is b itself.
func wrongField(b []byte, form reflect.Type) string {
	fits := func(value []byte, form reflect.Type) bool {
		return json.Unmarshal(value, reflect.New(form).Interface()) == nil
	}
	for {
		if inner, ok := reflect.Zero(form).Interface().(interface{ holds() reflect.Type }); ok {
			form = inner.holds()
		} else if form.Kind() == reflect.Pointer {
			form = form.Elem()
		} else {
			break
		}
	}
	switch {
	case reflect.PointerTo(form).Implements(reflect.TypeFor[json.Unmarshaler]()):
	case form.Kind() == reflect.Struct:
		var object map[string]json.RawMessage
		if json.Unmarshal(b, &object) != nil {
			return ""
		}
		for i := range form.NumField() {
			f := form.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			for key, value := range object {
				if strings.EqualFold(key, name) && !fits(value, f.Type) { // as encoding/json finds fields
					return strings.TrimSuffix(name+"."+wrongField(value, f.Type), ".")
				}
			}
		}
	case form.Kind() == reflect.Slice:
		var list []json.RawMessage
		if json.Unmarshal(b, &list) != nil {
			return ""
		}
		for i, value := range list {
			if !fits(value, form.Elem()) {
				return strings.TrimSuffix(strconv.Itoa(i)+"."+wrongField(value, form.Elem()), ".")
			}
		}
	}
	return ""
}

// id reads a snowflake of the path; what is none is unknown.
func (c *call) id(name string, unknown *textchat.Error) (textchat.ID, error) {
	v := c.r.PathValue(name)
	if v == "@me" && name == "user" {
		return c.user.ID, nil
	}
	id, err := snowflake.Parse(v)
	if err != nil || id == 0 || id > math.MaxInt64 {
		return 0, unknown
	}
	return id, nil
}

// queryInt reads a number of the query within bounds.
func (c *call) queryInt(name string, otherwise, least, most int) (int, error) {
	v := c.r.URL.Query().Get(name)
	if v == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		return 0, textchat.InvalidField(name, "NUMBER_TYPE_RANGE", "Must be a number from "+strconv.Itoa(least)+" to "+strconv.Itoa(most)+".")
	}
	return n, nil
}

func (c *call) queryID(name string) (textchat.ID, error) {
	v := c.r.URL.Query().Get(name)
	if v == "" {
		return 0, nil
	}
	id, err := snowflake.Parse(v)
	if err != nil {
		return 0, textchat.InvalidField(name, "NUMBER_TYPE_COERCE", "Value is not a snowflake.")
	}
	return min(id, math.MaxInt64-1), nil
}

// guild finds the guild of the path; to strangers it is unknown.
func (c *call) guild() (*owner, error) {
	id, err := c.id("guild", textchat.ErrUnknownGuild)
	if err != nil {
		return nil, err
	}
	o, err := c.srv.owner(id)
	if err != nil {
		return nil, err
	}
	return o, o.ask(c.ctx, func() error {
		if o.core.Member(c.user.ID) == nil {
			return textchat.ErrUnknownGuild
		}
		return nil
	})
}

// inGuild finds the guild of the path, and reads the id of something in it.
func (c *call) inGuild(name string, unknown *textchat.Error) (*owner, textchat.ID, error) {
	o, err := c.guild()
	if err != nil {
		return nil, 0, err
	}
	id, err := c.id(name, unknown)
	return o, id, err
}

// channel finds a channel of the path and what the caller may do there. One that
// it may not see is refused, to members; to strangers it is unknown.
func (c *call) channel(need textchat.Permissions) (*owner, textchat.Channel, textchat.Permissions, error) {
	id, err := c.id("channel", textchat.ErrUnknownChannel)
	if err != nil {
		return nil, textchat.Channel{}, 0, err
	}
	o, err := c.srv.ownerOf(c.ctx, id)
	if err != nil {
		return nil, textchat.Channel{}, 0, err
	}
	type seen struct {
		channel textchat.Channel
		perms   textchat.Permissions
	}
	v, err := read(c.ctx, o, func(*guild.Guild) (seen, error) {
		g, ok := o.knowing(c.user.ID, id)
		if !ok {
			return seen{}, textchat.ErrUnknownChannel
		}
		ch, p := g.Channel(id), g.Permissions(c.user.ID, id)
		switch {
		case !p.Has(textchat.ViewChannel):
			return seen{}, textchat.ErrMissingAccess
		case !p.Has(need):
			return seen{}, textchat.ErrMissingPerms
		}
		return seen{*ch, p}, nil
	})
	return o, v.channel, v.perms, err
}

// clientAddr is where a request comes from: the peer, or what trusted proxies
// say, read from the nearest on.
func (s *Server) clientAddr(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.trusted(addr); i-- {
		next, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = next.Unmap()
	}
	return addr
}

func (s *Server) trusted(a netip.Addr) bool {
	for _, p := range s.cfg.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// prefixKey is the unit that limits count by: an IPv4 address or an IPv6 /64.
func prefixKey(a netip.Addr) string {
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// secure says whether the client came by TLS.
func (s *Server) secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && s.trusted(peer.Addr().Unmap()) && r.Header.Get("X-Forwarded-Proto") == "https"
}

// gatewayURL is the gateway as this client reaches it.
func (s *Server) gatewayURL(r *http.Request) string {
	return "ws" + strings.TrimPrefix(s.baseURL(r), "http") + "/gateway"
}

// baseURL is this server as this client reaches it.
func (s *Server) baseURL(r *http.Request) string {
	if p := s.cfg.PublicURL; p != "" {
		return strings.TrimRight(p, "/")
	}
	scheme := "http://"
	if s.secure(r) {
		scheme = "https://"
	}
	host := r.Host
	if !plausibleHost(host) {
		host = "localhost"
	}
	return scheme + host
}

// plausibleHost keeps a Host header from putting anything but a host into what
// we send back.
func plausibleHost(h string) bool {
	if h == "" || len(h) > 255 {
		return false
	}
	for _, c := range []byte(h) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == ':', c == '[', c == ']', c == '_':
		default:
			return false
		}
	}
	if _, port, err := net.SplitHostPort(h); err == nil {
		_, err := strconv.ParseUint(port, 10, 16)
		return err == nil
	}
	return true
}
