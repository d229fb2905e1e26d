# The targets that people and CI call. `make test` needs Go, and root with
# /dev/fuse for test/chaos; it installs what else its tests use where it is missing.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "-s -w -X rotunda.dev/rotunda/internal/cli.built=$(VERSION)"
LINT    := tools/bin/golangci-lint
FUZZTIME ?= 30s

.PHONY: prove-properties prove-hostile replay fips fips-ci prove-memory prove-scale all build test test-deps race compat cross lint vuln fuzz docs prove-chaos prove-faults bench clean

all: build

build:
	$(BUILD) -o bin/rotunda ./cmd/rotunda

# Every module's tests, under the race detector.
test: test-deps
	$(GO) vet ./...
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...
	cd test/compat && $(GO) vet ./... && CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 20m ./...
	$(MAKE) cross

# The race detector links with a C compiler; test/compat runs clients in Python and JavaScript.
test-deps: test/compat/nodevault/node_modules/.package-lock.json
	@command -v gcc >/dev/null 2>&1 || command -v cc >/dev/null 2>&1 || tools/install gcc libc6-dev
	@/usr/bin/python3 -c 'import hvac' >/dev/null 2>&1 || python3 -c 'import hvac' >/dev/null 2>&1 || tools/install python3 python3-hvac

# What the lock file says, by its hashes, and no script of a package is run.
test/compat/nodevault/node_modules/.package-lock.json: test/compat/nodevault/package-lock.json
	@command -v npm >/dev/null 2>&1 || tools/install nodejs npm
	cd test/compat/nodevault && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

race: test

compat: test-deps
	cd test/compat && CGO_ENABLED=1 $(GO) test -race -count=1 ./...

# The client builds where people work.
cross:
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/rotunda
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/rotunda

$(LINT): tools/lint.version
	GOBIN=$(CURDIR)/tools/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$$(cat tools/lint.version)
	@touch $(LINT)

lint: $(LINT)
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(LINT) run ./...
	cd test/compat && $(CURDIR)/$(LINT) run ./...

# Known holes in what we build on. Passes with a word where the database cannot be reached.
vuln:
	tools/vuln

fuzz:
	tools/fuzz $(FUZZTIME)

# Everything with Go's FIPS 140-3 module, and what needs nothing else with nothing else: see docs/fips.md.
FIPS_NOT_ONLY := -e '/internal/seal/age$$' -e '/internal/gate$$' -e '/internal/server$$'
fips:
	GODEBUG=fips140=on $(GO) test -timeout 20m ./...
	GODEBUG=fips140=only $(GO) test -timeout 20m $$($(GO) list ./internal/... | grep -v $(FIPS_NOT_ONLY))

# The part of it that CI runs.
FIPS_CI := $(addprefix ./internal/,aead backup barrier keys listen localca pin seal/... token)
fips-ci:
	GODEBUG=fips140=on $(GO) test -timeout 5m $(FIPS_CI)
	GODEBUG=fips140=on $(GO) test -timeout 5m -run 'TestWire|TestBackup|TestSeals|TestRestore' ./internal/server
	GODEBUG=fips140=only $(GO) test -timeout 5m $(filter-out ./internal/seal/...,$(FIPS_CI)) ./internal/seal/keyfile ./internal/seal/passphrase ./internal/seal/shamir

# That no key is left in the memory of a sealed server, in the build that erases it: see docs/recovery.md.
prove-memory:
	GOEXPERIMENT=runtimesecret $(GO) test -count=1 -run TestKeysAreGoneOnceSealed -v ./test/chaos

# The pages of docs/reference that are made from the code.
docs:
	$(GO) test ./internal/server -run Reference -count 1 -update

# Load many secrets, start over them and read: make prove-scale SECRETS=1000000
SECRETS ?= 1000000
prove-scale:
	ROTUNDA_SCALE=$(SECRETS) $(GO) test ./internal/server -run '^$$' -bench '^BenchmarkScale$$' -benchtime 1x -timeout 0 -v

# Kill the server, and let its power fail, at random moments under load, many
# times: make prove-chaos CYCLES=10000 CUTS=2000 CEREMONIES=100
CYCLES ?= 500
CUTS ?= 300
CEREMONIES ?= 20
prove-chaos:
	ROTUNDA_CHAOS_CYCLES=$(CYCLES) ROTUNDA_CHAOS_CUTS=$(CUTS) ROTUNDA_CHAOS_CEREMONIES=$(CEREMONIES) ROTUNDA_CHAOS_STARTS=100 \
		$(GO) test -count=1 -timeout 0 -v -run 'Kill|Planted|PowerCut' ./test/chaos

# Let each operation of a run on the disk fail in turn, in each way, and change
# bytes of each kind: make prove-faults FAULTS=0 FLIPS=1000; 0 is all operations.
FAULTS ?= 0
FLIPS ?= 200
prove-faults:
	ROTUNDA_CHAOS_FAULTS=$(FAULTS) ROTUNDA_CHAOS_FLIPS=$(FLIPS) \
		$(GO) test -count=1 -timeout 0 -v -run 'NthOperation|PlantedNth|Flip' ./test/chaos

# Everything hostile both ways, each answer within 50 ms, and 10 000 bytes of
# files changed, one a time.
prove-hostile:
	$(GO) test -count=1 -timeout 0 -v -run '^TestH095DamagedFiles$$' ./test/replay -args -damage 150
	$(GO) test -count=1 -timeout 0 -v -run '^TestP3P5HostileRequests$$' ./test/replay -args -hostile 1 -within 50ms

# Every row of test/replay/README.md, and what became of it: replay.json.
replay:
	$(GO) run ./tools/replay -out replay.json

# The properties of docs/properties.md that have a large size.
prove-properties:
	ROTUNDA_ORACLE_PAIRS=100000000 $(GO) test -count=1 -timeout 0 -v -run '^TestP2' ./internal/policy

bench: build
	$(GO) run ./cmd/rotunda bench --limit

clean:
	rm -rf bin dist tools/bin
