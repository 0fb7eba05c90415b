#!/bin/sh
# A quick look before a commit: form, vet, staticcheck and the beliefs about the
# tree, then -race tests of the packages changed since HEAD (or since $1).
set -eu
cd "$(dirname "$0")/.."
. deploy/env.sh
since=${1:-HEAD}

go vet ./...
go tool staticcheck ./...
go test ./cmd

changed=$({ git diff --name-only "$since"; git ls-files --others --exclude-standard; } | grep '\.go$' | xargs -r -n1 dirname | sort -u | while read -r dir; do
	# A folder that was removed, or that holds no package, has nothing to test.
	ls "$dir"/*.go >/dev/null 2>&1 && echo "./$dir" || true
done)
if [ -n "$changed" ]; then
	# shellcheck disable=SC2086 # a list of words
	go test -race $changed
fi
