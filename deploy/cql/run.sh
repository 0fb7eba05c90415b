#!/bin/sh
# Starts a real CQL server for tests: Apache Cassandra 5.0 from its Maven
# artifact, one throw-away node. The jars (67 MB, from Maven Central) are fetched
# once and kept. Prints the node's address and process id once it answers, and
# ends with the node: on SIGINT or SIGTERM, or, with --follow, when its standard
# input ends; each line there has it kill the node, start it again on its data, and
# print its address and process id anew.
#
#   deploy/cql/run.sh [--follow] [quick|safe|durable]
#
# quick (default) is up in 4 to 6 s and takes 0.9 GB; it may lose the last 10 s
# when killed, its tables too. safe acknowledges what is on the disk and survives
# SIGKILL, in as little memory: for crash tests. durable is safe with a third of the
# machine's memory, 8 GB at most: for latency figures.
# --fetch only fetches the jars.
#
# By environment: CQL_HOST (127.0.0.1), CQL_PORT (19042), CQL_STORAGE_PORT
# (17000), CQL_TOKEN (0), CQL_SEEDS (CQL_HOST), CQL_HEAP; CQL_DIR is the data
# folder (default: a temporary one, removed at the end); CQL_LIB is where the jars
# are kept. Three nodes with quorum: 127.0.0.1 to 127.0.0.3, the tokens
# -6148914691236517206, 0 and 6148914691236517205, CQL_SEEDS=127.0.0.1,
# CQL_HEAP=384m each, and CQL_PATIENCE=30000: how long one that begins may wait for
# the others' answer, in ms.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
follow= profile=quick fetch=
for arg; do
	case $arg in
	--follow) follow=yes ;;
	--fetch) fetch=yes ;;
	quick | safe | durable) profile=$arg ;;
	*) echo "cql: unknown argument $arg; want [--follow] [quick|safe|durable]" >&2 && exit 2 ;;
	esac
done

version=$(sed -n 's/.*<cassandra.version>\([^<]*\)<.*/\1/p' "$here/pom.xml")
lib=${CQL_LIB:-${XDG_CACHE_HOME:-$HOME/.cache}/voicefleet/cassandra-$version}

# Cassandra 5.0 runs on Java 11 and 17; the options here are those of 17.
java=
for candidate in "${JAVA_HOME:-/nowhere}/bin/java" "$(command -v java || echo /nowhere)" /usr/lib/jvm/java-17-*/bin/java /usr/lib/jvm/*-17*/bin/java; do
	[ -x "$candidate" ] || continue
	case $("$candidate" -version 2>&1) in
	*'version "17'*) java=$candidate && break ;;
	esac
done
if [ -z "$java" ]; then
	echo "cql: needs Java 17: apt-get install openjdk-17-jre-headless" >&2
	exit 3
fi
if [ ! -d "$lib" ]; then
	if ! command -v mvn >/dev/null; then
		echo "cql: needs Maven to fetch Cassandra: apt-get install maven" >&2
		exit 3
	fi
	# Two that fetch at once both succeed: the first to finish names the folder.
	mkdir -p "$(dirname "$lib")"
	part=$(mktemp -d "$lib.XXXXXX")
	if ! mvn -q -B -f "$here/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory="$part" >&2; then
		rm -rf "$part"
		echo "cql: cannot fetch Cassandra $version; is Maven Central reachable?" >&2
		exit 4
	fi
	chmod 755 "$part"
	mv -T "$part" "$lib" 2>/dev/null || rm -rf "$part"
fi
[ -z "$fetch" ] || exit 0

host=${CQL_HOST:-127.0.0.1}
port=${CQL_PORT:-19042}
temporary=
dir=${CQL_DIR:-}
if [ -z "$dir" ]; then
	dir=$(mktemp -d)
	temporary=yes
fi
mkdir -p "$dir/logs"
# Each writer waits for the disk: many of them share one sync.
commitlog='commitlog_sync: group\ncommitlog_sync_group_window: 1ms' segment=8MiB requests=128
case $profile in
quick)
	commitlog='commitlog_sync: periodic\ncommitlog_sync_period: 10s' memtable=96MiB writes=8 heap=${CQL_HEAP:-512m}
	jvm='-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dcassandra.unsafesystem=true -Dcassandra.test.flush_local_schema_changes=false'
	;;
safe)
	memtable=96MiB writes=64 heap=${CQL_HEAP:-512m}
	jvm='-XX:+UseSerialGC -XX:TieredStopAtLevel=1'
	;;
