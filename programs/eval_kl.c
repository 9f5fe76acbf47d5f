/* SPDX-License-Identifier: MIT */
/* critiprefill eval kl: next-token distributions of other attentions against dense attention's.  With
 * --save-all-logits or --kl-divergence-base the yardstick is a file: eval_base.c. */
#include <string.h>

#include "commands.h"
#include "eval_base.h"
#include "klset.h"
#include "mdtable.h"
#include "term.h"

static const md_col cols[] = {{"attention", 10, true}, {"KL mean", 9, false}, {"median", 9, false},
                              {"99 %", 9, false},      {"max", 8, false},     {"KL last", 9, false},
                              {"KL sparse", 9, false}, {"top-1", 8, false},   {"top-1 last", 10, false},
                              {"PPL dense", 9, false}, {"PPL", 9, false},     {"density", 7, false},
                              {"prefill s", 9, false}, {"speed-up", 8, false}};
enum { N_COL = sizeof cols / sizeof *cols };

static void put_row(buf *out, const json_t *r) {
    size_t at = 0;
    md_cell(out, cols, N_COL, &at, "%s", record_str(r, "attn"));
    md_num(out, cols, N_COL, &at, record_num(r, "kl_mean"), 6, "");
    md_num(out, cols, N_COL, &at, record_num(r, "kl_median"), 6, "");
    md_num(out, cols, N_COL, &at, record_num(r, "kl_p99"), 5, "");
    md_num(out, cols, N_COL, &at, record_num(r, "kl_max"), 4, "");
    md_num(out, cols, N_COL, &at, record_num(r, "kl_last"), 6, "");
    md_num(out, cols, N_COL, &at, record_num(r, "kl_sparse"), 6, "");
    md_num(out, cols, N_COL, &at, 100 * record_num(r, "top1"), 2, " %");
    md_num(out, cols, N_COL, &at, 100 * record_num(r, "top1_last"), 2, " %");
    md_num(out, cols, N_COL, &at, record_num(r, "ppl_dense"), 4, "");
    md_num(out, cols, N_COL, &at, record_num(r, "ppl"), 4, "");
    md_num(out, cols, N_COL, &at, record_num(r, "density"), 3, "");
    md_num(out, cols, N_COL, &at, record_num(r, "prefill_s"), 2, "");
    md_num(out, cols, N_COL, &at, record_num(r, "prefill_dense_s") / record_num(r, "prefill_s"), 2, "x");
}

static bool same_prompt(const json_t *a, const json_t *b) {
    return !strcmp(record_str(a, "text"), record_str(b, "text")) &&
           json_equal(json_object_get(a, "ctx_tok"), json_object_get(b, "ctx_tok"));
}

/* One table a text and length, in the order in which they first came. */
int eval_kl_tables(evalout *e, const char *against) {
    buf out = {0};
    size_t n = evalout_n(e);
    for (size_t i = 0; i < n; i++) {
        const json_t *first = evalout_at(e, i);
        bool done = false;
        for (size_t k = 0; k < i && !done; k++) done = same_prompt(evalout_at(e, k), first);
        if (done) continue;
        buf_fmt(&out, "%s## %s, %.0f tokens, against %s\n\n", out.n ? "\n" : "", record_str(first, "text"),
                record_num(first, "ctx_tok"), against);
        md_head(&out, cols, N_COL);
        for (size_t k = i; k < n; k++)
            if (same_prompt(evalout_at(e, k), first)) put_row(&out, evalout_at(e, k));
    }
    int rc = evalout_text(e, &out);
    buf_free(&out);
    return rc;
}

int eval_kl_main(const options *o) {
    variants list = {0};
    klset s;
    if (o->save_logits) return eval_base_save(o);
    int rc = variants_parse(&list, o, "eval kl", o->variants ? o->variants : "criti,paper");
    if (!rc && o->base_logits) return eval_base_compare(o, &list);
    if (rc) return rc;
    rc = klset_open(&s, o, "kl", &list);
    if (!rc) rc = klset_measure(&s);
    if (!rc) rc = eval_kl_tables(s.out, "dense attention");
    return klset_close(&s, rc);
}
