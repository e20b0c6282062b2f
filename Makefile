# Caddy's database drivers for its certificate authority are large and unused here.
export GOFLAGS += -tags=nobadger,nomysql,nopgx

TOOL = go tool -modfile=tools/go.mod
BENCH ?= .
FUZZTIME ?= 30s

.PHONY: demo build test lint fmt bench fuzz

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
bench: ## five minutes, on Linux (docs/performance.md); BENCH=<pattern> is only those of Go's benchmarks
	@mkdir -p bin
	go test -run '^$$' -bench '$(BENCH)' -benchmem -cpu 1 -count 10 -benchtime 200ms -exec "sh -c 'exec \$$0 \$$@ 2>/dev/null'" \
		./klavi ./gateway ./handler/... >bin/bench.txt || (cat bin/bench.txt; false)
	$(TOOL) benchstat bin/bench.txt
	if [ '$(BENCH)' = . ]; then go run ./bench; fi

fuzz: ## every fuzz target for FUZZTIME each
	@.ci/fuzz $(FUZZTIME)
