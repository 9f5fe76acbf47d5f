/* SPDX-License-Identifier: MIT */
/* See eval_base.h.  Windows and what is scored in them are llama-perplexity's. */
#include "eval_base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "baselogits.h"
#include "jsonout.h"
#include "klfigures.h"
#include "klset.h"
#include "rng.h"
#include "term.h"
#include "windows.h"

enum { USUAL_CTX = 512 };

/* ---- writing ---- */

typedef struct saver {
    baselogits *b;
    const int32_t *ids;
    double nll, n;
} saver;

static int save_row(void *user, size_t i, uint32_t pos, const float *logits) {
    saver *s = user;
    const klrow r = klrow_of(logits, s->b->n_vocab);
    s->nll += klrow_nll(logits, &r, (uint32_t)s->ids[i * s->b->n_ctx + pos + 1]);
    s->n++;
    return base_write(s->b, logits, &r);
}

static int save(const options *o, const crit_model *model, const crit_model_info *info, const prompt *text, int32_t bos,
                evalout *out) {
    const uint32_t n_ctx = o->ctx.n ? o->ctx.v[0] : USUAL_CTX;
    variant dense = {.name = "dense", .attn = o->attn};
    dense.attn.mode = CRIT_ATTN_DENSE;
    size_t n = text->n / n_ctx;
    if (o->n_chunk && n > o->n_chunk) n = o->n_chunk;
    if (n_ctx < BASE_CTX_MIN) return fail("windows of %u tokens are too short, at least %d", n_ctx, BASE_CTX_MIN);
    int rc = eval_check_length(o, info, n_ctx);
    if (rc) return rc;
    if (!n)
        return fail("%s: %zu tokens, less than a window of %u", o->files.n ? o->files.v[0] : "own text", text->n,
                    n_ctx);
    baselogits b;
    saver s = {.b = &b, .ids = text->ids};
    windows w = {.o = o,
                 .model = model,
                 .ids = text->ids,
                 .n_ctx = n_ctx,
                 .step = n_ctx,
                 .from = n_ctx / 2,
                 .n = n,
                 .bos = bos,
                 .v = &dense,
                 .row = save_row,
                 .user = &s,
                 .out = out};
    evalout_work(out, (double)n * n_ctx);
    rc = base_create(&b, o->save_logits, n_ctx, info->n_vocab, (uint32_t)n, text->ids);
    if (!rc) rc = windows_run(&w);
    rc = base_close(&b, rc);
    if (rc) return rc;
    json_t *r = json_object();
    json_put(r, "attn", json_cstr(dense.name));
    json_put(r, "file", json_cstr(o->save_logits));
    json_put(r, "ctx_tok", json_integer(n_ctx));
    json_put(r, "windows", json_size(n));
    json_put(r, "positions", json_size((size_t)s.n));
    json_put(r, "ppl", json_num(exp(s.nll / s.n)));
    rc = evalout_put(out, "save", r);
    buf line = {0};
    buf_fmt(&line, "%s: %zu windows of %u tokens, %.0f positions, PPL %.4f\n", o->save_logits, n, n_ctx, s.n,
            exp(s.nll / s.n));
    if (!rc) rc = evalout_text(out, &line);
    buf_free(&line);
    return rc;
}

int eval_base_save(const options *o) {
    if (o->ctx.n > 1) return usage("eval kl", "--save-all-logits takes one window length (-c)");
    if (o->out_dir) return usage("eval kl", "--save-all-logits has nothing for --out");
    crit_model *model = NULL;
    crit_model_info info;
    prompt text = {0};
    int32_t bos = -1;
    double ms;
    evalout *out = NULL;
    int rc = model_open(o, &model, &info, &ms);
    if (!rc) rc = eval_read_text(o, model, &text, &bos);
    if (!rc) rc = evalout_open(&out, o, "kl", json_object());
    if (!rc) rc = save(o, model, &info, &text, bos, out);
    rc = evalout_close(&out, rc);
    prompt_free(&text);
    crit_model_close(&model);
    return rc;
}

/* ---- comparing ---- */

typedef struct comparer {
    baselogits *b;
    klfigures f;
} comparer;

