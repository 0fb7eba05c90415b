// Package web carries the built page. Its source is TypeScript (src/); dist/ is
// what `npm run build` makes of it, committed so that nobody needs Node to build
// or run, and checked byte for byte by `make web-check`.
package web

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// Page is the root folder of the built page.
func Page() fs.FS {
	page, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the path is a constant of this file
	}
	return page
}
