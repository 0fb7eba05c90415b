# Sourced by the Makefile and the scripts from the root of the tree: finds a Go
# and a Node.js that are new enough, wherever setup.sh has put them.

# newer A B: whether version A is at least B.
newer() {
	[ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$2" ]
}

# go_version DIR: the version of DIR/go itself, without the toolchain it may
# switch to.
go_version() {
	GOTOOLCHAIN=local "$1/go" version 2>/dev/null | sed -n 's/^go version go\([0-9.]*\).*/\1/p'
}

go_wanted=$(sed -n 's/^go //p' go.mod)

# From 1.21 on Go fetches by itself the toolchain that go.mod names. The one on
# PATH comes first, then those of go.dev and of Debian's and Ubuntu's packages.
go_found=
for dir in "$(dirname "$(command -v go 2>/dev/null || echo /usr/bin/go)")" /usr/local/go/bin $(ls -d /usr/lib/go-1.*/bin 2>/dev/null | sort -rV); do
	[ -x "$dir/go" ] || continue
	version=$(go_version "$dir")
	if [ -n "$version" ] && newer "$version" 1.21; then
		go_found=$version
		case ":$PATH:" in
		*":$dir:"*) ;;
		*) PATH=$dir:$PATH ;;
		esac
		# Two of them on PATH: the one that was chosen comes first.
		[ "$(command -v go)" = "$dir/go" ] || PATH=$dir:$PATH
		break
	fi
done
if [ -n "$go_found" ] && ! newer "$go_found" "$go_wanted"; then
	# Debian's package sets "local", which would refuse our go.mod.
	GOTOOLCHAIN=auto
	export GOTOOLCHAIN
fi

# The page is built with Vite, which wants Node.js 20.19; Debian 12 has 18.
# setup.sh then puts a newer one here.
if [ -x out/node/node_modules/node/bin/node ]; then
	PATH=$PWD/out/node/node_modules/node/bin:$PATH
fi
export PATH

# With and without cgo the same packages: what one build compiled is of use to the next.
GOFLAGS="${GOFLAGS:+$GOFLAGS }-tags=netgo,osusergo"
export GOFLAGS
