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

bench: ## four minutes on an idle machine with Linux; docs/performance.md explains it. BENCH=<pattern> chooses among Go's benchmarks
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./klavi ./gateway ./handler/...
	go run ./bench

fuzz: ## every fuzz target for FUZZTIME each
	@.ci/fuzz $(FUZZTIME)
