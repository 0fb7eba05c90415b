#!/bin/sh
# Counts the tests that the last `make test` skipped, and fails if one of them is
# not in deploy/skips.txt with its reason.
set -eu
cd "$(dirname "$0")/.."
skipped=$(cat out/test/*.log | sed -n 's/^ *--- SKIP: \([^ ]*\) .*/\1/p' | sort -u)
count=0
unknown=0
for test in $skipped; do
	count=$((count + 1))
	if reason=$(sed 's/#.*//' deploy/skips.txt | grep -E "^$test[[:space:]]+[^[:space:]]"); then
		echo "skipped, as known: $reason"
	else
		echo "skipped, and not in deploy/skips.txt: $test"
		unknown=$((unknown + 1))
	fi
done
[ "$unknown" = 0 ] || echo "$unknown tests skipped unexpectedly"
tests() { cat out/test/*.log | grep -c "^ *--- $1" || true; }
echo "$(tests PASS) passed, $(tests FAIL) failed, $(tests SKIP) skipped"
[ "$unknown" = 0 ]
