/* SPDX-License-Identifier: MIT */
/* Tier 1: a session's timeline into a file and out of it (policy.h). */
#include <math.h>
#include <string.h>

#include "critiprefill/policy.h"

#include "kv/snapshot.h"
#include "lib/session.h"

/* Kinds of sections, numbered for ever.  K and V: index = layer * n_kv_head + head, packed blocks. */
enum { SEC_TOKENS = 1, SEC_K = 2, SEC_V = 3, SEC_CALIB = 4, SEC_LOGITS = 5, SEC_POLICY = 6 };
enum { NAME_LEN = 32 }; /* of the policy, in front of its bytes */

void crit_save_params_init(crit_save_params *p) {
    *p = (crit_save_params){.struct_size = sizeof *p};
}

static size_t head_bytes(const crit_config *c, uint32_t n_tok) {
    return ((size_t)n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN * CRIT_BLK_LEN * c->d_head * sizeof(uint16_t);
}

/* ---- save ---- */

typedef struct saving {
    crit_snapshot_section *section;
    uint32_t n;
    crit_blob *calib; /* [n_layer] */
    crit_blob policy;
} saving;

static void add(saving *a, uint32_t kind, uint32_t index, const void *data, size_t bytes) {
    a->section[a->n++] = (crit_snapshot_section){kind, index, data, bytes};
}

static crit_status add_policy(saving *a, const crit_session *s, crit_error *err) {
    const crit_policy *p = s->fwd.policy;
    char name[NAME_LEN] = {0};
    if (!p->save || strlen(p->name) >= sizeof name) return CRIT_OK;
    memcpy(name, p->name, strlen(p->name));
    crit_blob_put(&a->policy, name, sizeof name);
    crit_status st = p->save(s->fwd.policy_state, &a->policy, err);
    if (!st && a->policy.n > sizeof name) add(a, SEC_POLICY, 0, a->policy.p, a->policy.n);
    return st;
}

static crit_status gather(saving *a, const crit_session *s, const int32_t *tokens, size_t n_tok, crit_error *err) {
    const crit_config *c = &s->model->config;
    a->section = crit_malloc((size_t)c->n_layer * (2 * c->n_kv_head + 1) + 3, sizeof *a->section);
    a->calib = crit_calloc(c->n_layer, sizeof *a->calib);
    if (!a->section || !a->calib) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    add(a, SEC_TOKENS, 0, tokens, n_tok * sizeof *tokens);
    add(a, SEC_LOGITS, 0, s->fwd.logits, c->n_vocab * sizeof(float));
    for (uint32_t l = 0; l < c->n_layer; l++) {
        for (uint32_t h = 0; h < c->n_kv_head; h++) {
            add(a, SEC_K, l * c->n_kv_head + h, crit_kv_k(&s->kv[l], h), head_bytes(c, s->n_done));
            add(a, SEC_V, l * c->n_kv_head + h, crit_kv_v(&s->kv[l], h), head_bytes(c, s->n_done));
        }
        crit_calib_save(&s->calib[l], &a->calib[l]);
        if (a->calib[l].failed) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
        add(a, SEC_CALIB, l, a->calib[l].p, a->calib[l].n);
    }
    return add_policy(a, s, err);
}

crit_status crit_session_save(crit_session *s, const char *path, const int32_t *tokens, size_t n_tok,
                              const crit_save_params *params, crit_error *err) {
    crit_save_params p;
    crit_save_params_init(&p);
    if (!s || !path || !tokens) return crit_fail(err, CRIT_E_ARG, "crit_session_save: session, path, tokens");
    if (params) {
        if (params->struct_size != sizeof p) return crit_fail(err, CRIT_E_ARG, "crit_save_params: struct_size not set");
        p = *params;
    }
    if (p.zstd < 0 || p.zstd > 19) return crit_fail(err, CRIT_E_ARG, "compression level %d is not in 0..19", p.zstd);
    if (s->in_turn || s->batch_open || !s->has_logits)
        return crit_fail(err, CRIT_E_STATE, "crit_session_save: the session has no finished prompt");
    if (crit_session_streams(s))
        return crit_fail(err, CRIT_E_STATE, "crit_session_save: the cache of %s is not saved", s->fwd.prefill->name);
    for (uint32_t l = 0; l < s->model->config.n_layer; l++)
        if (s->kv[l].n_narrow)
            return crit_fail(err, CRIT_E_STATE, "crit_session_save: keys without all their channels are not saved");
    if (n_tok != s->n_done)
        return crit_fail(err, CRIT_E_ARG, "%zu tokens are not the %u of the session", n_tok, s->n_done);
    const crit_config *c = &s->model->config;
    for (size_t i = 0; i < n_tok; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= c->n_vocab)
            return crit_fail(err, CRIT_E_ARG, "token %zu has id %d, outside the vocabulary of %u", i, tokens[i],
                             c->n_vocab);
    crit_snapshot_head head = {.model = gguf_fingerprint(s->model->file),
                               .n_tok = s->n_done,
                               .n_layer = c->n_layer,
                               .n_kv_head = c->n_kv_head,
                               .d = c->d_head,
                               .kv_layout = s->model->kernels.kv_layout,
                               .mark = p.mark};
    saving a = {.n = 0};
    crit_status st = gather(&a, s, tokens, n_tok, err);
    if (!st && p.poll && p.poll(p.poll_user)) st = crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    crit_pool_set_poll(s->pool, p.poll, p.poll_user);
    if (!st) st = crit_snapshot_write(path, &head, a.section, a.n, p.zstd, s->pool, err);
    crit_pool_set_poll(s->pool, NULL, NULL);
    for (uint32_t l = 0; a.calib && l < c->n_layer; l++) crit_free(a.calib[l].p);
    crit_free(a.calib);
    crit_free(a.policy.p);
    crit_free(a.section);
    return st;
}

/* ---- load ---- */

/* Opens path and sees that it is of this model. */
static crit_status open_for(crit_snapshot **out, const crit_model *m, const char *path, crit_error *err) {
    crit_status st = crit_snapshot_open(out, path, err);
    if (st) return st;
    const crit_snapshot_head *h = crit_snapshot_get_head(*out);
    const crit_config *c = &m->config;
    if (h->model != gguf_fingerprint(m->file) || h->n_layer != c->n_layer || h->n_kv_head != c->n_kv_head ||
        h->d != c->d_head)
        st = crit_fail(err, CRIT_E_VALUE, "%s: the snapshot was made with another model than %s", path,
                       gguf_path(m->file));
    else if (h->n_tok == 0 || h->kv_layout > CRIT_KV_BF16T)
        st = crit_fail(err, CRIT_E_FORMAT, "%s: the snapshot is damaged (header)", path);
    if (st) crit_snapshot_close(out);
    return st;
}

crit_status crit_snapshot_read_info(const crit_model *m, const char *path, crit_snapshot_info *info, int32_t *tokens,
                                    size_t cap, crit_error *err) {
    if (!m || !path || !info || info->struct_size != sizeof *info || (cap && !tokens))
        return crit_fail(err, CRIT_E_ARG, "crit_snapshot_read_info: bad argument");
    crit_snapshot *f;
    crit_status st = open_for(&f, m, path, err);
    if (st) return st;
    const crit_snapshot_head *h = crit_snapshot_get_head(f);
    *info = (crit_snapshot_info){
        .struct_size = sizeof *info, .n_tok = h->n_tok, .mark = h->mark, .file_bytes = crit_snapshot_file_bytes(f)};
    size_t bytes = 0;
    unsigned char *policy = NULL;
    int32_t *all = NULL;
    if (crit_snapshot_find(f, SEC_POLICY, 0, &bytes) && bytes > NAME_LEN) {
        policy = crit_malloc(bytes, 1);
        st = policy ? crit_snapshot_read(f, &(crit_snapshot_want){SEC_POLICY, 0, policy, bytes}, 1, NULL, err)
                    : crit_fail(err, CRIT_E_NOMEM, "%s: out of memory", path);
        if (!st) memcpy(info->policy, policy, NAME_LEN - 1);
    }
    if (!st && cap) {
        all = crit_malloc(h->n_tok, sizeof *all);
        st =
            all ? crit_snapshot_read(f, &(crit_snapshot_want){SEC_TOKENS, 0, all, h->n_tok * sizeof *all}, 1, NULL, err)
                : crit_fail(err, CRIT_E_NOMEM, "%s: out of memory", path);
        for (uint32_t i = 0; i < h->n_tok && !st; i++)
            if (all[i] < 0 || (uint32_t)all[i] >= m->config.n_vocab)
                st = crit_fail(err, CRIT_E_FORMAT, "%s: the snapshot is damaged (tokens)", path);
        if (!st) memcpy(tokens, all, (cap < h->n_tok ? cap : h->n_tok) * sizeof *tokens);
    }
    crit_free(policy);
    crit_free(all);
    crit_snapshot_close(&f);
    return st;
}

typedef struct importing {
    crit_session *s;
    uint32_t n_tok, layer0;
    int layout;
    const uint16_t *k, *v; /* [items][head_bytes], NULL = in place */
} importing;

static void import_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const importing *a = arg;
    const crit_config *c = &a->s->model->config;
    uint32_t layer = a->layer0 + (uint32_t)(item / c->n_kv_head), head = (uint32_t)(item % c->n_kv_head);
    crit_kv *kv = &a->s->kv[layer];
    size_t at = item * (head_bytes(c, a->n_tok) / sizeof(uint16_t));
    crit_kv_import(kv, head, a->layout, a->k ? a->k + at : crit_kv_k(kv, head), a->v ? a->v + at : crit_kv_v(kv, head),
                   a->n_tok);
}

