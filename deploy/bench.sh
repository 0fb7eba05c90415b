#!/bin/sh
# Measures everything there is to measure on this machine, step by step, and keeps
# the reports as bench/results/DATE/NAME.json and .html. `deploy/bench.sh NAME...`
# runs the named steps only; `smoke` is the short form that CI runs (4 minutes at
# most), whose reports stay in out/bench.
set -u
cd "$(dirname "$0")/.."
. deploy/env.sh
tags=opus,nolibopusfile,netgo,osusergo
if ! { command -v pkg-config >/dev/null && pkg-config --exists opus && command -v gcc >/dev/null; }; then
	tags=netgo,osusergo
	echo "without libopus: bots send prepared frames, voices are not decoded"
fi
CGO_ENABLED=0 go build -o bin/voicefleet ./cmd/voicefleet || exit 1
go build -tags "$tags" -o bin/voicebench ./cmd/voicebench || exit 1

steps=$*
results=bench/results/$(date -u +%F)
smoke=
if [ "$steps" = smoke ]; then
	smoke=yes
	results=out/bench
fi
mkdir -p "$results"
missed=
failed=

# step NAME ARGS...: runs voicebench with a report, tells the time and the verdict.
step() {
	name=$1
	shift
	case " ${steps:-$name} " in
	*" $name "* | " smoke ") ;;
	*) return 0 ;;
	esac
	echo
	echo "== $name: voicebench $*"
	begun=$(date +%s)
	bin/voicebench "$@" --json "$results/$name.json" --html "$results/$name.html"
	status=$?
	seconds=$(($(date +%s) - begun))
	case $status in
	0) verdict="goals met" ;;
	2) verdict="GOALS MISSED" missed="$missed $name" ;;
	*) verdict="FAILED" failed="$failed $name" ;;
	esac
	printf '== %s: %s, %d:%02d min\n' "$name" "$verdict" $((seconds / 60)) $((seconds % 60))
}

begun_all=$(date +%s)
if [ -n "$smoke" ]; then
	step forward forward --cases 25x25,3x300 --window 3s --rounds 3 --against bench/results/2026-12-01/forward.json
	step ci-smoke scenario run ci-smoke
else
	bin/voicebench doctor || echo "== the machine could be better: see above"
	step forward forward
	step parity scenario run parity
	step defaults scenario run defaults
	step 500x8 scenario run 500x8
	step discord-2018 scenario run discord-2018
	step stage scenario run stage
	step small-rooms scenario run small-rooms
	step join-storm scenario run join-storm
	step memory memory --sessions 1000,3000 --talk
	step join join
	step gateway gateway
	step crowd crowd
	step store store
	step capacity capacity 500x8 --start 500 --most 900 --tolerance 0.1
fi
seconds=$(($(date +%s) - begun_all))
echo
printf '== all: %d:%02d min; reports in %s\n' $((seconds / 60)) $((seconds % 60)) "$results"
[ -z "$missed" ] || echo "== goals missed:$missed"
[ -z "$failed" ] || echo "== could not measure:$failed"
[ -z "$missed$failed" ]
