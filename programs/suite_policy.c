/* SPDX-License-Identifier: MIT */
/* The policies of a suite: an entry with ratios is a policy for each of them, and full attention stands in front of
 * all, whether it was named or not. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "critiprefill/policy.h"
#include "jsonout.h"
#include "rng.h"
#include "suite_config.h"
#include "suite_expr.h"
#include "term.h"

static const char *const text_keys[] = {"attn", "quality", "attn_opt", "decode", "kv", NULL};
static const double ratio_max = 1000;

/* ---- one policy at one length ---- */

static int expand(const suite *s, const suite_policy *p, uint32_t ctx, const char *key, char out[SUITE_TEXT_CAP]) {
    const suite_env env = {ctx, p->ratio};
    char why[160], place[64];
    buf b = {0};
    snprintf(place, sizeof place, "%s.%s", p->place, key);
    bool good = suite_expand(&b, suite_text(p->entry, key), &env, why, sizeof why);
    int rc = b.oom                   ? fail_memory()
             : !good                 ? suite_wrong(s, place, "%s", why)
             : b.n >= SUITE_TEXT_CAP ? suite_wrong(s, place, "longer than %d bytes", SUITE_TEXT_CAP - 1)
                                     : EXIT_OK;
    if (!rc) memcpy(out, b.s, b.n + 1);
    buf_free(&b);
    return rc;
}

/* attn, quality and attn_opt as on the command line: a preset lies under the name, knobs lie on top. */
static int set_attn(const suite *s, const suite_policy *p, uint32_t ctx, variant *v, uint64_t *hash) {
    char name[SUITE_TEXT_CAP], quality[SUITE_TEXT_CAP], knobs[SUITE_TEXT_CAP], why[256], place[64];
    char label[sizeof v->name];
    options base = *s->o;
    int rc = expand(s, p, ctx, "attn", name);
    if (!rc) rc = expand(s, p, ctx, "quality", quality);
    if (!rc) rc = expand(s, p, ctx, "attn_opt", knobs);
    if (rc) return rc;
    if (*quality) {
        size_t i = 0;
        while (quality_names[i] && strcmp(quality_names[i], quality)) i++;
        snprintf(place, sizeof place, "%s.quality", p->place);
        if (!quality_names[i]) return suite_wrong(s, place, "'%.40s' is not fast, balanced or careful", quality);
        crit_attn_params_preset(&base.attn, (crit_quality)i);
    }
    if (!*name) snprintf(name, sizeof name, "%s", attn_names[CRIT_ATTN_CRITI]);
    const char *const said[] = {name, quality, knobs};
    for (int i = 0; i < 3; i++) *hash = hash_bytes(*hash, said[i], strlen(said[i]) + 1);
    snprintf(label, sizeof label, "%.40s%s%.12s%s%.40s", name, *quality ? " " : "", quality, *knobs ? " " : "", knobs);
    snprintf(place, sizeof place, "%s.attn", p->place);
    if (!variant_parse(v, &base, name, strlen(name), why, sizeof why)) return suite_wrong(s, place, "%s", why);
    snprintf(place, sizeof place, "%s.attn_opt", p->place);
    for (char *k = knobs; *k;) {
        size_t n = strcspn(k, ",");
        bool last = !k[n];
        k[n] = 0;
        if (!args_field(attn_fields, k, &v->attn, why, sizeof why)) return suite_wrong(s, place, "%s", why);
        k += last ? n : n + 1;
    }
    if (!v->policy) memcpy(v->name, label, sizeof label); /* a policy's text is what the session is given */
    return EXIT_OK;
}

/* A text of the configuration that the library judges. */
static int check_text(const suite *s, const suite_policy *p, const char *key, crit_policy_place where,
                      const char *text) {
    crit_error err = {0};
    char place[64];
    if (!crit_policy_check(where, text, &err)) return EXIT_OK;
    snprintf(place, sizeof place, "%s.%s", p->place, key);
    const char *what = err.message;
    size_t flag = strlen(key) + 4; /* "--decode: " */
    if (!strncmp(what, "--", 2) && strlen(what) > flag && !strncmp(what + 2, key, strlen(key))) what += flag;
    return suite_wrong(s, place, "%s", what);
}

int suite_setup_of(const suite *s, const suite_policy *p, uint32_t ctx, suite_setup *out) {
    out->hash = HASH_START;
    int rc = set_attn(s, p, ctx, &out->attn, &out->hash);
    if (!rc) rc = expand(s, p, ctx, "decode", out->decode);
    if (!rc) rc = expand(s, p, ctx, "kv", out->kv);
    if (!rc && !*out->decode) snprintf(out->decode, sizeof out->decode, "full");
    if (!rc && !*out->kv) snprintf(out->kv, sizeof out->kv, "full");
    if (!rc) rc = check_text(s, p, "decode", CRIT_POLICY_DECODE, out->decode);
    if (!rc) rc = check_text(s, p, "kv", CRIT_POLICY_KV, out->kv);
    if (rc) return rc;
    out->hash = hash_bytes(out->hash, out->decode, strlen(out->decode) + 1);
    out->hash = hash_bytes(out->hash, out->kv, strlen(out->kv) + 1);
    return EXIT_OK;
}

crit_session_params suite_session(const options *o, const suite_setup *u, uint32_t ctx) {
    crit_session_params p = variant_session(o, &u->attn, ctx);
    p.decode = u->decode;
    p.kv = u->kv;
    return p;
}

/* ---- the list ---- */