static void wants(crit_snapshot_want *w, crit_session *s, uint32_t layer, uint32_t head, uint32_t n_tok, void *k,
                  void *v) {
    const crit_config *c = &s->model->config;
    uint32_t index = layer * c->n_kv_head + head;
    size_t bytes = head_bytes(c, n_tok), at = (size_t)head * s->kv[layer].n_blk_cap * CRIT_BLK_LEN * c->d_head;
    w[0] = (crit_snapshot_want){SEC_K, index, k ? (char *)k + head * bytes : (void *)(s->kv[layer].k + at), bytes};
    w[1] = (crit_snapshot_want){SEC_V, index, v ? (char *)v + head * bytes : (void *)(s->kv[layer].v + at), bytes};
}

/* Straight into the stores. */
static crit_status load_kv(crit_session *s, crit_snapshot *f, uint32_t n_tok, crit_error *err) {
    const crit_config *c = &s->model->config;
    size_t n = (size_t)c->n_layer * c->n_kv_head;
    crit_snapshot_want *w = crit_malloc(2 * n, sizeof *w);
    if (!w) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        wants(w + 2 * i, s, (uint32_t)(i / c->n_kv_head), (uint32_t)(i % c->n_kv_head), n_tok, NULL, NULL);
    crit_status st = crit_snapshot_read(f, w, (uint32_t)(2 * n), s->pool, err);
    crit_free(w);
    importing a = {.s = s, .n_tok = n_tok, .layout = s->model->kernels.kv_layout};
    if (!st) crit_pool_run(s->pool, n, import_item, &a);
    return st;
}

