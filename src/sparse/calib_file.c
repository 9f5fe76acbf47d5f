/* SPDX-License-Identifier: MIT */
/* A layer's calibration in a snapshot: what probes have met, so that a prompt goes on with the bits it would have had.
 */
#include <math.h>
#include <string.h>

#include "sparse/sparse.h"

void crit_calib_save(const crit_calib *c, crit_blob *out) {
    crit_blob_u32(out, c->n_head);
    crit_blob_u32(out, c->step);
    crit_blob_u32(out, c->marks ? c->n : 0);
    for (size_t i = 0; c->marks && i < (size_t)c->n * c->n_head; i++) {
        const crit_mark *m = &c->marks[i];
        crit_blob_put(out, &m->n_row, 1);
        if (!m->n_row) continue;
        crit_blob_put(out, &m->sigma, sizeof m->sigma);
        crit_blob_put(out, m->n, sizeof m->n);
        crit_blob_put(out, m->use, sizeof m->use);
        crit_blob_put(out, m->mass, sizeof m->mass);
        crit_blob_put(out, &m->peak, 1);
    }
}

crit_status crit_calib_load(crit_calib *c, uint32_t n_head, uint32_t n_tok, crit_blob_view *in, crit_error *err) {
    uint32_t had_head = crit_blob_get_u32(in), step = crit_blob_get_u32(in), n = crit_blob_get_u32(in);
    crit_calib_clear(c);
    /* An entry at or behind the timeline's end would stand where the next probe goes. */
    if (in->failed || (n && (had_head != n_head || step == 0 || (uint64_t)(n - 1) * step >= n_tok)))
        return crit_fail(err, CRIT_E_FORMAT, "the calibration in it makes no sense");
    if (n == 0) return CRIT_OK;
    crit_status st = crit_calib_reserve(c, n_head, step, n_tok, err);
    for (size_t i = 0; i < (size_t)n * n_head && !st; i++) {
        crit_mark m = {.n_row = 0};
        crit_blob_get(in, &m.n_row, 1);
        if (m.n_row) {
            crit_blob_get(in, &m.sigma, sizeof m.sigma);
            crit_blob_get(in, m.n, sizeof m.n);
            crit_blob_get(in, m.use, sizeof m.use);
            crit_blob_get(in, m.mass, sizeof m.mass);
            crit_blob_get(in, &m.peak, 1);
        }
        if (in->failed || m.n_row > CRIT_TILE_LEN || i / n_head * step + m.n_row > n_tok || !isfinite(m.sigma) ||
            (m.n_row && m.peak >= CRIT_GAIN_BINS && m.peak != CRIT_NO_BIN))
            st = crit_fail(err, CRIT_E_FORMAT, "the calibration in it makes no sense");
        if (st) break;
        c->marks[i] = m;
        crit_gain_add(&c->total[i % n_head], &m, crit_probe_weight(i / n_head, step));
    }
    c->n = n;
    if (st) crit_calib_clear(c);
    return st;
}
