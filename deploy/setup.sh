#!/bin/sh
# Installs what a make target needs, on Debian and Ubuntu by apt; elsewhere it
# says in one line what is missing. When everything is there it calls nothing
# and takes a few milliseconds.
#
#   deploy/setup.sh up     what `make up` needs: Go, make, git, CA certificates
#   deploy/setup.sh test   that, and what `make test` needs: a C compiler for
#                          -race, libopus, Chromium, Firefox, Node.js, nftables,
#                          Java 17 and Maven for the CQL server
set -eu
cd "$(dirname "$0")/.."
goal=${1:-up}

. deploy/env.sh

debian= ubuntu= codename=
if [ -r /etc/os-release ]; then
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	case "$(. /etc/os-release && echo " ${ID:-} ${ID_LIKE:-} ")" in
	*" ubuntu "*) ubuntu=yes ;;
	*" debian "*) debian=yes ;;
	esac
fi

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		echo "setup: must be root, or have sudo, for: $*" >&2
		exit 1
	fi
}

# want PROGRAM PACKAGE: notes the package when the program is missing.
packages= programs=
want() {
	command -v "$1" >/dev/null && return
	programs="$programs $1"
	packages="$packages $2"
}

# want_file FILE PACKAGE: the same for something that is not a program.
want_file() {
	[ -e "$1" ] && return
	programs="$programs $1"
	packages="$packages $2"
}

# The opus header has no fixed place; pkg-config knows it.
has_opus() { command -v pkg-config >/dev/null && pkg-config --exists opus; }

chromium_found() { command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; }
firefox_found() { command -v firefox-esr >/dev/null || command -v firefox >/dev/null; }

want make make
want git git
want_file /etc/ssl/certs/ca-certificates.crt ca-certificates
if [ "$goal" = test ]; then
	want gcc gcc
	want_file /usr/include/stdlib.h libc6-dev
	want pkg-config pkg-config
	has_opus || { programs="$programs libopus"; packages="$packages libopus-dev"; }
	want node nodejs
	want npm npm
	want nft nftables
	want ip iproute2
	want certutil libnss3-tools
	want curl curl
	ls /usr/lib/jvm/*17*/bin/java >/dev/null 2>&1 || want_file java-17 openjdk-17-jre-headless
	want mvn maven
	if [ -z "$ubuntu" ]; then
		chromium_found || { programs="$programs chromium"; packages="$packages chromium"; }
		firefox_found || { programs="$programs firefox-esr"; packages="$packages firefox-esr"; }
	fi
fi
need_go=
[ -n "$go_found" ] || need_go=yes

if [ -n "$packages$need_go" ] && [ -z "$debian$ubuntu" ]; then
	[ -z "$need_go" ] || programs="$programs go(1.21+)"
	echo "setup: please install:$programs" >&2
	exit 1
fi

if [ -n "$packages$need_go" ]; then
	echo "setup: installing$packages${need_go:+ and Go}" >&2
	export DEBIAN_FRONTEND=noninteractive
	as_root apt-get update -q
	# shellcheck disable=SC2086 # a list of words
	[ -z "$packages" ] || as_root apt-get install -q -y --no-install-recommends $packages
fi

if [ -n "$need_go" ]; then
	# Any Go from 1.21 on will do: it fetches the one that go.mod names.
	newest() { apt-cache search --names-only '^golang-1\.[0-9]+-go$' | sed 's/ .*//' | sort -V | tail -n1; }
	plain=$(apt-cache policy golang-go | sed -n 's/^  Candidate: [0-9]*:*\([0-9.]*\).*/\1/p')
	if [ -n "$plain" ] && newer "$plain" 1.21; then
		as_root apt-get install -q -y --no-install-recommends golang-go
	elif [ -n "$debian" ] && [ "$codename" = bookworm ]; then
		mirror=$(sed -n -e 's/^URIs: *\([^ ]*debian\/*\)$/\1/p' -e 's/^deb *\(\[[^]]*\] *\)*\(http[^ ]*debian\/*\) .*/\2/p' \
			/etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null | head -n1)
		if ! grep -qrs bookworm-backports /etc/apt/sources.list /etc/apt/sources.list.d; then
			[ -n "$mirror" ] || { echo "setup: no Debian mirror among the apt sources; add bookworm-backports to them" >&2; exit 1; }
			echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main" |
				as_root tee /etc/apt/sources.list.d/voicefleet-backports.list >/dev/null
			as_root apt-get update -q
		fi
		as_root apt-get install -q -y --no-install-recommends -t bookworm-backports golang-go
	elif package=$(newest) && [ -n "$package" ]; then
		as_root apt-get install -q -y --no-install-recommends "$package"
	fi
	. deploy/env.sh
	if [ -z "$go_found" ]; then
		echo "setup: no Go 1.21 or newer among the packages of this system; install it from https://go.dev/dl" >&2
		exit 1
	fi
fi

if [ "$goal" = test ]; then
	if ! newer "$(node --version | sed 's/^v//')" 20.19; then
		echo "setup: Node.js $(node --version) is too old to build the page; fetching a newer one into out/node" >&2
		mkdir -p out/node
		npm install --silent --no-save --no-audit --no-fund --prefix out/node node@22
	fi
	if [ -n "$ubuntu" ] && { ! chromium_found || ! firefox_found; }; then
		# Ubuntu has both as snaps only.
		command -v snap >/dev/null && as_root snap install chromium firefox || true
	fi
	chromium_found || echo "setup: please install: chromium (the tests of the page need it)" >&2
	firefox_found || echo "setup: please install: firefox (the tests of the page need it)" >&2
fi
