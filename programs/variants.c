/* SPDX-License-Identifier: MIT */
/* See variants.h. */
#include "variants.h"

#include <stdlib.h>
#include <string.h>

#include "critiprefill/policy.h"
#include "term.h"

static int find_name(const char *const *list, const char *s, size_t n) {
    for (int i = 0; list[i]; i++)
        if (strlen(list[i]) == n && !memcmp(list[i], s, n)) return i;
    return -1;
}

static int bad(const char *cmd_name, const char *s, size_t n) {
    return usage(cmd_name, "--attn: '%.*s' is not criti, dense, paper, fast, balanced or careful", (int)n, s);
}

/* name[:key=value]... */
static int one_variant(variants *out, const options *o, const char *cmd_name, const char *s, size_t n) {
    if (out->n == VARIANT_MAX) return usage(cmd_name, "more than %d attentions", VARIANT_MAX);
    variant *v = &out->v[out->n];
    if (n == 0 || n >= sizeof v->name) return bad(cmd_name, s, n);
    size_t word = strcspn(s, ":,");
    if (word > n) word = n;
    v->attn = o->attn;
    int mode = find_name(attn_names, s, word), quality = find_name(quality_names, s, word);
    if (mode >= 0) {
        v->attn.mode = (crit_attn)mode;
    } else if (quality >= 0) {
        crit_attn_params_preset(&v->attn, (crit_quality)quality);
    }
    memcpy(v->name, s, n);
    v->name[n] = 0;
    if (mode < 0 && quality < 0) {
        crit_error err = {0};
        v->policy = true;
        v->attn.mode = CRIT_ATTN_DENSE;
        if (crit_policy_check(CRIT_POLICY_PREFILL, v->name, &err))
            return word < n ? usage(cmd_name, "--attn: %s", err.message) : bad(cmd_name, s, word);
        out->n++;
        return EXIT_OK;
    }
    for (size_t at = word; at < n;) {
        size_t len = 0;
        at++; /* the colon */
        while (at + len < n && s[at + len] != ':') len++;
        char part[sizeof v->name];
        memcpy(part, s + at, len);
        part[len] = 0;
        int rc = args_set_field(attn_fields, cmd_name, "--attn", part, &v->attn);
        if (rc) return rc;
        at += len;
    }
    out->n++;
    return EXIT_OK;
}

int variants_parse(variants *out, const options *o, const char *cmd_name, const char *list) {
    for (const char *s = list;;) {
        size_t n = strcspn(s, ",");
        int rc = one_variant(out, o, cmd_name, s, n);
        if (rc || !s[n]) return rc;
        s += n + 1;
    }
}

/* Depth first over the keys, so that the last one varies fastest. */
static int sweep_from(variants *out, const options *o, const char *cmd_name, const char *rest, buf *name) {
    if (!*rest) return one_variant(out, o, cmd_name, name->s, name->n);
    size_t part = strcspn(rest, ";"), key = strcspn(rest, "=");
    if (key == 0 || key >= part) return usage(cmd_name, "--sweep: '%.*s' is not KEY=VALUE,...", (int)part, rest);
    const char *next = rest[part] ? rest + part + 1 : rest + part;
    for (size_t at = key + 1; at <= part;) {
        size_t n = strcspn(rest + at, ",;");
        size_t keep = name->n;
        buf_fmt(name, ":%.*s=%.*s", (int)key, rest, (int)n, rest + at);
        if (name->oom) return fail_memory();
        int rc = sweep_from(out, o, cmd_name, next, name);
        name->n = keep;
        name->s[keep] = 0;
        if (rc) return rc;
        at += n + 1;
    }
    return EXIT_OK;
}

int variants_sweep(variants *out, const options *o, const char *cmd_name, const char *sweep) {
    buf name = {0};
    buf_str(&name, attn_names[CRIT_ATTN_CRITI]);
    int rc = name.oom ? fail_memory() : sweep_from(out, o, cmd_name, sweep, &name);
    buf_free(&name);
    return rc;
}

crit_session_params variant_session(const options *o, const variant *v, uint32_t n_ctx) {
    crit_session_params s = session_params(o, v->attn.mode, n_ctx);
    s.attn = v->attn;
    if (v->policy) s.prefill = v->name;
    return s;
}
