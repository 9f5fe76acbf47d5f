# SPDX-License-Identifier: MIT
# Cross-compiles for AArch64 Linux with Debian's tools; programs of the build run under qemu-user.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
# The C library of Debian's multiarch, like the other libraries: with the cross compiler's own (-L
# /usr/aarch64-linux-gnu) the loader is one build and libc.so, found by the system's cache, another; pthread_create hangs.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /)
# PCRE2, xxhash, zstd, jansson and cmocka of the other architecture (Debian's multiarch), not this machine's.
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig)
