# `make help` lists the targets. Every recipe sources deploy/env.sh, which finds
# the right Go and Node.js.
.DEFAULT_GOAL := help
.PHONY: help up build test race check web web-check cql-conformance fleet-test fleet-soak fleet-soak-alone fleet-schedules fleet-demo text-test text-schedules cascade-test closed-test bench bench-smoke bench-forward bench-call bench-memory bench-join bench-gateway bench-pages bench-store cql-cluster-test sim fresh-test clean

# Flags for the program, as in: make up ARGS="--port 9000 --name Friends"
ARGS ?=

ENV := . deploy/env.sh
OPUS := -tags opus,nolibopusfile,netgo,osusergo
VERSION = $$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
# Installs what package-lock.json names, unless it is there.
NPM := { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund; }
BENCH := $(ENV) && mkdir -p out && go build -o bin/voicefleet ./cmd/voicefleet && go run $(OPUS) ./cmd/voicebench
# REPORT keeps what a target measures; flags in ARGS come later and win.
REPORT = --json out/$(1).json --html out/$(1).html

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

up: build ## build the program and start it: page, accounts, calls, one media node
	@exec bin/voicefleet up $(ARGS)

build: ## build bin/voicefleet, a static binary
	@sh deploy/setup.sh up
	@$(ENV) && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.built=$(VERSION)" -o bin/voicefleet ./cmd/voicefleet

test: ## install what the tests need and run them all (some 22 minutes on 2 cores)
	@sh deploy/setup.sh test
	@sh deploy/test.sh

race: ## every test of the rooms with the race detector, those too that CI runs without (10 minutes)
	@$(ENV) && go test -count=1 -race $(OPUS) ./sfu/... ./edgeagent/... ./signaling/... ./allocator/... ./textchat/... ./internal/...

check: ## what to run before a commit: gofmt, vet, staticcheck, tree tests, -race of changed packages
	@sh deploy/check.sh

web: ## build the page into the tree (needs Node.js; the result is committed)
	@$(ENV) && cd textchat/web && $(NPM) && npm run --silent build

web-check: ## test the page's sources and prove that the committed page is built from them
	@$(ENV) && cd textchat/web && $(NPM) && npx tsc --noEmit && npm run --silent test && npm run --silent check

cql-conformance: ## hold the store to its model on a CQL server of yours: make cql-conformance CQL=host:port
	@[ -n "$(CQL)" ] || { echo 'say which: make cql-conformance CQL=host:port, or CQL="cql://user:password@host,host/any?tls=on"' >&2; exit 2; }
	@$(ENV) && VOICEFLEET_CQL="$(CQL)" VOICEFLEET_HISTORIES=40 go test -count=1 -run '^TestConform$$' ./textchat/internal/cql

cql-cluster-test: ## hold the store to its model on three CQL nodes while one stands still and one is killed (3 GiB; 6 minutes)
	@$(ENV) && go test -tags cqlcluster -count=1 -v -timeout 40m -run '^TestCluster$$' ./textchat/internal/cql

bench: ## measure everything on this machine into bench/results/DATE (about an hour; nothing else should run)
	@sh deploy/bench.sh $(ARGS)

bench-smoke: ## the short form for CI: nothing lost, no ratio to a raw loop that encrypts worse by more than 25 % (4 minutes)
	@sh deploy/bench.sh smoke

bench-forward: ## CPU per forwarded packet beside a raw sendmmsg loop and a stock forwarder
	@$(BENCH) forward $(call REPORT,forward) $(ARGS)

bench-call: ## real WebRTC bots in a call: loss, delay, the right voices
	@$(BENCH) call $(call REPORT,call) $(ARGS)

bench-memory: ## memory of 1,000 connected sessions
	@$(BENCH) memory $(call REPORT,memory) $(ARGS)

bench-gateway: ## 100,000 and more gateway sessions of one channel on text instances of one fleet: memory, fan-out, resume storm; message rate beside a raw write loop (20 minutes, 8 GiB)
	@$(BENCH) crowd $(call REPORT,crowd) $(ARGS)

bench-join: ## time from joining to first sound: 200 joins of Go clients, 200 of the page in Chromium
	@$(BENCH) join $(call REPORT,join) $(ARGS)
	@$(ENV) && VOICEFLEET_JOINS=200 go test -count=1 -v -run '^TestJoinFromThePage$$' ./cmd/e2e

bench-pages: ## CPU of a hot page, remembered and read from SQLite and a CQL server; the figures stay in out/pages.txt (5 minutes)
	@$(ENV) && mkdir -p out && go test -run '^$$' -bench Pages -benchtime 1000x ./textchat/chatserver >out/pages.txt; status=$$?; cat out/pages.txt; exit $$status

