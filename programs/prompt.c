/* SPDX-License-Identifier: MIT */
/* See prompt.h. */
#include "prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "term.h"

enum { USUAL_ANSWER = 128 }; /* room to advise for an answer of any length */

int model_open(const options *o, crit_model **model, crit_model_info *info, double *load_ms) {
    double t = now_ms();
    crit_error err = {0};
    crit_model_params mp;
    crit_model_params_init(&mp);
    mp.cpu = cpu_names[o->cpu];
    if (crit_model_open(model, o->model, &mp, &err)) return fail_with(&err);
    *info = (crit_model_info){.struct_size = sizeof *info};
    crit_model_get_info(*model, info);
    *load_ms = now_ms() - t;
    return EXIT_OK;
}

void prompt_free(prompt *p) {
    free(p->ids);
    *p = (prompt){0};
}

int prompt_tokenize(prompt *p, const crit_model *model, const char *text, size_t n, unsigned flags) {
    crit_error err = {0};
    if (!text) text = "";
    /* A guess that nearly always holds, so that the text is gone through once. */
    size_t cap = n / 2 + 16, got = 0;
    for (int pass = 0; pass < 2; pass++) {
        if (term_interrupted()) return EXIT_INTERRUPTED;
        int32_t *ids = cap > SIZE_MAX / sizeof *ids - p->n ? NULL : realloc(p->ids, (p->n + cap) * sizeof *ids);
        if (!ids) return fail_memory();
        p->ids = ids;
        crit_status st = crit_tokenize(model, text, n, flags, ids + p->n, cap, &got, &err);
        if (st == CRIT_OK) {
            p->n += got;
            return EXIT_OK;
        }
        if (st != CRIT_E_SPACE) break;
        cap = got;
    }
    return fail_with(&err);
}

/* The template with content in it, NUL-terminated. */
static int render(const crit_model *model, const char *system, const char *content, buf *out) {
    crit_error err = {0};
    crit_message msg[2];
    size_t n_msg = 0, n = 0;
    if (system) msg[n_msg++] = (crit_message){"system", system};
    msg[n_msg++] = (crit_message){"user", content};
    crit_status st = crit_chat_render(model, msg, n_msg, true, NULL, 0, &n, &err);
    if (st == CRIT_E_SPACE) {
        if (!buf_room(out, n)) return fail_memory();
        st = crit_chat_render(model, msg, n_msg, true, out->s, n + 1, &n, &err);
    }
    if (st) return fail_with(&err);
    if (!buf_room(out, 0)) return fail_memory();
    out->n = n;
    out->s[n] = 0;
    return EXIT_OK;
}

/* true when reading special tokens changes nothing: the text holds none (and no NUL, which a message cannot hold). */
static int is_plain(const crit_model *model, const char *text, size_t n, bool *plain) {
    prompt a = {0}, b = {0};
    *plain = false;
    if (memchr(text, 0, n)) return EXIT_OK;
    int rc = prompt_tokenize(&a, model, text, n, 0);
    if (!rc) rc = prompt_tokenize(&b, model, text, n, CRIT_TOK_PARSE_SPECIAL);
    *plain = !rc && a.n == b.n && !memcmp(a.ids, b.ids, a.n * sizeof *a.ids);
    prompt_free(&a);
    prompt_free(&b);
    return rc;
}

/* Template before and behind the message with its special tokens, the message between without.  The seams are token
 * borders then, which the template alone would not force: so only where the message needs it. */
enum { CHAT_BEGIN = 1, CHAT_END = 2 };
static int chat_in_parts(prompt *p, const crit_model *model, const char *system, const char *text, size_t n,
                         unsigned parts) {
    static const char marker[] = "critiprefill-message-goes-here";
    buf frame = {0};
    int rc = render(model, system, marker, &frame);
    if (!rc) {
        char *at = NULL;
        for (char *s = frame.s; (s = strstr(s, marker)); s++) at = s; /* the last: system text may say it too */
        if (!at) rc = fail("the chat template changes the message");
        const char *tail = at ? at + strlen(marker) : NULL;
        if (!rc && parts & CHAT_BEGIN)
            rc = prompt_tokenize(p, model, frame.s, (size_t)(at - frame.s), CRIT_TOK_PARSE_SPECIAL);
        if (!rc) rc = prompt_tokenize(p, model, text, n, 0);
        if (!rc && parts & CHAT_END) rc = prompt_tokenize(p, model, tail, strlen(tail), CRIT_TOK_PARSE_SPECIAL);
    }
    buf_free(&frame);
    return rc;
}

int prompt_chat_begin(prompt *p, const crit_model *model, const char *system, const char *text, size_t n) {
    return chat_in_parts(p, model, system, text, n, CHAT_BEGIN);
}

int prompt_chat_end(prompt *p, const crit_model *model, const char *text, size_t n) {
    return chat_in_parts(p, model, NULL, text, n, CHAT_END);
}