durable)
	# More threads than wait for the disk at once only look for work in turns: with 128 a
	# node of two cores does two thirds of what it does with 24, and is late more often.
	memtable=512MiB writes=24 requests=24 segment=32MiB
	# Three quarters of the heap are for what is new: one collection in most of a minute.
	third=$(awk '/^MemTotal:/ { print int($2 / 1024 / 3) }' /proc/meminfo)
	[ "$third" -le 8192 ] || third=8192
	heap=${CQL_HEAP:-${third}m} new=-XX:NewRatio=1
	[ -n "${CQL_HEAP:-}" ] || new=-Xmn$((third * 3 / 4))m
	# A log that goes past the kernel's cache has less to do at each sync; not every
	# file system takes it.
	if dd if=/dev/zero of="$dir/direct" bs=4096 count=1 oflag=direct 2>/dev/null; then
		commitlog="$commitlog\ncommitlog_disk_access_mode: direct"
	fi
	rm -f "$dir/direct"
	# No barriers, as G1 and ZGC have them. The second compiler takes half a core again and
	# again, for minutes: what it saves comes too late for a node that lives as long.
	jvm="-XX:+UseParallelGC $new -XX:+UseTransparentHugePages -XX:TieredStopAtLevel=1 -Dio.netty.eventLoopThreads=1"
	;;
esac
sed -e "s#@DIR@#$dir#g; s#@HOST@#$host#g; s#@PORT@#$port#; s#@STORAGE_PORT@#${CQL_STORAGE_PORT:-17000}#; s#@TOKEN@#${CQL_TOKEN:-0}#" \
	-e "s#@SEEDS@#${CQL_SEEDS:-$host}#; s#@COMMITLOG@#$commitlog#; s#@SEGMENT@#$segment#; s#@MEMTABLE@#$memtable#; s#@WRITES@#$writes#; s#@REQUESTS@#$requests#" "$here/cassandra.yaml" >"$dir/cassandra.yaml"

server=
finish() {
	trap - EXIT INT TERM
	# Throw-away data needs no goodbye; a node that was stopped must go on to hear one.
	if [ -n "$temporary" ]; then
		kill -KILL "$server" 2>/dev/null || true
	else
		kill "$server" 2>/dev/null && kill -CONT "$server" 2>/dev/null || true
	fi
	wait "$server" 2>/dev/null || true
	[ -z "$temporary" ] || rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# begin starts the node and tells when it answers.
begin() {
	: >"$dir/logs/server.log"
	# Idle threads of the node look for work every 10 us, which the kernel makes 60: up to
	# 40,000 times a second they take a core from one that has work. With a timer slack of
	# 0.3 ms a node under load needs a fifth less CPU, and is late a third as much.
	echo 300000 2>/dev/null >/proc/$$/timerslack_ns || true
	# shellcheck disable=SC2086 # a list of words
	"$java" @"$here/jvm17.options" "-Xms$heap" "-Xmx$heap" $jvm -javaagent:"$(ls "$lib"/jamm-*.jar)" \
		-Dcassandra.config="file://$dir/cassandra.yaml" -Dlogback.configurationFile="$here/logback.xml" \
		-Dcassandra-foreground=yes -Dcassandra.storagedir="$dir" -Dcassandra.logdir="$dir/logs" \
		-Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.ring_delay_ms="${CQL_PATIENCE:-0}" \
		-Dcassandra.superuser_setup_delay_ms=0 -Dcassandra.shutdown_announce_in_ms=0 \
		-Dcassandra.available_processors=2 -Djava.io.tmpdir="$dir" \
		-cp "$lib/*" org.apache.cassandra.service.CassandraDaemon >"$dir/logs/server.log" 2>&1 </dev/null &
	server=$!
	waited=0
	until grep -q 'Startup complete' "$dir/logs/server.log"; do
		if ! kill -0 "$server" 2>/dev/null || [ $waited -ge 1200 ]; then
			echo "cql: the server did not start; it says:" >&2
			tail -n 20 "$dir/logs/server.log" >&2
			exit 5
		fi
		sleep 0.1
		waited=$((waited + 1))
	done
	# Crash tests stop and kill the node: its process is named too.
	echo "$host:$port $server"
}

begin
if [ -n "$follow" ]; then
	while read -r _; do
		kill -KILL "$server"
		wait "$server" || true
		begin
	done
else
	wait "$server"
fi
