#!/bin/sh
# Does what the README says on a Debian 12 with nothing installed: clone, make
# up, and the page answers. It builds the system by debootstrap under
# $FRESH_DIR (default: a temporary folder) and removes it, whatever happens.
# Needs root, debootstrap and curl.
set -eu
cd "$(dirname "$0")/.."
repo=$PWD
[ "$(id -u)" = 0 ] || { echo "fresh-test: must be root, for debootstrap and chroot" >&2; exit 1; }
for p in debootstrap curl; do
	command -v "$p" >/dev/null || { echo "fresh-test: please install $p" >&2; exit 1; }
done

mirror=$(sed -n -e 's/^URIs: *\([^ ]*\/debian\/*\)$/\1/p' -e 's/^deb *\(\[[^]]*\] *\)*\(http[^ ]*\/debian\/*\) .*/\2/p' \
	/etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n1)
mirror=${FRESH_MIRROR:-$mirror}
[ -n "$mirror" ] || { echo "fresh-test: name a Debian mirror in FRESH_MIRROR" >&2; exit 1; }
dir=$(mktemp -d "${FRESH_DIR:-${TMPDIR:-/tmp}}/voicefleet-fresh.XXXXXX")
root=$dir/root
# free KIND FIRST: the first port at or after FIRST that nothing here listens on,
# with three free ones behind it.
free() {
	p=$2
	while grep -qiE ":($(printf '%04x|%04x|%04x|%04x' "$p" $((p + 1)) $((p + 2)) $((p + 3)))) " "/proc/net/$1" "/proc/net/${1}6"; do
		p=$((p + 4))
	done
	echo "$p"
}
port=$(free tcp 18443)
media=$(free udp 51000)
up=

cleanup() {
	set +e
	# The whole group: chroot, make and the program.
	[ -z "$up" ] || { kill -TERM -"$up"; wait "$up"; } 2>/dev/null
	umount "$root/mnt/repo" "$root/proc" 2>/dev/null
	# Never remove through a mount that is still there.
	if ! grep -q " $dir" /proc/mounts; then rm -rf "$dir"; else echo "fresh-test: still mounted: $dir" >&2; fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { echo "fresh-test: $*"; }
begun=$(date +%s)

say "a Debian 12 from $mirror"
debootstrap --variant=minbase bookworm "$root" "$mirror" >"$dir/debootstrap.log" 2>&1 || { tail -n 20 "$dir/debootstrap.log" >&2; exit 1; }
mkdir -p "$root/mnt/repo"
mount -t proc proc "$root/proc"
# /dev is debootstrap's own: null, urandom and the like.
mount --bind -o ro "$repo" "$root/mnt/repo"
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/hosts "$root/etc/hosts"

# inside COMMAND: runs it in the fresh system with a clean environment, save for
# where packages and modules come from here.
go_env=$(. deploy/env.sh; for v in GOPROXY GONOSUMDB GOSUMDB GONOPROXY GOPRIVATE GOINSECURE; do
	value=$(go env "$v" 2>/dev/null)
	[ -z "$value" ] || printf '%s=%s ' "$v" "$value"
done)
inside() {
	# shellcheck disable=SC2086 # a list of words
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
		${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} ${no_proxy:+no_proxy="$no_proxy"} \
		$go_env chroot "$root" sh -euc "$1"
}

say "the commands of the README"
inside 'apt-get update -q && apt-get install -q -y --no-install-recommends git make ca-certificates' >"$dir/apt.log" 2>&1 || { tail -n 20 "$dir/apt.log" >&2; exit 1; }
# The authorities this machine trusts: a proxy on the way may have its own.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
inside 'git -c safe.directory="*" clone -q /mnt/repo /srv/voicefleet'

setsid sh -c '
	exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 '"$go_env"' \
		chroot "$1" sh -c "cd /srv/voicefleet && exec make up ARGS=\"--port $2 --media-port $3\""' sh "$root" "$port" "$media" >"$dir/up.log" 2>&1 &
up=$!
deadline=$(($(date +%s) + 900))
until curl -fsS -o "$dir/page.html" "http://localhost:$port/" 2>/dev/null; do
	if ! kill -0 "$up" 2>/dev/null; then
		cat "$dir/up.log" >&2
		say "make up ended before the page answered"
		exit 1
	fi
	if [ "$(date +%s)" -gt "$deadline" ]; then
		tail -n 40 "$dir/up.log" >&2
		say "the page did not answer within 15 minutes"
		exit 1
	fi
	sleep 1
done
grep -qi '<script' "$dir/page.html" || { say "what answered is not the page"; exit 1; }
curl -fsS -o "$dir/ca.pem" "http://localhost:$port/ca.pem"
curl -fsS --cacert "$dir/ca.pem" -o /dev/null "https://localhost:$port/"
curl -fsS -o /dev/null "http://localhost:$port/healthz"
tail -n 40 "$dir/up.log"
say "the page answers by http and https, $((($(date +%s) - begun) / 60)) minutes and $((($(date +%s) - begun) % 60)) seconds after an empty disk"
