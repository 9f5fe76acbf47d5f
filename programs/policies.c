/* SPDX-License-Identifier: MIT */
/* critiprefill policies: the list, as the library tells it. */
#include "commands.h"
#include "critiprefill/policy.h"
#include "jsonout.h"
#include "term.h"

static const char *const place_names[] = {"decode", "n-samples", "attn", "kv"}; /* by crit_policy_place */

static void put_range(buf *out, const crit_policy_option *o) {
    if (!o->choices) {
        buf_fmt(out, " [%.10g, %.10g]", o->lo, o->hi);
        return;
    }
    for (size_t i = 0; o->choices[i]; i++) buf_fmt(out, i ? "|%s" : " %s", o->choices[i]);
}

static void put_default(buf *out, const crit_policy_option *o) {
    if (o->choices)
        buf_fmt(out, "%s=%s", o->name, o->choices[(size_t)o->def]);
    else
        buf_fmt(out, "%s=%g", o->name, o->def);
}

static void put_text(buf *out, const crit_policy_info *p) {
    const char *form = p->place == CRIT_POLICY_BATCH ? "%2$s (--%1$s N): %3$s\n" : "--%1$s %2$s: %3$s\n";
    buf_fmt(out, form, place_names[p->place], p->name, p->summary);
    for (size_t i = 0; i < p->n_option; i++) {
        const crit_policy_option *o = &p->options[i];
        buf kv = {0};
        put_default(&kv, o);
        buf_fmt(out, "    %-16s %s;", kv.oom ? o->name : kv.s, o->help);
        buf_free(&kv);
        put_range(out, o);
        buf_str(out, "\n");
    }
    buf_fmt(out, "    %s; with %s; source: %s\n\n", p->exact ? "exact" : "approximate", p->combines, p->source);
}

static json_t *info_json(const crit_policy_info *p) {
    json_t *j = json_object(), *list = json_array();
    json_put(j, "name", json_cstr(p->name));
    json_put(j, "place", json_cstr(place_names[p->place]));
    json_put(j, "summary", json_cstr(p->summary));
    json_put(j, "exact", json_boolean(p->exact));
    json_put(j, "combines", json_cstr(p->combines));
    json_put(j, "source", json_cstr(p->source));
    for (size_t i = 0; i < p->n_option; i++) {
        const crit_policy_option *o = &p->options[i];
        json_t *k = json_object();
        json_put(k, "name", json_cstr(o->name));
        json_put(k, "help", json_cstr(o->help));
        if (o->choices) {
            json_t *words = json_array();
            for (size_t c = 0; o->choices[c]; c++) json_array_append_new(words, json_cstr(o->choices[c]));
            json_put(k, "default", json_cstr(o->choices[(size_t)o->def]));
            json_put(k, "words", words);
        } else {
            json_put(k, "default", json_num(o->def));
            json_put(k, "min", json_num(o->lo));
            json_put(k, "max", json_num(o->hi));
        }
        json_array_append_new(list, k);
    }
    json_put(j, "options", list);
    return j;
}

int policies_main(const options *o) {
    buf out = {0};
    int rc = EXIT_OK;
    for (size_t i = 0; i < crit_policy_count() && !rc; i++) {
        crit_policy_info p = {.struct_size = sizeof p};
        if (crit_policy_get(i, &p)) continue;
        if (o->json)
            rc = json_print(info_json(&p));
        else
            put_text(&out, &p);
    }
    if (!rc && !o->json) rc = out_buf(&out);
    buf_free(&out);
    return rc;
}