static int set_name(suite *s, suite_policy *p) {
    const char *name = suite_text(p->entry, "name");
    const suite_env env = {0, p->ratio};
    char why[160];
    buf b = {0};
    bool good = suite_expand(&b, name, &env, why, sizeof why);
    if (good && p->ratio > 0 && !suite_has_expr(name)) buf_fmt(&b, "-%gx", p->ratio);
    int rc = b.oom                   ? fail_memory()
             : !good                 ? suite_wrong(s, p->place, "name: %s", why)
             : !suite_name_good(b.s) ? suite_wrong(s, p->place, "name: '%.40s' is not 1 to %d of a-z A-Z 0-9 . _ -",
                                                   b.s, SUITE_NAME_CAP - 1)
                                     : EXIT_OK;
    if (!rc) memcpy(p->name, b.s, b.n + 1);
    buf_free(&b);
    for (size_t i = 0; i < s->n_policy && !rc; i++)
        if (!strcmp(s->policy[i].name, p->name))
            rc = suite_wrong(s, p->place, "the name '%s' is taken by %s", p->name, s->policy[i].place);
    return rc;
}

static int add_policy(suite *s, const json_t *entry, size_t family, double ratio) {
    if (s->n_policy == SUITE_MAX_POLICY) return suite_wrong(s, "policies", "more than %d of them", SUITE_MAX_POLICY);
    suite_policy *p = &s->policy[s->n_policy];
    *p = (suite_policy){.entry = json_deep_copy(entry), .ratio = ratio, .family = family};
    snprintf(p->place, sizeof p->place, "policies[%zu]", family);
    json_object_del(p->entry, "ratios");
    if (ratio > 0) json_put(p->entry, "ratio", json_num(ratio));
    int rc = set_name(s, p);
    s->n_policy++; /* its entry is freed with the suite */
    if (!rc) json_put(p->entry, "name", json_cstr(p->name));
    return rc;
}

static int check_ratio(const suite *s, const char *place, const json_t *x) {
    return json_is_number(x) && json_number_value(x) >= 1 && json_number_value(x) <= ratio_max
               ? EXIT_OK
               : suite_wrong(s, place, "a ratio is a number from 1 to %g", ratio_max);
}

static int read_entry(suite *s, const json_t *entry, size_t family) {
    static const char *const known[] = {"comment", "name", "attn",  "quality", "attn_opt",
                                        "decode",  "kv",   "ratio", "ratios",  NULL};
    const json_t *one = json_object_get(entry, "ratio"), *many = json_object_get(entry, "ratios");
    char place[48];
    snprintf(place, sizeof place, "policies[%zu]", family);
    if (!json_is_object(entry)) return suite_wrong(s, place, "an object is wanted");
    int rc = suite_keys(s, place, entry, known);
    for (size_t i = 0; text_keys[i] && !rc; i++) {
        const json_t *x = json_object_get(entry, text_keys[i]);
        if (x && !json_is_string(x)) rc = suite_wrong(s, place, "%s: a text is wanted", text_keys[i]);
    }
    if (!rc && !*suite_text(entry, "name")) rc = suite_wrong(s, place, "name: it has none");
    if (!rc && one && many) rc = suite_wrong(s, place, "ratio and ratios exclude each other");
    if (!rc && many && !json_array_size(many)) rc = suite_wrong(s, place, "ratios: a list of numbers is wanted");
    if (rc) return rc;
    if (one && (rc = check_ratio(s, place, one))) return rc;
    if (!many) return add_policy(s, entry, family, one ? json_number_value(one) : 0);
    for (size_t i = 0; i < json_array_size(many) && !rc; i++) {
        const json_t *x = json_array_get(many, i);
        rc = check_ratio(s, place, x);
        if (!rc) rc = add_policy(s, entry, family, json_number_value(x));
    }
    return rc;
}

static bool is_full(const suite_policy *p) {
    const char *decode = suite_text(p->entry, "decode"), *kv = suite_text(p->entry, "kv");
    return !strcmp(suite_text(p->entry, "attn"), attn_names[CRIT_ATTN_DENSE]) && !*suite_text(p->entry, "attn_opt") &&
           !*suite_text(p->entry, "quality") && (!*decode || !strcmp(decode, "full")) && (!*kv || !strcmp(kv, "full"));
}

/* What all others are held against comes first. */
static int put_full_first(suite *s) {
    size_t at = 0;
    while (at < s->n_policy && !is_full(&s->policy[at])) at++;
    for (size_t i = 0; i < s->n_policy; i++)
        if (i != at && !strcmp(s->policy[i].name, "full"))
            return suite_wrong(s, s->policy[i].place,
                               "the name 'full' is kept for full attention behind a dense prompt");
    if (at == s->n_policy) {
        json_t *entry = json_pack("{ssss}", "name", "full", "attn", attn_names[CRIT_ATTN_DENSE]);
        int rc = add_policy(s, entry, json_array_size(json_object_get(s->root, "policies")), 0);
        json_decref(entry);
        if (rc) return rc;
    }
    suite_policy full = s->policy[at];
    memmove(s->policy + 1, s->policy, at * sizeof *s->policy);
    s->policy[0] = full;
    return EXIT_OK;
}

int suite_read_policies(suite *s) {
    const json_t *list = json_object_get(s->root, "policies"), *entry;
    size_t i;
    int rc = EXIT_OK;
    if (!json_array_size(list)) return suite_wrong(s, "policies", "a list of one policy and more is wanted");
    json_array_foreach(list, i, entry) if (!rc) rc = read_entry(s, entry, i);
    if (!rc) rc = put_full_first(s);
    for (i = 0; i < s->n_policy && !rc; i++)
        for (size_t t = 0; t < s->n_task && !rc; t++)
            for (size_t c = 0; c < s->task[t].ctx.n && !rc; c++) {
                suite_setup u;
                rc = suite_setup_of(s, &s->policy[i], s->task[t].ctx.v[c], &u);
                if (!rc) s->task[t].setup[i][c] = u.hash;
            }
    return rc;
}
