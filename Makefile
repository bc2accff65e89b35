# Every target makes .venv when it is missing.  `make demo` and `make test` are all that is needed.

PYTHON ?= python3
# Public indexes default to a GPU build of torch of several gigabytes; give the address of PyTorch's
# index of CPU builds here to avoid it: make TORCH_INDEX=...
TORCH_INDEX ?=
TORCH := torch==2.13.0
EXTRAS := torch,onnx,data,report,opencl,bench,conformance,dev

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PY := $(BIN)/python
SUITE := $(PY) -m pytest -n auto --pyargs conformance

.PHONY: help venv qemu test lint demo bench bench-all conformance agent clean

help:  ## show the targets
	@sed -n 's/^\([a-z-]*\):.*##/  make \1\t/p' $(MAKEFILE_LIST)

venv: $(READY)  ## make .venv with everything in it

# torch comes first and alone, so that only torch is looked for in TORCH_INDEX.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gossamer needs Python 3.11 or newer: make PYTHON=python3.11 venv"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "making .venv failed; on Debian: apt-get install python3-venv"; exit 1; }
	$(PY) -m pip install --no-deps $(addprefix --extra-index-url ,$(TORCH_INDEX)) $(TORCH)
	$(PY) -m pip install --editable '.[$(EXTRAS)]'
	@touch $(READY)

# The emulator is the one thing that pip cannot bring.  qemu-user's, unlike qemu-user-static's, takes
# the plugin that counts instructions.  (One name for each `command -v`: dash looks at no second.)
qemu:
	@command -v qemu-aarch64 >/dev/null || command -v qemu-aarch64-static >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	    { echo "installing QEMU"; apt-get update -qq; apt-get install -y -qq qemu-user; }; } || \
	  echo "QEMU is missing: what runs on emulated aarch64 is skipped; apt-get install qemu-user"

test: $(READY) qemu lint  ## lint, types, unit tests, a quick conformance run on every device here
	$(PY) -m pytest -n auto
	$(SUITE) --device host-isolated
	@for device in qemu:cortex-a76 opencl; do \
	  if $(BIN)/gossamer devices $$device; then $(SUITE) --device $$device || exit 1; \
	  else echo "skipped: conformance on $$device, which does not work here"; fi; done

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

demo: $(READY) qemu  ## train, prune, compile and compare a small 3-D network on real data
	$(BIN)/gossamer demo

bench: $(READY)  ## layers and networks against the best peers: each ratio beside its aim; OPTIONS=--tune
	$(PY) -m bench.headline $(OPTIONS)

NETWORKS := c3d r2plus1d_18 s3d vgg16 resnet18 resnet50 mobilenet_v2 efficientnet_b0 unet \
  bidirectional_lstm transformer gru 'gru --steps 100' 'gru --batch 32' 'gru --batch 32 --steps 100'

bench-all: $(READY)  ## every layer, scheme, network and peer: hours
	$(PY) -m bench.layers --sparse kgs:8x4,kgs:16x4,kgs:32x4 --keep 1/2,1/3.6,1/10
	@wrong=0; for network in $(NETWORKS); do \
	  $(PY) -m bench.networks $$network || wrong=1; done; exit $$wrong

conformance: $(READY) qemu  ## the exhaustive conformance run, on DEVICE (host-isolated), and all planted faults
	$(SUITE) --device $(or $(DEVICE),host-isolated) --cases exhaustive
	$(PY) -m pytest -m exhaustive -s tests/test_conformance_faults.py

agent: $(READY)  ## rebuild the agents that run code on devices (needs clang and lld)
	$(PY) -m jit.arm64.agent.build

clean:  ## remove what can be made again, .venv too
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks
