/* SPDX-License-Identifier: MIT */
/* critiprefill eval ppl: perplexity of a text, in llama-perplexity's windows and with its estimate of the error.
 *
 * Without --ppl-stride windows of -c tokens stand side by side, and the second half of each is scored.  With a stride
 * S windows of -c + S / 2 tokens, rounded up to a multiple of 256 as llama.cpp does with any context, start every S
 * tokens, and the last S positions of each are scored: every token of the text but the first ones once, with a long
 * context. */
#include <math.h>
#include <string.h>

#include "eval.h"
#include "jsonout.h"
#include "klrow.h"
#include "klset.h"
#include "rng.h"
#include "term.h"
#include "windows.h"

typedef struct scorer {
    const windows *w;
    uint32_t n_vocab;
    double n, nll, nll2;
} scorer;

static int score(void *user, size_t i, uint32_t pos, const float *logits) {
    scorer *s = user;
    const klrow r = klrow_of(logits, s->n_vocab);
    const double nll = klrow_nll(logits, &r, (uint32_t)s->w->ids[i * s->w->step + pos + 1]);
    s->n++;
    s->nll += nll;
    s->nll2 += nll * nll;
    return EXIT_OK;
}

/* Windows of a text of n tokens; EXIT_OK or a line. */
static int lay_out(windows *w, const options *o, const crit_model_info *info, const char *name, size_t n) {
    const uint32_t stride = o->ppl_stride;
    w->n_ctx = stride ? (o->n_ctx + stride / 2 + 255) / 256 * 256 : o->n_ctx;
    w->step = stride ? stride : w->n_ctx;
    if (stride >= w->n_ctx) return fail("--ppl-stride: %u tokens, more than a window has", stride);
    w->from = stride ? w->n_ctx - stride - 1 : w->n_ctx / 2;
    if (stride)
        w->n = n > w->n_ctx ? (n - w->n_ctx + stride - 1) / stride : 0;
    else
        w->n = n / w->n_ctx > 1 ? n / w->n_ctx : 0;
    if (o->n_chunk && w->n > o->n_chunk) w->n = o->n_chunk;
    const bool within = w->v->span && w->v->span <= model_context(info);
    int rc = w->v->streams || within ? EXIT_OK : eval_check_length(o, info, w->n_ctx);
    if (rc) return rc;
    if (!w->n)
        return fail("%s: %zu tokens are too few, windows of %u want at least %u", name, n, w->n_ctx,
                    stride ? w->n_ctx + 1 : 2 * w->n_ctx);
    return EXIT_OK;
}

static json_t *record(const options *o, const char *name, const windows *w, const scorer *s) {
    const double mean = s->nll / s->n, var = s->nll2 / s->n - mean * mean, ppl = exp(mean);
    json_t *r = json_object();
    json_put(r, "attn", json_cstr(w->v->name));
    json_put(r, "text", json_cstr(name));
    json_put(r, "ctx_tok", json_integer(w->n_ctx));
    json_put(r, "stride", json_integer(o->ppl_stride));
    json_put(r, "windows", json_size(w->n));
    json_put(r, "positions", json_size((size_t)s->n));
    json_put(r, "ppl", json_num(ppl));
    json_put(r, "ppl_error", json_num(s->n > 1 && var > 0 ? sqrt(var / (s->n - 1)) * ppl : 0));
    json_put(r, "nll", json_num(mean));
    json_put(r, "density", json_num(w->stats.density));
    json_put(r, "prefill_s", json_num((w->stats.prefill_ms - w->stats.logits_ms) / 1e3));
    json_put(r, "seed", json_integer((json_int_t)o->sampler.seed));
    return r;
}

typedef struct ppl {
    const options *o;
    crit_model *model;
    crit_model_info info;
    variant v;
    evalout *out;
    double work; /* of the texts so far: how long the next ones are is not known yet */
} ppl;

/* -f of one text; key: its name and a hash of it, so that a changed file is measured anew. */
static int one_text(ppl *p, const char *const *file, const char *name) {
    options one = *p->o;
    prompt text = {0};
    int32_t bos = -1;
    buf key = {0};
    windows w = {.o = p->o, .model = p->model, .v = &p->v, .row = score, .out = p->out};
    scorer s = {.w = &w, .n_vocab = p->info.n_vocab};
    one.files = (str_list){(const char **)file, file ? 1 : 0};
    int rc = eval_read_text(&one, p->model, &text, &bos);
    if (!rc) rc = lay_out(&w, p->o, &p->info, name, text.n);
    if (!rc) {
        buf_fmt(&key, "%s %016llx %zu %s", name, (unsigned long long)hash_ids(text.ids, text.n), text.n, p->v.name);
        if (key.oom) rc = fail_memory();
    }
    if (!rc && !evalout_want(p->out, key.s)) {
        w.ids = text.ids;
        w.bos = bos;
        w.user = &s;
        p->work += (double)w.n * w.n_ctx;
        evalout_work(p->out, p->work);
        rc = windows_run(&w);
        if (!rc) rc = evalout_put(p->out, key.s, record(p->o, name, &w, &s));
    }
    buf_free(&key);
    prompt_free(&text);
    return rc;
}

/* One text: the line alone, for whoever parses llama-perplexity's. */
static int print(const ppl *p) {
    buf out = {0};
    size_t n = evalout_n(p->out);
    for (size_t i = 0; i < n; i++) {
        const json_t *r = evalout_at(p->out, i);
        buf_fmt(&out, "Final estimate: PPL = %.4f +/- %.5f", record_num(r, "ppl"), record_num(r, "ppl_error"));
        if (n > 1)
            buf_fmt(&out, " (%s, %s, %.0f windows of %.0f tokens)", record_str(r, "text"), record_str(r, "attn"),
                    record_num(r, "windows"), record_num(r, "ctx_tok"));
        buf_str(&out, n > 1 && i + 1 < n ? "  \n" : "\n"); /* Markdown's line break */
    }
    int rc = evalout_text(p->out, &out);
    buf_free(&out);
    return rc;
}

int eval_ppl_main(const options *o) {
    variants list = {0};
    ppl p = {.o = o};
    double ms;
    int rc = variants_parse(&list, o, "eval ppl", o->variants ? o->variants : "dense");
    if (!rc && list.n > 1) rc = usage("eval ppl", "--attn takes one attention here");
    if (rc) return rc;
    p.v = list.v[0];
    rc = model_open(o, &p.model, &p.info, &ms);
    if (!rc) {
        json_t *config = eval_config(o, p.model, &p.info);
        json_put(config, "ctx_tok", json_integer(o->n_ctx));
        json_put(config, "stride", json_integer(o->ppl_stride));
        json_put(config, "chunks", json_integer(o->n_chunk));
        rc = evalout_open(&p.out, o, "ppl", config);
    }
    if (!rc && !o->files.n) rc = one_text(&p, NULL, "own");
    for (size_t i = 0; i < o->files.n && !rc; i++)
        rc = one_text(&p, &o->files.v[i], strcmp(o->files.v[i], "-") ? o->files.v[i] : "stdin");
    if (!rc) rc = print(&p);
    rc = evalout_close(&p.out, rc);
    crit_model_close(&p.model);
    return rc;
}
