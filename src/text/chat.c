/* SPDX-License-Identifier: MIT */
/* The chat families and their layouts (contract: chat.h).  Each layout is what the family's template text spells out. */
#include "text/chat.h"

#include <string.h>

static const char *const names[] = {"", "chatml", "llama-2", "llama-3", "mistral", "zephyr"};

static const char *find(crit_text t, const char *what) {
    size_t n = strlen(what);
    return t.len < n ? NULL : memmem(t.ptr, t.len, what, n);
}

crit_chat_family crit_chat_recognise(crit_text t) {
    if (find(t, "<|im_start|>")) return CRIT_CHAT_CHATML;
    if (find(t, "<|start_header_id|>")) return CRIT_CHAT_LLAMA3;
    if (find(t, "[INST]")) return find(t, "<<SYS>>") ? CRIT_CHAT_LLAMA2 : CRIT_CHAT_MISTRAL;
    if (find(t, "<|user|>") && find(t, "<|assistant|>")) return CRIT_CHAT_ZEPHYR;
    return CRIT_CHAT_NONE;
}

const char *crit_chat_family_name(crit_chat_family f) { return names[f]; }

/* Counts everything, keeps what fits. */
typedef struct out {
    char *buf;
    size_t cap, n;
} out;

static void put_n(out *o, const char *s, size_t len) {
    for (size_t i = 0; i < len; i++, o->n++)
        if (o->n < o->cap) o->buf[o->n] = s[i];
}
static void put(out *o, const char *s) { put_n(o, s, strlen(s)); }

static bool blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

static void put_trimmed(out *o, const char *s) {
    size_t n = strlen(s);
    while (n && blank(s[n - 1])) n--;
    while (n && blank(*s)) s++, n--;
    put_n(o, s, n);
}

/* The system text a ChatML template writes when the messages bring none: a literal between the system header and the end
 * mark.  What looks like an expression (quotes, braces) is none. */
static void put_default_system(out *o, crit_text t) {
    static const char head[] = "<|im_start|>system", end[] = "<|im_end|>";
    for (const char *p; (p = find(t, head));) {
        p += sizeof head - 1;
        t = (crit_text){p, t.len - (size_t)(p - t.ptr)};
        const char *stop = find(t, end);
        size_t skip = t.len >= 1 && *p == '\n' ? 1 : t.len >= 2 && p[0] == '\\' && p[1] == 'n' ? 2 : 0;
        if (!stop || !skip) continue;
        size_t n = (size_t)(stop - p) - skip;
        if (n == 0 || memchr(p, '\'', (size_t)(stop - p)) || memchr(p, '{', (size_t)(stop - p)) || memchr(p, '"', (size_t)(stop - p))) continue;
        put(o, "<|im_start|>system\n");
        for (const char *c = p + skip; c < stop; c++) {
            bool newline = *c == '\\' && c + 1 < stop && c[1] == 'n';
            put_n(o, newline ? "\n" : c, 1);
            c += newline;
        }
        put(o, "<|im_end|>\n");
        return;
    }
}

static bool is(const crit_message *m, const char *role) { return strcmp(m->role, role) == 0; }

static void chatml(out *o, crit_text tmpl, const crit_message *msg, size_t n, bool reply) {
    if (n && !is(&msg[0], "system")) put_default_system(o, tmpl);
    for (size_t i = 0; i < n; i++) {
        put(o, "<|im_start|>");
        put(o, msg[i].role);
        put(o, "\n");
        put(o, msg[i].content);
        put(o, "<|im_end|>\n");
    }
    if (reply) put(o, "<|im_start|>assistant\n");
}

static void llama3(out *o, const crit_message *msg, size_t n, bool reply) {
    for (size_t i = 0; i < n; i++) {
        put(o, "<|start_header_id|>");
        put(o, msg[i].role);
        put(o, "<|end_header_id|>\n\n");
        put_trimmed(o, msg[i].content);
        put(o, "<|eot_id|>");
    }
    if (reply) put(o, "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

static void zephyr(out *o, crit_text eos, const crit_message *msg, size_t n, bool reply) {
    for (size_t i = 0; i < n; i++) {
        put(o, "<|");
        put(o, msg[i].role);
        put(o, "|>\n");
        put(o, msg[i].content);
        put_n(o, eos.ptr, eos.len);
        put(o, "\n");
    }
    if (reply) put(o, "<|assistant|>\n");
}

/* Llama 2 and Mistral: the system text goes into the first user's turn. */
static void inst(out *o, bool llama2, crit_text tmpl, crit_text bos, crit_text eos, const crit_message *msg, size_t n) {
    bool open = llama2 || find(tmpl, "[INST] "), close = llama2 || find(tmpl, " [/INST]");
    const char *system = NULL;
    for (size_t i = 0; i < n; i++) {
        if (is(&msg[i], "system")) {
            system = msg[i].content;
            continue;
        }
        if (is(&msg[i], "assistant")) {
            if (llama2) put(o, " ");
            put_trimmed(o, msg[i].content);
            if (llama2) put(o, " ");
            put_n(o, eos.ptr, eos.len);
            if (llama2 && i + 1 < n) put_n(o, bos.ptr, bos.len);
            continue;
        }
        put(o, open ? "[INST] " : "[INST]");
        if (system) {
            if (llama2) put(o, "<<SYS>>\n");
            put(o, system);
            put(o, llama2 ? "\n<</SYS>>\n\n" : "\n\n");
            system = NULL;
        }
        put_trimmed(o, msg[i].content);
        put(o, close ? " [/INST]" : "[/INST]");
    }
}

crit_status crit_chat_write(const crit_vocab *v, const crit_message *msg, size_t n_msg, bool add_reply, char *buf, size_t cap,
                            size_t *n, crit_error *err) {
    crit_text tmpl = crit_vocab_chat_template(v);
    crit_chat_family f = crit_chat_recognise(tmpl);
    *n = 0;
    if (f == CRIT_CHAT_NONE)
        return crit_fail(err, CRIT_E_CHAT, tmpl.len ? "the model's chat template is of no known family; it begins '%.*s'"
                                                    : "the model has no chat template%.*s",
                         (int)(tmpl.len > 60 ? 60 : tmpl.len), tmpl.ptr);
    for (size_t i = 0; i < n_msg; i++) {
        if (!msg[i].role || !msg[i].content) return crit_fail(err, CRIT_E_ARG, "message %zu has no role or no content", i);
        if (!is(&msg[i], "system") && !is(&msg[i], "user") && !is(&msg[i], "assistant"))
            return crit_fail(err, CRIT_E_ARG, "message %zu has role '%.32s' (system, user, assistant)", i, msg[i].role);
    }
    out o = {buf, cap ? cap - 1 : 0, 0};
    crit_text bos = crit_vocab_text(v, crit_vocab_bos(v)), eos = crit_vocab_text(v, crit_vocab_eos(v));
    if (f == CRIT_CHAT_CHATML) chatml(&o, tmpl, msg, n_msg, add_reply);
    else if (f == CRIT_CHAT_LLAMA3) llama3(&o, msg, n_msg, add_reply);
    else if (f == CRIT_CHAT_ZEPHYR) zephyr(&o, eos, msg, n_msg, add_reply);
    else inst(&o, f == CRIT_CHAT_LLAMA2, tmpl, bos, eos, msg, n_msg);
    if (cap) buf[o.n < cap - 1 ? o.n : cap - 1] = 0;
    *n = o.n;
    return o.n < cap ? CRIT_OK : CRIT_E_SPACE;
}
