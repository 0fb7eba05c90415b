#!/bin/sh
# Makes the targets of make that are given, one after the other, whatever becomes of
# each, and sums up at the end: which have met what they promise, and their figures. What
# they said stays in out/soak. Status 1: one of them missed something.
set -u
mkdir -p out/soak
for step; do
	echo "== $step"
	{ ${MAKE:-make} --no-print-directory "$step" 2>&1; echo $? >"out/soak/$step.status"; } | tee "out/soak/$step.txt"
done
echo
echo "== summary"
missed=0
for step; do
	if [ "$(cat "out/soak/$step.status")" = 0 ]; then
		echo "met     $step"
	else
		echo "MISSED  $step"
		missed=1
	fi
	# Verdicts and figures of tests, goals of reports.
	grep -E '^ *--- (PASS|FAIL|SKIP)|^ +[a-z0-9_]+_test\.go:[0-9]+: |^(met|MISSED|PARTIAL|note:)' "out/soak/$step.txt" | cut -c1-300 | sed 's/^/          /'
done
exit $missed
