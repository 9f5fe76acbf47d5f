/* SPDX-License-Identifier: MIT */
/* See variants.h. */
#include "variants.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "critiprefill/policy.h"
#include "term.h"

static bool bad(const char *s, size_t n, char *why, size_t cap) {
    snprintf(why, cap, "'%.*s' is not criti, dense, paper, fast, balanced, careful or a policy of the prompt", (int)n,
             s);
    return false;
}

/* Whose knob "KEY=VALUE" is: one of another attention would change the name, and nothing else. */
static bool foreign(const char *part, crit_attn mode, char *why, size_t cap) {
    const size_t n = strcspn(part, "=");
    const field *f = attn_fields;
    while (f->key && (strlen(f->key) != n || memcmp(f->key, part, n))) f++;
    if (!f->key || f->tag == (unsigned)mode) return false;
    snprintf(why, cap, "%s is a knob of %s, not of %s", f->key, attn_names[f->tag], attn_names[mode]);
    return true;
}

bool variant_parse(variant *v, const options *o, const char *s, size_t n, char *why, size_t cap) {
    if (n == 0) return bad(s, n, why, cap);
    if (n >= sizeof v->name) {
        snprintf(why, cap, "'%.40s...' has more than %zu characters", s, sizeof v->name - 1);
        return false;
    }
    size_t word = strcspn(s, ":,");
    if (word > n) word = n;
    v->attn = o->attn;
    int mode = find_name(attn_names, s, word), quality = find_name(quality_names, s, word);
    if (mode >= 0)
        v->attn.mode = (crit_attn)mode;
    else if (quality >= 0)
        v->attn = o->preset[quality];
    memcpy(v->name, s, n);
    v->name[n] = 0;
    v->policy = mode < 0 && quality < 0;
    if (v->policy) {
        crit_error err = {0};
        v->attn.mode = CRIT_ATTN_DENSE;
        if (!crit_policy_check(CRIT_POLICY_PREFILL, v->name, &err)) {
            v->streams = policy_streams(v->name);
            v->span = crit_policy_span(CRIT_POLICY_PREFILL, v->name);
            return true;
        }
        if (word == n) return bad(s, word, why, cap);
        snprintf(why, cap, "%s", err.message);
        return false;
    }
    for (size_t at = word; at < n;) {
        size_t len = 0;
        at++; /* the colon or comma */
        while (at + len < n && s[at + len] != ':' && s[at + len] != ',') len++;
        char part[sizeof v->name];
        memcpy(part, s + at, len);
        part[len] = 0;
        if (!args_field(attn_fields, part, &v->attn, why, cap) || foreign(part, v->attn.mode, why, cap)) return false;
        at += len;
    }
    return true;
}

/* flag: what the user wrote it behind. */
static int one_variant(variants *out, const options *o, const char *cmd_name, const char *flag, const char *s,
                       size_t n) {
    char why[256];
    if (out->n == VARIANT_MAX) return usage(cmd_name, "more than %d attentions", VARIANT_MAX);
    if (!variant_parse(&out->v[out->n], o, s, n, why, sizeof why)) return usage(cmd_name, "%s: %s", flag, why);
    out->n++;
    return EXIT_OK;
}

int variants_parse(variants *out, const options *o, const char *cmd_name, const char *list) {
    for (const char *s = list;;) {
        size_t n = policy_item(s);
        int rc = one_variant(out, o, cmd_name, "--attn", s, n);
        if (rc || !s[n]) return rc;
        s += n + 1;
    }
}

/* Depth first over the keys, so that the last one varies fastest. */
static int sweep_from(variants *out, const options *o, const char *cmd_name, const char *rest, buf *name) {
    if (!*rest) return one_variant(out, o, cmd_name, "--sweep", name->s, name->n);
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

bool variants_stream(const variants *list) {
    for (size_t i = 0; i < list->n; i++)
        if (!list->v[i].streams) return false;
    return list->n > 0;
}

crit_session_params variant_session(const options *o, const variant *v, uint32_t n_ctx) {
    crit_session_params s = session_params(o, v->attn.mode, n_ctx);
    s.attn = v->attn;
    if (v->policy) s.prefill = v->name;
    return s;
}
