package chatserver

import (
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

func pathUnescape(p string) (string, error) { return url.PathUnescape(p) }

// newRoot deals requests out: /api, /gateway, /attachments, the page.
func (s *Server) newRoot() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			// It may have had a Content-Length too, by which a proxy has seen its end
			// elsewhere: what follows is nobody's (RFC 9112 section 6.1).
			w.Header().Set("Connection", "close")
		}
		p := r.URL.Path
		switch {
		case p == "/api" || strings.HasPrefix(p, "/api/"):
			s.api.ServeHTTP(w, r)
		case p == "/gateway" || p == "/gateway/":
			s.gateway(w, r)
		case strings.HasPrefix(p, filePath):
			s.attachment(w, r)
		case s.cfg.Page == nil:
			http.NotFound(w, r)
		default:
			s.page(w, r)
		}
	})
}

// policy lets the page load only what came with it, speak to this host (and by
// WebSocket to voice gateways on others), and use the microphone.
const policy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self'; " +
	"img-src 'self' data: blob:; font-src 'self'; media-src 'self' blob: mediastream:; connect-src 'self' ws: wss:; " +
	"manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// page serves the built client. A path that is no file is a page by its name
// (/fleet, the operator's console) or a place within the main one (/invite/CODE,
// /channels/...), except below /assets.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Permissions-Policy", "microphone=(self), camera=(self), display-capture=(self), speaker-selection=(self), geolocation=(), payment=(), usb=()")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	hashed := strings.HasPrefix(name, "assets/")
	if name == "" || !isFile(s.cfg.Page, name) {
		if hashed || path.Ext(name) != "" && !strings.Contains(name, "/") {
			http.NotFound(w, r)
			return
		}
		if name += ".html"; !isFile(s.cfg.Page, name) {
			name = "index.html"
		}
	}
	// Vite names what lies in assets by its content.
	if hashed {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		h.Set("Cache-Control", "no-cache")
	}
	f, err := s.cfg.Page.Open(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	content, ok := f.(io.ReadSeeker)
	if !ok {
		b, err := io.ReadAll(f)
		if err != nil {
			http.Error(w, "cannot read", http.StatusInternalServerError)
			return
		}
		content = bytes.NewReader(b)
	}
	http.ServeContent(w, r, name, time.Time{}, content)
}

func isFile(fsys fs.FS, name string) bool {
	if !fs.ValidPath(name) {
		return false
	}
	st, err := fs.Stat(fsys, name)
	return err == nil && st.Mode().IsRegular()
}
