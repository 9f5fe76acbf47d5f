/* SPDX-License-Identifier: MIT */
/* See forced.h. */
#include "forced.h"

#include <stdlib.h>

#include "jsonout.h"
#include "term.h"

int forced_row(void *user, uint32_t pos, const float *x, uint32_t n_vocab) {
    forced *f = user;
    if (pos + 1 >= f->p->n || !f->value_of[pos]) return 0;
    uint32_t v = f->value_of[pos] - 1u, best = 0;
    for (uint32_t i = 1; i < n_vocab; i++)
        if (x[i] > x[best]) best = i;
    f->n_seen[v]++;
    f->said[pos] = (int32_t)best;
    if ((int32_t)best != f->p->ids[pos + 1]) f->missed[v] = true;
    return 0;
}

int forced_open(forced *f, const crit_model *model, const sample *s, const prompt *p) {
    *f = (forced){.model = model, .p = p, .first = UINT32_MAX};
    size_t *at = malloc((p->n + 1) * sizeof *at); /* where each token begins */
    f->value_of = calloc(p->n, 1);
    f->said = calloc(p->n, sizeof *f->said);
    if (!at || !f->value_of || !f->said) {
        free(at);
        return fail_memory();
    }
    at[0] = 0;
    for (size_t i = 0; i < p->n; i++) at[i + 1] = at[i] + crit_token_bytes(model, p->ids[i], false, NULL, 0);
    /* Some tokenizers put a blank in front of the text. */
    size_t shift = at[p->n] - s->text.n;
    bool good = shift <= 1;
    for (size_t v = 0, t = 1; good && v < s->n_value; v++) {
        size_t from = s->value[v].at + shift, to = from + s->value[v].len;
        while (t < p->n && at[t + 1] <= from) t++; /* never the first token: nothing predicts it */
        f->begin[v] = (uint32_t)t - 1;
        for (; t < p->n && at[t] < to; t++) {
            f->value_of[t - 1] = (uint8_t)(v + 1);
            f->n_row[v]++;
            f->last = (uint32_t)t - 1;
        }
        if (f->begin[v] < f->first) f->first = f->begin[v];
        good = f->n_row[v] > 0;
    }
    free(at);
    return good ? EXIT_OK : fail("lookup: this tokenizer does not give the text back, so values cannot be told");
}

static json_t *bits(const bool *missed, size_t n) {
    char s[LOOKUP_MAX + 1];
    for (size_t i = 0; i < n; i++) s[i] = missed[i] ? '0' : '1';
    return json_stringn(s, n);
}

/* Every token was given the right ones before it: not what the model would have gone on with after a wrong one. */
static json_t *output(const forced *f, const sample *s) {
    buf b = {0};
    for (size_t i = 0; i < s->n_value; i++) {
        if (i) buf_str(&b, "\n");
        for (uint32_t k = 0; k < f->n_row[i]; k++) {
            const int32_t id = f->said[f->begin[i] + k];
            const size_t n = crit_token_bytes(f->model, id, false, NULL, 0);
            if (!buf_room(&b, n)) break;
            b.n += crit_token_bytes(f->model, id, false, b.s + b.n, n);
        }
    }
    if (b.oom) exit(fail_memory());
    json_t *j = json_text(b.n ? b.s : "", b.n);
    buf_free(&b);
    return j;
}

void forced_score(const forced *f, const sample *s, uint32_t last_tok, json_t *j) {
    uint32_t n = (uint32_t)f->p->n, tail = n > last_tok ? n - last_tok : 0;
    json_int_t found[2] = {0}, all[2] = {0};
    for (size_t i = 0; i < s->n_value; i++) {
        all[f->begin[i] >= tail]++;
        found[f->begin[i] >= tail] += !f->missed[i];
    }
    json_put(j, "output", output(f, s));
    json_put(j, "found", bits(f->missed, s->n_value));
    json_put(j, "score", json_num((double)(found[0] + found[1]) / (double)s->n_value));
    json_put(j, "found_tail", json_integer(found[1]));
    json_put(j, "n_tail", json_integer(all[1]));
    json_put(j, "found_sparse", json_integer(found[0]));
    json_put(j, "n_sparse", json_integer(all[0]));
}

int forced_complete(const forced *f, const sample *s) {
    for (size_t i = 0; i < s->n_value; i++)
        if (f->n_seen[i] != f->n_row[i])
            return fail("lookup: logits of %u positions did not come", f->n_row[i] - f->n_seen[i]);
    return EXIT_OK;
}

void forced_free(forced *f) {
    free(f->value_of);
    free(f->said);
    f->value_of = NULL;
    f->said = NULL;
}
