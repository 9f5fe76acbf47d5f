/* SPDX-License-Identifier: MIT */
/* See progress.h.  Speed and time left follow the last two seconds: attention makes late tokens slower than early
 * ones, so the mean since the start would promise too much. */
#include "progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "term.h"

enum { FIRST_MS = 1000, EVERY_MS = 100, STRETCH_MS = 2000, MAX_BAR = 32 };

void progress_start(progress *p, bool wanted, const char *label) {
    double t = now_ms();
    *p = (progress){.on = wanted && term_has_bar(), .label = label, .start_ms = t, .last_ms = t, .mark_ms = t};
}

static void draw(const progress *p, double done, uint32_t total) {
    char left[32], text[160], bar[MAX_BAR + 1];
    double s = p->tok_per_ms > 0 ? ceil((total - done) / p->tok_per_ms / 1e3) : 0;
    if (s >= 60)
        snprintf(left, sizeof left, "%.0f min %02.0f s", floor(s / 60), fmod(s, 60));
    else
        snprintf(left, sizeof left, "%.0f s", s);
    int n = snprintf(text, sizeof text, "%s %3.0f %%  %.0f/%u tokens  %.0f tokens/s  %s left", p->label,
                     100 * done / total, done, total, p->tok_per_ms * 1e3, left);
    int room = (int)term_columns() - 1 - n - 3; /* brackets and a blank; one column stays free */
    if (room >= 8) {
        int width = room < MAX_BAR ? room : MAX_BAR, full = (int)(width * done / total);
        memset(bar, ' ', (size_t)width);
        memset(bar, '=', (size_t)(full < width ? full : width));
        bar[width] = 0;
        fprintf(stderr, "\r\033[K[%s] %s", bar, text);
    } else {
        fprintf(stderr, "\r\033[K%.*s", (int)term_columns() - 1, text);
    }
}

int progress_step(void *user, double done, uint32_t total) {
    progress *p = user;
    if (term_interrupted()) return 1;
    if (!p->on || total == 0) return 0;
    double t = now_ms();
    if (t - p->mark_ms >= STRETCH_MS || (!p->shown && t > p->mark_ms)) {
        p->tok_per_ms = (done - p->mark_tok) / (t - p->mark_ms);
        if (t - p->mark_ms >= STRETCH_MS) {
            p->mark_ms = t;
            p->mark_tok = done;
        }
    }
    if (t - p->start_ms >= FIRST_MS && (!p->shown || t - p->last_ms >= EVERY_MS)) {
        draw(p, done, total);
        p->last_ms = t;
        p->shown = true;
    }
    return 0;
}

void progress_end(progress *p) {
    if (p->shown) fputs("\r\033[K", stderr);
    p->shown = false;
}
