#!/bin/sh
# Runs every test, step by step, and prints how long each step took. What the
# steps say in full stands in out/test/*.log. `deploy/test.sh NAME...` runs the
# named steps only.
set -u
cd "$(dirname "$0")/.."
. deploy/env.sh
logs=out/test
mkdir -p "$logs"
tags=opus,nolibopusfile,netgo,osusergo
failed=

# `make check` vets; nobody debugs what is linked here.
export GOFLAGS="$GOFLAGS -vet=off -ldflags=-s"

# cgo and libopus are wanted here, but not by the product.
if ! { command -v pkg-config >/dev/null && pkg-config --exists opus && command -v gcc >/dev/null; }; then
	tags=netgo,osusergo
	echo "without libopus: bots send prepared frames, voices are not decoded"
fi

# step NAME COMMAND...: runs the command, keeps what it says, tells the time.
steps=$*
alone=0 # seconds of the steps that run no packages side by side
step() {
	name=$1
	shift
	case " ${steps:-$name} " in
	*" $name "*) ;;
	*) return 0 ;;
	esac
	printf '%-8s ' "$name"
	begun=$(date +%s)
	if "$@" >"$logs/$name.log" 2>&1; then
		verdict=ok
	else
		verdict=FAILED
		failed="$failed $name"
	fi
	seconds=$(($(date +%s) - begun))
	case $name in rooms | whole) ;; *) alone=$((alone + seconds)) ;; esac
	tests=$(grep -c '^ *--- PASS' "$logs/$name.log")
	skips=$(grep -c '^ *--- SKIP' "$logs/$name.log")
	printf '%-6s %d:%02d min' "$verdict" $((seconds / 60)) $((seconds % 60))
	[ "$tests" = 0 ] || printf ', %d tests passed, %d skipped' "$tests" "$skips"
	echo
	if [ "$verdict" = FAILED ]; then
		awk -f deploy/failures.awk "$logs/$name.log" | head -n 200
		echo "   all of it: $logs/$name.log"
	fi
}

rooms='./sfu/... ./edgeagent/... ./signaling/... ./allocator/... ./textchat/... ./internal/...'
# Tests of these link a NATS server, SQLite or a driver of CQL, which to compile with the
# race detector, too, takes as long as the tests: `make race` does.
engines='edgeagent/edgeagentserver|allocator/allocatorserver|textchat/(chatserver|internal/(cql|journal|sqlite))|internal/(bus|enrol)'
timed='crowd|forward|gateway|join|load|internal/(impair|lightclient|remote)'

# Real processes in network namespaces; without root only what needs none. Times are
# judged of faults that are far from their goals on a busy machine, too; of others what
# is lost, moved and ended. `deploy/test.sh faults` does one or two rounds of all.
fleet() {
	where=
	[ "$(id -u)" = 0 ] && command -v ip >/dev/null && command -v nft >/dev/null || where=--loopback
	make --no-print-directory fleet-test ARGS="--short --seed 1 $* $where"
}

# The rooms, those with the race detector that need no engine; beside them, for these wait
# a lot, the packages of the bench that measure no times.
rooms() {
	# shellcheck disable=SC2086 # lists of words
	raced=$(go list $rooms | grep -vE "/($engines)$")
	# shellcheck disable=SC2086
	go test -count=1 -v -race -tags "$tags" $raced &
	beside=$({ go list $rooms | grep -E "/($engines)$" && go list ./bench/... | grep -vE "/bench/($timed)$"; })
	# shellcheck disable=SC2086
	go test -count=1 -v -tags "$tags" $beside
	result=$?
	wait $! || result=1
	return $result
}

# The programs: what they do for people and bots, beside what they do for operators;
# then, one package after the other, what measures times, on both cores.
# -count=1: these run programs built from sources that the test cache does not see.
whole() {
	# What tests several text instances comes beside the rest of its package, which takes
	# longest. That one's log comes after the others': two that speak at once cannot be told
	# apart. What happens when addresses change is the business of `make closed-test`, the
	# libraries' own tests are that of `make text-test`.
	go test -count=1 -v -timeout 14m -tags "$tags" -skip '^(TestLedger|TestSeveralTexts|TestAddressChange|TestNATRebindOfPages|TestSuites)$' ./cmd/e2e >"$logs/e2e.log" 2>&1 &
	# shellcheck disable=SC2046 # lists of words
	go test -count=1 -v -p 1 -timeout 14m -tags "$tags" $(go list ./cmd/... | grep -vE '/cmd/(e2e|voicebench)$')
	result=$?
	go test -count=1 -v -timeout 14m -tags "$tags" -run '^(TestLedger|TestSeveralTexts)$' ./cmd/e2e || result=1
	wait $! || result=1
	cat "$logs/e2e.log"
	rm "$logs/e2e.log"
	# shellcheck disable=SC2046
	go test -count=1 -v -p 1 -timeout 14m -tags "$tags" $(go list ./bench/... | grep -E "/bench/($timed)$") ./cmd/voicebench || result=1
	return $result
}

begun_all=$(date +%s)
rm -f "$logs"/*.log
# shellcheck disable=SC2086 # lists of words
{
	step build env CGO_ENABLED=0 go build ./...
	step rooms rooms
	step alloc go test -v -run 'Alloc' ./sfu/...
	step bots sh -c 'cd cmd/e2e/testdata/discordjs && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund; }'
	step whole whole
	# An outage lasts 90 s, and wants the machine to itself: nothing may be lost.
	step fleet fleet --only engine,agent,node,drain,losslink,memory,outage --untimed agent,node,drain,losslink,memory,outage
	# Only when it is named: its goals are times, and want a machine to themselves.
	case " $steps " in *" faults "*) step faults fleet ;; esac
	step web make --no-print-directory web-check
	step smoke make --no-print-directory bench-smoke
}
seconds=$(($(date +%s) - begun_all))
# Of a run of single steps that would be a part of the part.
if [ -z "$steps" ]; then
	cat "$logs/rooms.log" "$logs/whole.log" | awk -v wall="$seconds" -v alone="$alone" -f deploy/share.awk
fi
printf 'all      %s %d:%02d min\n' "${failed:+FAILED:$failed,}" $((seconds / 60)) $((seconds % 60))
[ -z "$failed" ]
