# SPDX-License-Identifier: MIT
# A thin door: every target calls a script or a CMake preset; nothing is decided here.

JOBS ?= 2
PREFIX ?= /usr/local
export CRIT_PEER_DIR ?= peer/llama
MODEL ?= models/smollm2-135m-instruct-q4_1.gguf

.DEFAULT_GOAL := help
.PHONY: help setup model build demo test test-asan test-clang test-arm test-peer bench figures install clean

help:
	@echo "make demo        set up, build, fetch the small model, answer a question about a long document"
	@echo "make test        set up, build with warnings as errors, run every test"
	@echo
	@echo "make setup       install the packages that are missing (Debian, Ubuntu)"
	@echo "make model       fetch the demo model (98 MB) into models/"
	@echo "make build       release build in build/release"
	@echo "make bench       dense against criti on real text, a table on stdout (MODEL=file.gguf)"
	@echo "make figures     the pictures of README.md from real runs, into doc/figures/ (MODEL=file.gguf)"
	@echo "make install     install the release build (PREFIX=$(PREFIX), DESTDIR=)"
	@echo "make test-asan   every test under AddressSanitizer and UBSan"
	@echo "make test-clang  every test, compiled by clang"
	@echo "make test-arm    kernels, laws and units cross-compiled for AArch64, under qemu-user"
	@echo "make test-peer   compare with llama.cpp's tools (CRIT_PEER_DIR, see doc/TESTING.md)"
	@echo "make clean       remove build/ (models stay)"

setup:
	@scripts/setup.sh

# A MODEL of one's own needs no other fetched.
model: setup
	@[ -f "$(MODEL)" ] || scripts/model.sh

build: setup
	@scripts/build.sh release $(JOBS)

demo: build model
	@scripts/demo.sh "$(MODEL)"

test: setup
	@scripts/build.sh test $(JOBS)
	@scripts/ctest.sh test $(JOBS)

test-asan: setup
	@scripts/build.sh asan $(JOBS)
	@scripts/ctest.sh asan $(JOBS)

test-clang: setup
	@scripts/build.sh clang $(JOBS)
	@scripts/ctest.sh clang $(JOBS)

test-arm: setup
	@scripts/test-arm.sh $(JOBS)

test-peer: build model
	@scripts/build.sh test $(JOBS)
	@scripts/test-peer.sh

figures: build model
	@scripts/figures.sh "$(MODEL)"

bench: build model
	@build/release/critiprefill bench -m "$(MODEL)" -c 2048,4096,8000 -n 32

install: setup
	@scripts/build.sh release $(JOBS) -DCMAKE_INSTALL_PREFIX="$(PREFIX)"
	@cmake --install build/release
# The loader's cache learns of the new library; without that, programs that link it do not start.
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" -eq 0 ]; then ldconfig || true; fi

clean:
	rm -rf build
