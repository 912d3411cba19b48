# Everything runs in .venv, a virtual environment made from the lock file.

VENV := .venv
RUN := $(VENV)/bin/python
# bytewax 0.21.1 has wheels for CPython 3.8 to 3.12; we need 3.11 or newer.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)

# The tests start the flow hundreds of times: if no bytecode could be written, each start would
# compile all of it.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test cases oldest-kafka lint kafka bench monitoring contract lock tools clean soak chaos mutants explore pictures bench-quick

# What the tests need beside Python, by Go from its module proxy: two linters of manifests, and
# Stripe's description of its API, which is a file in the module of its mock server.
TOOLS := $(CURDIR)/.tools
KUSTOMIZE := v5.8.2
KUBE_SCORE := v1.20.0
STRIPE_MOCK := v0.203.0

# What a version of Kafka may do otherwise: transactions, offsets, fencing, refusals, logins.
ON_OLDEST := exactly_once lane lane_log parking start_refusals stopping growth wire_security token_login

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.complete: requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or 3.12 found (Bytewax has no wheels for" \
		"other versions). Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "Preparing $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(RUN) -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps \
		--only-binary :all: -r requirements-dev.txt
	@touch $@

demo: $(VENV)/.complete ## Run it with an embedded broker, or with KAFKA_BROKERS=host:port
	@$(RUN) -m dataflow demo $(ARGS)

test: lint ## Run lint, types, tests; on a real Kafka where Java and Maven are there
ifdef ARGS
	@$(RUN) -m pytest --numprocesses 6 --dist worksteal $(ARGS)
else
	@$(RUN) -m pytest --numprocesses 6 --dist worksteal -m "not campaign and not further"
endif

cases: $(VENV)/.complete ## Run what takes longer: further cases of tests with Kafka, and a short campaign
ifdef ARGS
	@$(RUN) -m pytest --numprocesses 6 --dist worksteal -m further $(ARGS)
else
	@$(RUN) -m pytest --numprocesses 6 --dist worksteal -m further; cases=$$?; \
	$(RUN) -m pytest -m campaign; campaign=$$?; \
	test $$cases = 0 || exit $$cases; exit $$campaign
endif

oldest-kafka: $(VENV)/.complete ## Run the tests of the guarantees on the oldest Kafka that is supported
	@KAFKA_TEST_VERSION=oldest $(RUN) -m pytest --numprocesses 3 --dist worksteal \
		$(or $(ARGS),$(addprefix tests/integration/test_,$(addsuffix .py,$(ON_OLDEST))))

lint: $(VENV)/.complete
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(RUN) -m mypy

kafka: $(VENV)/.complete ## Start a real Apache Kafka with the topics, on port 9092
	@exec $(RUN) -m tests.support.kafka $(ARGS)

bench: $(VENV)/.complete ## Measure it and its baselines on a real Kafka; writes docs/performance.md
	@$(RUN) -m tests.bench $(ARGS)

bench-quick: $(VENV)/.complete ## The same in three minutes, into .bench/report
	@$(RUN) -m tests.bench --quick $(ARGS)

monitoring: $(VENV)/.complete ## Generate the rules and the dashboard
	@$(RUN) -m grafana.rules > grafana/prometheus/rules.yaml
	@$(RUN) -m grafana.dashboard > grafana/dashboard.json

contract: $(VENV)/.complete ## Generate the schema files, and the generated parts of docs/events.md
	@$(RUN) -m tests.published

soak: $(VENV)/.complete ## Run for half an hour at a steady rate, and see that nothing grows
	@$(RUN) -m tests.soak $(ARGS)

chaos: $(VENV)/.complete ## Try to lose, double or tear a payment, for up to an hour; see docs/reliability.md
	@exec $(RUN) -m tests.chaos $(ARGS)

mutants: $(VENV)/.complete ## Break every guarantee on purpose: a test must fail for each
	@exec $(RUN) -m tests.chaos.mutants $(ARGS)

explore: $(VENV)/.complete ## Try new examples in every property test, for EXPLORE_MINUTES=10
	@$(RUN) -m tests.explore --minutes $(or $(EXPLORE_MINUTES),10) $(ARGS)

pictures: $(VENV)/.complete ## Take the pictures of the documents again, from a flow under load
	@$(RUN) -m tests.pictures $(ARGS)

lock: $(VENV)/.complete ## Resolve the dependencies again
	@for extra in "" msk otel dev; do \
		$(RUN) -m piptools compile --quiet --upgrade --generate-hashes --strip-extras \
			--allow-unsafe --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
			--no-emit-trusted-host --extra registry $${extra:+--extra $$extra} \
			--output-file requirements$${extra:+-$$extra}.txt pyproject.toml; done

tools: $(TOOLS)/kustomize-$(KUSTOMIZE) $(TOOLS)/kube-score-$(KUBE_SCORE) $(TOOLS)/stripe-$(STRIPE_MOCK).json ## Fetch what the tests need by Go

$(TOOLS)/kustomize-$(KUSTOMIZE):
	@GOBIN=$(TOOLS) go install sigs.k8s.io/kustomize/kustomize/v5@$(KUSTOMIZE) && touch $@

$(TOOLS)/kube-score-$(KUBE_SCORE):
	@GOBIN=$(TOOLS) go install github.com/zegl/kube-score/cmd/kube-score@$(KUBE_SCORE) && touch $@

$(TOOLS)/stripe-$(STRIPE_MOCK).json:
	@mkdir -p $(TOOLS)
	@module=$$(go mod download -json github.com/stripe/stripe-mock@$(STRIPE_MOCK) \
		| sed -n 's/.*"Dir": "\(.*\)".*/\1/p') && \
		install -m 644 "$$module/embedded/openapi/spec3.json" $@

clean: ## Remove everything that was made
	rm -rf $(VENV) .kafka .tools .bench soak-report chaos-report
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
