/* SPDX-License-Identifier: MIT */
/* What the kinds of eval share: the settings that every record depends on. */
#include <string.h>

#include "eval.h"
#include "jsonout.h"

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void put_knobs(json_t *config, const char *key, const options *o, crit_attn mode) {
    buf b = {0};
    options_attn(&b, &o->attn, mode);
    json_put(config, key, json_cstr(b.s && !b.oom ? b.s : ""));
    buf_free(&b);
}

json_t *eval_config(const options *o, const crit_model *model, const crit_model_info *info) {
    json_t *j = json_object();
    json_put(j, "version", json_cstr(CRIT_VERSION_STRING));
    json_put(j, "model", json_cstr(base_name(o->model))); /* a folder may move, the bytes tell */
    json_put(j, "model_bytes", json_size(info->file_bytes));
    json_put(j, "model_hash", json_hex(crit_model_fingerprint(model)));
    json_put(j, "cpu", json_cstr(info->cpu));
    json_put(j, "threads", json_integer(options_threads(o)));
    json_put(j, "n_batch", json_integer(o->n_batch));
    put_knobs(j, "attn_criti", o, CRIT_ATTN_CRITI);
    put_knobs(j, "attn_paper", o, CRIT_ATTN_PAPER);
    json_put(j, "seed", json_integer((json_int_t)o->sampler.seed));
    return j;
}
