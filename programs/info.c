/* SPDX-License-Identifier: MIT */
/* critiprefill info: what a model file holds, what a context needs, which attention would be used. */
#include <string.h>

#include "commands.h"
#include "jsonout.h"
#include "prompt.h"
#include "term.h"

enum { MAX_TYPE = 48 };

/* Tensors of one type. */
typedef struct type_sum {
    const char *name;
    size_t n, bytes;
} type_sum;

typedef struct facts {
    const options *o;
    const crit_model *model;
    crit_model_info info;
    crit_memory memory;
    crit_error no_tokenizer; /* why there is none */
    uint32_t mode;  /* of options.modes */
    uint32_t n_ctx; /* the memory is told for */
    type_sum type[MAX_TYPE];
    size_t n_type;
} facts;

static void sum_types(facts *f) {
    const char *name, *type;
    size_t len, bytes;
    uint64_t dims[4];
    for (size_t i = 0; crit_model_tensor(f->model, i, &name, &len, &type, dims, &bytes); i++) {
        size_t k = 0;
        while (k < f->n_type && strcmp(f->type[k].name, type)) k++;
        if (k == MAX_TYPE) continue;
        if (k == f->n_type) f->type[f->n_type++] = (type_sum){type, 0, 0};
        f->type[k].n++;
        f->type[k].bytes += bytes;
    }
}

/* The dims that count: trailing ones dropped, "576 x 1536". */
static int n_dim(const uint64_t dims[4]) {
    int n = 4;
    while (n > 1 && dims[n - 1] <= 1) n--;
    return n;
}

static void put_row(buf *b, const char *key) {
    buf_fmt(b, "%-14s ", key);
}

static void put_size(buf *b, const char *key, size_t bytes) {
    put_row(b, key);
    buf_fmt(b, "%.1f MB\n", (double)bytes / 1e6);
}

static void put_named(buf *b, const char *key, const char *s, const char *none) {
    put_row(b, key);
    buf_clean(b, *s ? s : none, strlen(*s ? s : none));
    buf_str(b, "\n");
}

static void put_model(buf *b, const facts *f) {
    const crit_model_info *m = &f->info;
    put_named(b, "file", f->o->model, "");
    put_named(b, "name", m->name, "(none)");
    put_named(b, "architecture", m->arch, "");
    put_row(b, "shape");
    buf_fmt(b, "%u layers, %u wide, feed-forward %u, %u query and %u KV heads of %u\n", m->n_layer, m->n_embd, m->n_ff,
            m->n_head, m->n_kv_head, m->d_head);
    put_row(b, "context");
    if (m->n_ctx_train)
        buf_fmt(b, "trained for %u tokens", m->n_ctx_train);
    else
        buf_str(b, "not declared");
    if (m->n_swa) buf_fmt(b, ", sliding window of %u", m->n_swa);
    buf_str(b, "\n");
    put_row(b, "rope");
    buf_clean(b, m->rope, strlen(m->rope));
    buf_fmt(b, ", base %g\n", (double)m->rope_base);
    put_row(b, "vocabulary");
    buf_fmt(b, "%u tokens\n", m->n_vocab);
    char why[sizeof f->no_tokenizer.message + 32];
    snprintf(why, sizeof why, "none that is known: %s", f->no_tokenizer.message);
    put_named(b, "tokenizer", m->tokenizer, why);
    put_named(b, "chat", m->chat, "no template that is known");
    put_row(b, "parameters");
    buf_fmt(b, "%.1f M\n", (double)m->n_params / 1e6);
    put_row(b, "tensors");
    buf_fmt(b, "%zu:", m->n_tensor);
    for (size_t i = 0; i < f->n_type; i++)
        buf_fmt(b, "%s %zu %s (%.1f MB)", i ? "," : "", f->type[i].n, f->type[i].name, (double)f->type[i].bytes / 1e6);
    buf_str(b, "\n");
}

