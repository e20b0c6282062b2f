# Caddy's database drivers for its certificate authority are large and unused here.
export GOFLAGS += -tags=nobadger,nomysql,nopgx

TOOL = go tool -modfile=tools/go.mod
BENCH ?= .
FUZZTIME ?= 30s
SOAK ?= 40

.PHONY: demo build test lint fmt bench soak fuzz

demo: ## the whole flow on this machine, without accounts: http://localhost:8080
	go run ./cmd/caddy run --config examples/quickstart/Caddyfile

build: ## Caddy with the gateway and the sandbox, as bin/caddy
	go build -o bin/caddy ./cmd/caddy

test:
	go test ./...

lint:
	$(TOOL) golangci-lint run ./...

fmt:
	$(TOOL) golangci-lint fmt ./...

# Caddy's log would stand in the middle of the benchmarks' lines.
bench: ## ten minutes, on Linux (docs/performance.md); BENCH=<pattern> is only those of Go's benchmarks
	@mkdir -p bin
	go test -run '^$$' -bench '$(BENCH)' -benchmem -cpu 1 -count 10 -benchtime 200ms -exec "sh -c 'exec \$$0 \$$@ 2>/dev/null'" \
		./klavi ./gateway ./handler/... >bin/bench.txt || (cat bin/bench.txt; false)
	$(TOOL) benchstat bin/bench.txt
	for round in 1 2 3 4 5; do \
		go test -run '^$$' -bench '$(BENCH)' ./inbox || exit 1; \
	done >bin/bench-inbox.txt || (cat bin/bench-inbox.txt; false)
	$(TOOL) benchstat bin/bench-inbox.txt
	for round in 1 2 3 4 5; do \
		go test -run '^$$' -bench '$(BENCH)' -benchtime 6000x ./faults || exit 1; \
	done >bin/bench-fleet.txt || (cat bin/bench-fleet.txt; false)
	$(TOOL) benchstat bin/bench-fleet.txt
	if [ '$(BENCH)' = . ]; then go run ./bench; fi

# For each of 12 points of storing and delivering, SOAK processes are killed there;
# the power is cut 2 * SOAK times; the disk is full SOAK times, at 6 points each; one
# bit flips in 30 * SOAK places of each file of the inbox. Then a whole Caddy is killed
# SOAK times, loaded anew 100 times, and gets 32 reports of 60 MiB at once. At most 3 GiB
# of disk, as much memory for these reports and what brings them, 60 minutes.
soak: ## the inbox, killed and broken again and again: twelve minutes, on Linux as root; SOAK=400 is a day's work
	INBOX_SOAK=$(SOAK) go test -count 1 -timeout 30m -v ./inbox \
		-run '^Test(KilledWhileStoring|KilledWhileDelivering|PowerCut|PowerCutWhileDelivering|FullDisk|DiskFullAtAnyPoint|OneByteOfAnyFile)$$'
	INBOX_SOAK=$(SOAK) go test -count 1 -timeout 30m -v ./faults

fuzz: ## every fuzz target for FUZZTIME each
	@.ci/fuzz $(FUZZTIME)