/* From another CPU level's layout: a layer at a time through memory of our own. */
static crit_status convert_kv(crit_session *s, crit_snapshot *f, uint32_t n_tok, crit_error *err) {
    const crit_config *c = &s->model->config;
    size_t bytes = head_bytes(c, n_tok);
    crit_snapshot_want *w = crit_malloc(2 * (size_t)c->n_kv_head, sizeof *w);
    uint16_t *k = crit_malloc(c->n_kv_head, bytes), *v = crit_malloc(c->n_kv_head, bytes);
    crit_status st = w && k && v ? CRIT_OK : crit_fail(err, CRIT_E_NOMEM, "out of memory");
    for (uint32_t l = 0; l < c->n_layer && !st; l++) {
        for (uint32_t h = 0; h < c->n_kv_head; h++) wants(w + 2 * h, s, l, h, n_tok, k, v);
        st = crit_snapshot_read(f, w, 2 * c->n_kv_head, s->pool, err);
        importing a = {s, n_tok, l, (int)crit_snapshot_get_head(f)->kv_layout, k, v};
        if (!st) crit_pool_run(s->pool, c->n_kv_head, import_item, &a);
    }
    crit_free(w);
    crit_free(k);
    crit_free(v);
    return st;
}

/* A section whose size the file tells; *p freed by crit_free, NULL when there is none. */
static crit_status read_section(crit_snapshot *f, uint32_t kind, uint32_t index, unsigned char **p, size_t *bytes,
                                crit_error *err) {
    *p = NULL;
    *bytes = 0;
    if (!crit_snapshot_find(f, kind, index, bytes)) return CRIT_OK;
    *p = crit_malloc(*bytes, 1);
    if (!*p) {
        *bytes = 0;
        return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    }
    return crit_snapshot_read(f, &(crit_snapshot_want){kind, index, *p, *bytes}, 1, NULL, err);
}

