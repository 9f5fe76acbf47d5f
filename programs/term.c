/* SPDX-License-Identifier: MIT */
/* See term.h.  stdout is written with write(2): a failure (full disk, closed pipe) is seen where it happens, and a
 * streamed answer is not held back by a buffer. */
#include "term.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_signal(int sig) {
    (void)sig;
    interrupted = 1;
}

void term_init(void) {
    /* A file opened later must not become stdout: the stand-ins fail on every use, as the closed ones would. */
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) _exit(EXIT_FAIL);
    /* No SA_RESTART: a read from stdin ends too.  SA_RESETHAND: the second Ctrl-C kills. */
    struct sigaction stop = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    struct sigaction none = {.sa_handler = SIG_IGN};
    sigemptyset(&stop.sa_mask);
    sigemptyset(&none.sa_mask);
    const int ends[] = {SIGINT, SIGTERM};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) { /* whoever ignores one (nohup, &) means it */
        struct sigaction was;
        if (sigaction(ends[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN) sigaction(ends[i], &stop, NULL);
    }
    sigaction(SIGPIPE, &none, NULL);
}

bool term_interrupted(void) {
    return interrupted != 0;
}

bool term_has_bar(void) {
    const char *term = getenv("TERM");
    return isatty(2) && term && *term && strcmp(term, "dumb") != 0;
}

unsigned term_columns(void) {
    struct winsize w = {0};
    return ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
}

static void say(const char *head, const char *fmt, va_list ap, const char *tail) {
    char line[1400];
    int h = snprintf(line, sizeof line, "%s", head);
    int n = vsnprintf(line + h, sizeof line - (size_t)h, fmt, ap);
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F) *p = '?';
    fprintf(stderr, "%s%s\n", line, n < 0 ? "" : tail);
}

int fail(const char *fmt, ...) {
    if (interrupted) return EXIT_INTERRUPTED;
    va_list ap;
    va_start(ap, fmt);
    say("critiprefill: ", fmt, ap, "");
    va_end(ap);
    return EXIT_FAIL;
}

int fail_with(const crit_error *err) {
    return fail("%s", err->message[0] ? err->message : crit_status_str(err->code));
}

int fail_memory(void) {
    return fail("out of memory");
}

int usage(const char *cmd, const char *fmt, ...) {
    char head[64], tail[64];
    snprintf(head, sizeof head, "critiprefill%s%s: ", cmd ? " " : "", cmd ? cmd : "");
    snprintf(tail, sizeof tail, "; see critiprefill%s%s --help", cmd ? " " : "", cmd ? cmd : "");
    va_list ap;
    va_start(ap, fmt);
    say(head, fmt, ap, tail);
    va_end(ap);
    return EXIT_USAGE;
}

void note(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say("", fmt, ap, "");
    va_end(ap);
}

int out_write(const char *s, size_t n) {
    while (n) {
        ssize_t w = write(1, s, n);
        if (w >= 0) {
            s += w;
            n -= (size_t)w;
            continue;
        }
        if (interrupted) return EXIT_INTERRUPTED;
        if (errno == EINTR) continue;
        if (errno == EAGAIN) { /* someone made our stdout non-blocking */
            struct pollfd p = {.fd = 1, .events = POLLOUT};
            poll(&p, 1, 1000);
            continue;
        }
        return errno == EPIPE ? EXIT_FAIL : fail("stdout: %s", strerror(errno));
    }
    return EXIT_OK;
}

int out_buf(buf *b) {
    int rc = b->oom ? fail_memory() : out_write(b->s, b->n);
    b->n = 0;
    return rc;
}

double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}