static int compare_row(void *user, size_t i, uint32_t pos, const float *logits) {
    comparer *c = user;
    baselogits *b = c->b;
    int rc = base_read(b, i, pos);
    if (rc) return rc;
    const klrow s = klrow_of(logits, b->n_vocab);
    const uint32_t next = (uint32_t)b->ids[i * b->n_ctx + pos + 1];
    klposition p = {.pos = pos,
                    .kl = base_kl(b, logits, &s),
                    .top1 = base_best(b) == s.best,
                    .has_next = true,
                    .nll = klrow_nll(logits, &s, next),
                    .nll_base = base_nll(b, next)};
    klfigures_add(&c->f, &p);
    return EXIT_OK;
}

static int compare_one(const options *o, const crit_model *model, baselogits *b, size_t n, int32_t bos,
                       const variant *v, evalout *out) {
    comparer c = {.b = b};
    windows w = {.o = o,
                 .model = model,
                 .ids = b->ids,
                 .n_ctx = b->n_ctx,
                 .step = b->n_ctx,
                 .from = b->n_ctx / 2,
                 .n = n,
                 .bos = bos,
                 .v = v,
                 .row = compare_row,
                 .user = &c,
                 .out = out};
    /* A window's last position has no row. */
    int rc = klfigures_init(&c.f, b->n_ctx - 1, o->n_last, n * b->n_ctx) ? windows_run(&w) : fail_memory();
    if (!rc) {
        json_t *r = json_object(), *figures = klfigures_json(&c.f, &w.stats, NULL);
        json_put(r, "attn", json_cstr(v->name));
        json_put(r, "text", json_cstr(b->path));
        json_put(r, "ctx_tok", json_integer(b->n_ctx));
        json_put(r, "windows", json_size(n));
        json_object_update(r, figures);
        json_decref(figures);
        json_put(r, "seed", json_integer((json_int_t)o->sampler.seed));
        rc = evalout_put(out, v->name, r);
    }
    klfigures_free(&c.f);
    return rc;
}

static int compare_all(const options *o, const crit_model *model, const crit_model_info *info, baselogits *b,
                       const variants *list, evalout *out) {
    int rc = EXIT_OK;
    int32_t bos = eval_bos(model, &rc);
    if (!rc) rc = eval_check_length(o, info, b->n_ctx);
    if (!rc && b->n_vocab != info->n_vocab)
        return fail("%s: of a model with %u tokens in its vocabulary, %s has %u", b->path, b->n_vocab, o->model,
                    info->n_vocab);
    const size_t n = o->n_chunk && o->n_chunk < b->n_chunk ? o->n_chunk : b->n_chunk;
    double work = 0;
    for (size_t i = 0; i < list->n; i++)
        if (!evalout_want(out, list->v[i].name)) work += (double)n * b->n_ctx;
    evalout_work(out, work);
    for (size_t i = 0; i < list->n && !rc; i++)
        if (!evalout_want(out, list->v[i].name)) rc = compare_one(o, model, b, n, bos, &list->v[i], out);
    if (!rc) rc = eval_kl_tables(out, "the file");
    return rc;
}

int eval_base_compare(const options *o, const variants *list) {
    if (o->files.n || o->ctx.n) return usage("eval kl", "--kl-divergence-base brings its own text and window length");
    crit_model *model = NULL;
    crit_model_info info;
    double ms;
    baselogits b;
    evalout *out = NULL;
    int rc = base_open(&b, o->base_logits);
    if (!rc) rc = model_open(o, &model, &info, &ms);
    if (!rc) {
        json_t *config = eval_config(o, model, &info);
        struct stat there;
        json_put(config, "base", json_cstr(o->base_logits));
        json_put(config, "base_hash", json_hex(hash_ids(b.ids, (size_t)b.n_chunk * b.n_ctx)));
        /* Of the rows, which may be gigabytes, a time. */
        json_put(config, "base_time", json_integer(stat(o->base_logits, &there) ? 0 : (json_int_t)there.st_mtime));
        json_put(config, "base_windows", json_size(b.n_chunk));
        json_put(config, "base_ctx_tok", json_integer(b.n_ctx));
        json_put(config, "chunks", json_integer(o->n_chunk));
        json_put(config, "last", json_integer(o->n_last));
        rc = evalout_open(&out, o, "kl", config);
    }
    if (!rc) rc = compare_all(o, model, &info, &b, list, out);
    rc = evalout_close(&out, rc);
    crit_model_close(&model);
    return base_close(&b, rc);
}