static crit_status load_calib(crit_session *s, crit_snapshot *f, uint32_t n_tok, crit_error *err) {
    const crit_config *c = &s->model->config;
    crit_status st = CRIT_OK;
    for (uint32_t l = 0; l < c->n_layer && !st; l++) {
        unsigned char *p;
        size_t bytes;
        st = read_section(f, SEC_CALIB, l, &p, &bytes, err);
        crit_blob_view in = {p, bytes, 0, false};
        if (!st && p) st = crit_calib_load(&s->calib[l], c->n_head, n_tok, &in, err);
        crit_free(p);
    }
    return st;
}

static crit_status load_policy(crit_session *s, crit_snapshot *f, uint32_t n_tok, crit_error *err) {
    const crit_policy *policy = s->fwd.policy;
    if (!policy->load) return CRIT_OK;
    unsigned char *p;
    size_t bytes;
    crit_status st = read_section(f, SEC_POLICY, 0, &p, &bytes, err);
    char name[NAME_LEN] = {0};
    crit_blob_view in = {p, bytes, 0, false};
    crit_blob_get(&in, name, sizeof name);
    name[NAME_LEN - 1] = 0;
    if (!st && !in.failed && !strcmp(name, policy->name))
        st = policy->load(s->fwd.policy_state, &s->fwd.env, s->kv, n_tok, &in, err);
    crit_free(p);
    return st;
}

/* The tokens are for whoever asks crit_snapshot_read_info; a file whose tokens are damaged is damaged all the same. */
static crit_status check_tokens(crit_snapshot *f, crit_error *err) {
    unsigned char *p;
    size_t bytes;
    crit_status st = read_section(f, SEC_TOKENS, 0, &p, &bytes, err);
    crit_free(p);
    return st;
}

/* Whose text does not name the file yet. */
static crit_status named(crit_status st, const char *path, crit_error *err) {
    if (!st || !err || strstr(err->message, path)) return st;
    crit_error was = *err;
    return crit_fail(err, st, "%s: %s", path, was.message);
}

crit_status crit_session_load(crit_session *s, const char *path, crit_error *err) {
    if (!s || !path) return crit_fail(err, CRIT_E_ARG, "crit_session_load: session and path");
    if (crit_session_streams(s))
        return crit_fail(err, CRIT_E_STATE, "crit_session_load: %s has no store to load into", s->fwd.prefill->name);
    if (s->n_done || s->in_turn || s->batch_open || s->n_pending)
        return crit_fail(err, CRIT_E_STATE, "crit_session_load: the session has a past");
    const crit_config *c = &s->model->config;
    crit_snapshot *f;
    crit_status st = open_for(&f, s->model, path, err);
    if (st) return st;
    const crit_snapshot_head *h = crit_snapshot_get_head(f);
    uint32_t n_tok = h->n_tok;
    if (n_tok > s->params.n_ctx)
        st = crit_fail(err, CRIT_E_CONTEXT, "%s: %u tokens do not fit the context of %u", path, n_tok, s->params.n_ctx);
    if (!st) st = (h->kv_layout == s->model->kernels.kv_layout ? load_kv : convert_kv)(s, f, n_tok, err);
    crit_snapshot_want logits = {SEC_LOGITS, 0, s->fwd.next_logits, c->n_vocab * sizeof(float)};
    if (!st) st = crit_snapshot_read(f, &logits, 1, NULL, err);
    if (!st) st = load_calib(s, f, n_tok, err);
    if (!st) st = check_tokens(f, err);
    for (uint32_t l = 0; l < c->n_layer && !st; l++) s->kv[l].n_tok = n_tok;
    if (!st) st = load_policy(s, f, n_tok, err);
    crit_snapshot_close(&f);
    if (st) {
        for (uint32_t l = 0; l < c->n_layer; l++) {
            s->kv[l].n_tok = 0;
            crit_calib_cut(&s->calib[l], 0);
        }
        return named(st, path, err);
    }
    float *t = s->fwd.logits;
    s->fwd.logits = s->fwd.next_logits;
    s->fwd.next_logits = t;
    s->n_done = n_tok;
    s->has_logits = true;
    s->stats = (crit_stats){.struct_size = sizeof s->stats,
                            .density = (double)NAN,
                            .mass_measured = (double)NAN,
                            .peak_recall_measured = (double)NAN};
    return CRIT_OK;
}