int prompt_chat(prompt *p, const crit_model *model, const char *system, const char *text, size_t n) {
    bool plain;
    int rc = is_plain(model, text, n, &plain);
    if (rc) return rc;
    if (!plain) return chat_in_parts(p, model, system, text, n, CHAT_BEGIN | CHAT_END);
    buf whole = {0};
    rc = render(model, system, text, &whole);
    if (!rc) rc = prompt_tokenize(p, model, whole.s, whole.n, CRIT_TOK_PARSE_SPECIAL);
    buf_free(&whole);
    return rc;
}

/* Keeps the first and last halves of keep tokens: the frame of a chat message stands at both ends. */
static void drop_middle(prompt *p, size_t keep) {
    size_t head = keep / 2, tail = keep - head, dropped = p->n - keep;
    memmove(p->ids + head, p->ids + p->n - tail, tail * sizeof *p->ids);
    p->n = keep;
    note("prompt shortened: %zu tokens dropped from its middle, %zu kept", dropped, keep);
}

uint32_t model_context(const crit_model_info *info) {
    return info->n_swa && (!info->n_ctx_train || info->n_swa < info->n_ctx_train) ? info->n_swa : info->n_ctx_train;
}

static int too_long(const prompt *p, const options *o, const crit_model_info *info, size_t limit, size_t need) {
    const char *name = o->prefix ? o->prefix : text_name(o);
    char larger[96] = "";
    if (info->n_swa && need > info->n_swa)
        snprintf(larger, sizeof larger, "the model's sliding window allows %u", info->n_swa);
    else
        snprintf(larger, sizeof larger, "give a larger one with -c %zu%s", need,
                 info->n_ctx_train && need > info->n_ctx_train ? " (more than it was trained for)" : "");
    bool fixed = o->kind == CMD_CLUSTER || o->prefix;
    const char *half = ""; /* of what would lift the limit: else it would not have come to this */
    if (!o->n_ctx && !o->compare && modes_within(o, model_context(info)))
        half = ", or let --decode read by compact positions, too";
    return fail("%s%s: the prompt has %zu tokens, the %scontext %zu; %s%s%s", name,
                o->prefix        ? " and the text behind it"
                : o->files.n > 1 ? ", ..."
                                 : "",
                p->n, o->n_ctx ? "" : "model's ", limit, larger, half,
                fixed ? "" : ", or shorten it with --truncate middle");
}

/* Read by what goes on beyond the model's context. */
static bool is_endless(const options *o, uint32_t train) {
    return !o->compare && (modes_stream(o) || (modes_within(o, train) && (!o->n_predict || decode_within(o, train))));
}

/* Tokens that a prompt may have; 0 = any number. */
static size_t most_tokens(const options *o, const crit_model_info *info) {
    uint32_t train = model_context(info);
    return o->n_ctx ? o->n_ctx : is_endless(o, train) ? 0 : train;
}

int prompt_may_fit(const options *o, const crit_model *model, const crit_model_info *info, size_t n_byte) {
    enum { LARGE = 1 << 22 }; /* less is gone through in a moment, and told how much it has too many */
    const size_t limit = most_tokens(o, info);
    if (!limit || n_byte < LARGE || !*info->tokenizer || o->truncate == TRUNCATE_MIDDLE) return EXIT_OK;
    size_t longest = 1;
    for (uint32_t id = 0; id < info->n_vocab; id++) {
        const size_t n = crit_token_bytes(model, (int32_t)id, true, NULL, 0);
        longest = n > longest ? n : longest;
    }
    if (n_byte / longest <= limit) return EXIT_OK;
    return fail("%s: %zu bytes are more than %zu tokens, the %scontext is %zu%s",
                text_name(o), n_byte, n_byte / longest, o->n_ctx ? "" : "model's ", limit,
                o->kind == CMD_CLUSTER || o->prefix ? "" : "; shorten it with --truncate middle");
}

int prompt_fit(prompt *p, const options *o, const crit_model_info *info, fit *out) {
    size_t want = o->n_predict < 0 ? 0 : (size_t)o->n_predict;
    size_t limit = most_tokens(o, info);
    if (!limit) limit = p->n + (o->n_predict < 0 ? 8192 : want); /* nothing declared: no limit but our own */
    if (!is_endless(o, model_context(info)) && info->n_ctx_train && limit > info->n_ctx_train)
        note("warning: a context of %zu tokens, the model was trained for %u", limit, info->n_ctx_train);

    if (o->truncate == TRUNCATE_MIDDLE) {
        size_t answer = o->n_predict < 0 ? limit / 4 : want < limit / 2 ? want : limit / 2;
        if (p->n > limit - answer) drop_middle(p, limit - answer);
    }
    if (p->n > limit) return too_long(p, o, info, limit, p->n + (o->n_predict < 0 ? USUAL_ANSWER : want));
    size_t room = limit - p->n;
    if (o->n_predict < 0) want = room;
    if (want > room) {
        note("only %zu of %zu tokens can be generated: the prompt has %zu of the context's %zu", room, want, p->n,
             limit);
        want = room;
    }
    out->n_ctx = (uint32_t)(o->n_ctx ? o->n_ctx : p->n + want);
    out->n_predict = (uint32_t)want;
    return EXIT_OK;
}