static void put_tensors(buf *b, const facts *f) {
    const char *name, *type;
    size_t len, bytes;
    uint64_t dims[4];
    buf_str(b, "\n");
    for (size_t i = 0; crit_model_tensor(f->model, i, &name, &len, &type, dims, &bytes); i++) {
        buf text = {0}, shape = {0};
        buf_clean(&text, name, len);
        for (int k = 0; k < n_dim(dims); k++) buf_fmt(&shape, k ? " x %llu" : "%llu", (unsigned long long)dims[k]);
        buf_fmt(b, "%-32s %-8s %-16s %12zu bytes\n", text.n ? text.s : "", type, shape.n ? shape.s : "", bytes);
        b->oom = b->oom || text.oom || shape.oom;
        buf_free(&text);
        buf_free(&shape);
    }
}

/* What --quality sets. */
static void put_presets(buf *b, const facts *f) {
    for (int q = 0; quality_names[q]; q++) {
        crit_attn_params p = f->o->attn;
        crit_attn_params_preset(&p, (crit_quality)q);
        buf_fmt(b, "\n  %-14s ", quality_names[q]);
        options_attn(b, &p, CRIT_ATTN_CRITI);
    }
}

static int print_text(const facts *f) {
    buf b = {0};
    put_model(&b, f);
    put_named(&b, "cpu", f->info.cpu, "");
    put_named(&b, "attention", mode_name(f->o, f->mode), "");
    if (f->mode < MODE_POLICY) {
        put_row(&b, "");
        options_attn(&b, &f->o->attn, (crit_attn)f->mode);
    }
    if (f->mode == CRIT_ATTN_CRITI) put_presets(&b, f);
    buf_fmt(&b, "%sMemory for a context of %u tokens, read %u at a time by %u threads\n",
            f->mode < MODE_POLICY ? "\n\n" : "\n", f->n_ctx, f->memory.n_batch, options_threads(f->o));
    put_size(&b, "  weights", f->memory.weights_bytes);
    put_size(&b, "  KV store", f->memory.kv_bytes);
    if (f->memory.policy_bytes) put_size(&b, "  policy", f->memory.policy_bytes);
    put_size(&b, "  activations", f->memory.activation_bytes);
    put_size(&b, "  scratch", f->memory.scratch_bytes);
    put_size(&b, "  in all", f->memory.total_bytes);
    if (f->memory.available_bytes) put_size(&b, "  free now", f->memory.available_bytes);
    if (f->o->tensors) put_tensors(&b, f);
    int rc = out_buf(&b);
    buf_free(&b);
    return rc;
}

static json_t *tensors_json(const facts *f) {
    const char *name, *type;
    size_t len, bytes;
    uint64_t dims[4];
    json_t *list = json_array();
    for (size_t i = 0; crit_model_tensor(f->model, i, &name, &len, &type, dims, &bytes); i++) {
        json_t *t = json_object(), *d = json_array();
        json_put(t, "name", json_text(name, len));
        json_put(t, "type", json_cstr(type));
        for (int k = 0; k < n_dim(dims); k++) json_array_append_new(d, json_integer((json_int_t)dims[k]));
        json_put(t, "dims", d);
        json_put(t, "bytes", json_size(bytes));
        json_array_append_new(list, t);
    }
    return list;
}

static void put_fields(json_t *j, const crit_attn_params *o, uint32_t mode) {
    for (const field *p = attn_fields; p->key; p++) {
        const char *at = (const char *)o + p->at;
        if (p->tag != mode) continue;
        json_put(j, p->key,
                 p->kind == OPT_F32 ? json_num((double)*(const float *)at) : json_integer(*(const uint32_t *)at));
    }
}

static json_t *attn_json(const facts *f) {
    json_t *j = json_object(), *presets = json_object();
    json_put(j, "mode", json_cstr(mode_name(f->o, f->mode)));
    put_fields(j, &f->o->attn, f->mode);
    for (int q = 0; quality_names[q]; q++) {
        crit_attn_params p = f->o->attn;
        json_t *k = json_object();
        crit_attn_params_preset(&p, (crit_quality)q);
        put_fields(k, &p, CRIT_ATTN_CRITI);
        json_put(presets, quality_names[q], k);
    }
    json_put(j, "presets", presets);
    return j;
}