bench-store: ## durable writes, latency at a rate, equal reads, histories of 10 million messages (ARGS=--short: half a minute)
	@$(BENCH) store $(call REPORT,store) $(ARGS)

closed-test: ## how soon the Go client and Chromium talk without UDP, and the gaps when it closes in a call, a NAT forgets or the address changes (needs root and nft; 10 minutes)
	@$(ENV) && VOICEFLEET_CLOSED=1 go test -count=1 -v -timeout 5m -run '^TestNATRebind$$' ./signaling/voiceclient
	@$(ENV) && VOICEFLEET_CLOSED=12 VOICEFLEET_REBINDS=5 go test -count=1 -v -timeout 20m -run '^(TestClosedNetworks|TestIPv6Only|TestPageByRelay|TestNATRebindOfPages|TestAddressChange)$$' ./cmd/e2e

text-test: ## three text instances under 24 faults on a NATS cluster and a CQL server, 1,000 seeded schedules in virtual time, and 100 in which all are restarted: nothing acknowledged is lost or comes twice; the own tests of two stock libraries (10 minutes)
	@$(ENV) && go test -count=1 -v -run '^TestSuites$$' ./cmd/e2e
	@$(ENV) && VOICEFLEET_SCHEDULES=1000 go test -count=1 -v -timeout 60m -run '^TestSchedules$$' ./textchat/chatserver
	@$(ENV) && VOICEFLEET_SCHEDULES=100 go test -count=1 -v -timeout 20m -run '^TestSchedulesRoll$$' ./textchat/chatserver
	@$(ENV) && VOICEFLEET_LEDGER=24 go test -count=1 -v -timeout 20m -run '^TestLedger$$' ./cmd/e2e

text-schedules: ## 1,000 seeded schedules in virtual time, each of 50 sessions and 10 writers (half an hour)
	@$(ENV) && VOICEFLEET_CROWD=1 VOICEFLEET_SCHEDULES=1000 go test -count=1 -v -timeout 120m -run '^TestSchedules$$' ./textchat/chatserver

cascade-test: ## a call on two nodes: each voice crosses once, what that adds and costs, and the gaps when nodes lose each other or an agent dies (4 minutes)
	@$(ENV) && VOICEFLEET_CASCADE=1 go test -count=1 -v -timeout 10m -run '^(TestCallSpansNodes|TestAgentOfASpanningCallDies|TestRelayedPacketsAreCheap)$$' ./cmd/voicefleet

FLEET := $(ENV) && mkdir -p out bin && CGO_ENABLED=0 go build -o bin/voicefleet ./cmd/voicefleet && CGO_ENABLED=0 go build -o bin/voicebench ./cmd/voicebench && exec bin/voicebench fleet

fleet-demo: ## a fleet to look at: three edges, bots that talk, keys that kill, freeze, drain and upgrade nodes
	@sh deploy/setup.sh up
	@$(FLEET) demo $(ARGS)

fleet-test: ## kill, freeze, cut off and drain the nodes of a whole fleet; what every listener heard (needs root; 25 minutes)
	@$(FLEET) test --log out/fleet.log --json out/fleet.json --html out/fleet.html $(ARGS)

fleet-soak: ## the same at length, with an outage of 10 minutes; before it schedules in virtual time, closed-test and cascade-test; at its end a summary of all (needs root and nft; two hours)
	@MAKE="$(MAKE)" ARGS="$(ARGS)" sh deploy/soak.sh fleet-schedules closed-test cascade-test fleet-soak-alone

fleet-schedules: ## two owners of a call, false deaths, false mends: seeded schedules in virtual time
	@$(ENV) && go test -count=1 -v -run '^(TestNoCallHasTwoOwners|TestLossIsNoDeath|TestNoFalseMends)$$' ./allocator/keeper ./sfu/internal/ear

fleet-soak-alone: ## fleet-soak without what comes before it (needs root)
	@$(FLEET) soak --log out/fleet-soak.log --json out/fleet-soak.json --html out/fleet-soak.html $(ARGS)

sim: ## a day and a month of 1,000 nodes in virtual time, placed by our rule and by others (half an hour)
	@$(ENV) && mkdir -p out && go run $(OPUS) ./cmd/voicebench simulate --seed 1 --html out/sim.html --json out/sim.json $(ARGS)

fresh-test: ## clone, set up and start in a Debian 12 with nothing installed (needs root)
	@sh deploy/fresh-test.sh

clean: ## remove what was built; data/ stays
	@rm -rf bin out