static json_t *memory_json(const facts *f) {
    const crit_memory *m = &f->memory;
    json_t *j = json_object();
    json_put(j, "n_ctx", json_integer(f->n_ctx));
    json_put(j, "n_batch", json_integer(f->memory.n_batch));
    json_put(j, "threads", json_integer(options_threads(f->o)));
    json_put(j, "weights_bytes", json_size(m->weights_bytes));
    json_put(j, "kv_bytes", json_size(m->kv_bytes));
    json_put(j, "policy_bytes", json_size(m->policy_bytes));
    json_put(j, "activation_bytes", json_size(m->activation_bytes));
    json_put(j, "scratch_bytes", json_size(m->scratch_bytes));
    json_put(j, "total_bytes", json_size(m->total_bytes));
    json_put(j, "available_bytes", m->available_bytes ? json_size(m->available_bytes) : json_null());
    return j;
}

static int print_json(const facts *f) {
    const crit_model_info *m = &f->info;
    const struct {
        const char *key, *s;
    } texts[] = {{"file", f->o->model}, {"name", m->name}, {"arch", m->arch}, {"tokenizer", m->tokenizer},
                 {"chat", m->chat},     {"rope", m->rope}, {"cpu", m->cpu}};
    const struct {
        const char *key;
        size_t n;
    } counts[] = {{"n_layer", m->n_layer},
                  {"n_head", m->n_head},
                  {"n_kv_head", m->n_kv_head},
                  {"n_group", m->n_group},
                  {"d_head", m->d_head},
                  {"n_embd", m->n_embd},
                  {"n_ff", m->n_ff},
                  {"n_vocab", m->n_vocab},
                  {"n_ctx_train", m->n_ctx_train},
                  {"n_swa", m->n_swa},
                  {"n_params", m->n_params},
                  {"weights_bytes", m->weights_bytes},
                  {"file_bytes", m->file_bytes},
                  {"n_tensor", m->n_tensor}};
    json_t *j = json_object(), *types = json_object();
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) json_put(j, texts[i].key, json_cstr(texts[i].s));
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) json_put(j, counts[i].key, json_size(counts[i].n));
    json_put(j, "rope_base", json_num((double)m->rope_base));
    json_put(j, "rms_eps", json_num((double)m->rms_eps));
    for (size_t i = 0; i < f->n_type; i++) {
        json_t *t = json_object();
        json_put(t, "n", json_size(f->type[i].n));
        json_put(t, "bytes", json_size(f->type[i].bytes));
        json_put(types, f->type[i].name, t);
    }
    json_put(j, "types", types);
    json_put(j, "attn", attn_json(f));
    json_put(j, "memory", memory_json(f));
    if (f->o->tensors) json_put(j, "tensors", tensors_json(f));
    return json_print(j);
}

int info_main(const options *o) {
    facts f = {.o = o, .mode = o->modes.v[0], .memory = {.struct_size = sizeof f.memory}};
    crit_model *model = NULL;
    crit_error err = {0};
    double ms;
    int rc = model_open(o, &model, &f.info, &ms);
    size_t none;
    if (!rc && !*f.info.tokenizer) (void)crit_tokenize(model, "", 0, 0, NULL, 0, &none, &f.no_tokenizer);
    if (!rc) {
        f.model = model;
        f.n_ctx = o->n_ctx ? o->n_ctx : model_context(&f.info);
        if (!f.n_ctx) f.n_ctx = 8192; /* as crit_session_params says */
        sum_types(&f);
        crit_session_params sp = session_params(o, f.mode, f.n_ctx);
        if (crit_memory_estimate(model, &sp, &f.memory, &err)) rc = fail_with(&err);
    }
    if (!rc) rc = o->json ? print_json(&f) : print_text(&f);
    crit_model_close(&model);
    return rc;
}
