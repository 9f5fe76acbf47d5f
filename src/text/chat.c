/* SPDX-License-Identifier: MIT */
/* See chat.h: recognising a family and writing its messages. */
#include <string.h>

#include "text/chat.h"

/* ---- families ---- */

/* Relatives that do more than the family's frame are left to the refusal: reasoning modes, tools in every prompt. */
static bool plain_chatml(crit_text t) {
    if (crit_text_has(t, "<|im_sep|>")) return false;
    if (crit_text_has(t, "{{ system_message }}") || crit_text_has(t, "{{system_message}}")) return false; /* Yi-1.5 */
    /* Qwen3's reply is the plain one unless thinking is switched off, which nothing here can ask for. */
    return !crit_text_has(t, "<think>") ||
           (!crit_text_has(t, "'<think>\\n'") &&
            crit_text_has(t, "enable_thinking is defined and enable_thinking is false"));
}

static bool plain_llama3(crit_text t) {
    return !crit_text_has(t, ">>>") &&
           crit_text_has(t, "Cutting Knowledge Date: ") == crit_text_has(t, "Today Date: \"");
}

/* Zephyr ends every message with EOS; others of these marks (Tulu) the model's own ones only. */
static bool plain_zephyr(crit_text t) {
    static const char mark[] = "<|user|>";
    const char *from = memmem(t.ptr, t.len, mark, strlen(mark)), *end = t.ptr + t.len;
    const char *to = from ? memmem(from, (size_t)(end - from), "}}", 2) : NULL;
    return to && crit_text_has((crit_text){from, (size_t)(to - from)}, "eos_token") && !crit_text_has(t, "<|end|>") &&
           !crit_text_has(t, "[gMASK]");
}

crit_chat_family crit_chat_recognise(crit_text t) {
    if (crit_text_has(t, "<|im_start|>")) return plain_chatml(t) ? CRIT_CHAT_CHATML : CRIT_CHAT_NONE;
    if (crit_text_has(t, "<|start_header_id|>")) return plain_llama3(t) ? CRIT_CHAT_LLAMA3 : CRIT_CHAT_NONE;
    if (crit_text_has(t, "[SYSTEM_PROMPT]")) return CRIT_CHAT_NONE;
    if (crit_text_has(t, "[INST]")) return crit_text_has(t, "<<SYS>>") ? CRIT_CHAT_LLAMA2 : CRIT_CHAT_MISTRAL;
    if (crit_text_has(t, "<|user|>") && crit_text_has(t, "<|assistant|>") && plain_zephyr(t)) return CRIT_CHAT_ZEPHYR;
    return CRIT_CHAT_NONE;
}

const char *crit_chat_family_name(crit_chat_family family) {
    static const char *const names[] = {"", "chatml", "llama-2", "llama-3", "mistral", "zephyr"};
    return (unsigned)family < sizeof names / sizeof *names ? names[family] : "";
}

crit_chat_family crit_vocab_chat_family(const crit_vocab *v) {
    return crit_chat_recognise(crit_vocab_chat_template(v));
}

/* ---- output ---- */

typedef struct writer {
    char *buf;
    size_t cap, n;
    crit_text tmpl, bos, eos;
} writer;

static void put(writer *w, crit_text t) {
    if (t.len && w->n < w->cap) memcpy(w->buf + w->n, t.ptr, t.len < w->cap - w->n ? t.len : w->cap - w->n);
    w->n += t.len;
}
static crit_text text_of(const char *s) {
    return (crit_text){s, strlen(s)};
}
static void puts_(writer *w, const char *s) {
    put(w, text_of(s));
}

/* A literal without its backslashes. */
static void put_unescaped(writer *w, crit_text t, bool quoted) {
    for (size_t i = 0; i < t.len; i++) {
        char c = t.ptr[i];
        if (quoted && c == '\\' && i + 1 < t.len) {
            c = t.ptr[++i];
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
        }
        put(w, (crit_text){&c, 1});
    }
}

static bool blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

enum { KEEP = 0, TRIM_START = 1, TRIM_END = 2, TRIM = 3 };

static crit_text content(const crit_message *m, unsigned trim) {
    crit_text t = text_of(m->content);
    for (; (trim & TRIM_START) && t.len && blank(t.ptr[0]); t.ptr++) t.len--;
    while ((trim & TRIM_END) && t.len && blank(t.ptr[t.len - 1])) t.len--;
    return t;
}

static bool role_is(const crit_message *m, const char *role) {
    return !strcmp(m->role, role);
}

static unsigned template_trims(crit_text t) {
    return crit_text_has(t, "| trim") || crit_text_has(t, "|trim") || crit_text_has(t, ".strip()") ? TRIM : KEEP;
}

/* First literal that begins with start and, after that, holds part. */
static bool find_literal(crit_text t, const char *start, const char *part, crit_text *lit, bool *quoted) {
    crit_chat_cursor c = {0};
    while (crit_chat_literal(t, &c, lit, quoted)) {
        const char *s = memmem(lit->ptr, lit->len, start, strlen(start));
        if (!s || (*quoted && s != lit->ptr)) continue;
        lit->len -= (size_t)(s - lit->ptr);
        lit->ptr = s;
        if (crit_text_has((crit_text){s + strlen(start), lit->len - strlen(start)}, part)) return true;
    }
    return false;
}

/* ---- chatml: <|im_start|>role\ncontent<|im_end|>\n ---- */

/* The system text for conversations that bring none. */
static void default_system(writer *w) {
    static const char open[] = "<|im_start|>system", close[] = "<|im_end|>";
    crit_text lit;
    bool quoted;
    if (find_literal(w->tmpl, open, close, &lit, &quoted)) {
        const char *end = memmem(lit.ptr, lit.len, close, strlen(close));
        put_unescaped(w, (crit_text){lit.ptr, (size_t)(end - lit.ptr)}, quoted);
        puts_(w, "<|im_end|>\n");
        return;
    }
    lit = crit_chat_assigned(w->tmpl, "system_message");
    if (!lit.len) return;
    puts_(w, "<|im_start|>system\n");
    put_unescaped(w, lit, true);
    puts_(w, "<|im_end|>\n");
}

static crit_text strip_newlines(crit_text t) {
    for (; t.len && t.ptr[0] == '\n'; t.ptr++) t.len--;
    while (t.len && t.ptr[t.len - 1] == '\n') t.len--;
    return t;
}

/* What of t comes behind the last s; all of t without one. */
static crit_text behind_last(crit_text t, const char *s) {
    const char *end = t.ptr + t.len;
    for (const char *p; (p = memmem(t.ptr, t.len, s, strlen(s))) != NULL; t.len = (size_t)(end - t.ptr))
        t.ptr = p + strlen(s);
    return t;
}

/* Qwen3: earlier replies lose what the model thought; one behind the last question keeps it, the last of all always. */
static void put_reply_of_thinker(writer *w, crit_text t, bool current, bool last) {
    const char *close = memmem(t.ptr, t.len, "</think>", 8);
    crit_text thought = {t.ptr, close ? (size_t)(close - t.ptr) : 0};
    thought = strip_newlines(behind_last(thought, "<think>"));
    t = behind_last(t, "</think>");
    bool shown = current && (last || thought.len);
    for (; (close || shown) && t.len && t.ptr[0] == '\n'; t.ptr++) t.len--;
    if (shown) {
        puts_(w, "<think>\n");
        put(w, thought);
        puts_(w, "\n</think>\n\n");
    }
    put(w, t);
}

/* The last user message that is no tool's answer; as the template has it, the last message without one. */
static size_t last_question(const crit_message *msg, size_t n_msg) {
    for (size_t i = n_msg; i-- > 0;) {
        static const char open[] = "<tool_response>", close[] = "</tool_response>";
        crit_text t = text_of(msg[i].content);
        bool answer = t.len >= strlen(close) && !strncmp(t.ptr, open, strlen(open)) &&
                      !strcmp(t.ptr + t.len - strlen(close), close);
        if (role_is(&msg[i], "user") && !answer) return i;
    }
    return n_msg - 1;
}

static void write_chatml(writer *w, const crit_message *msg, size_t n_msg, bool add_reply) {
    unsigned trim =
        crit_text_has(w->tmpl, "message['content'] | trim") || crit_text_has(w->tmpl, "message['content']|trim") ? TRIM
                                                                                                                 : KEEP;
    bool thinks = crit_text_has(w->tmpl, "split('</think>')");
    size_t question = crit_text_has(w->tmpl, "last_query_index") ? last_question(msg, n_msg) : n_msg;
    if (!role_is(&msg[0], "system")) default_system(w);
    for (size_t i = 0; i < n_msg; i++) {
        puts_(w, "<|im_start|>");
        puts_(w, msg[i].role);
        puts_(w, "\n");
        if (thinks && role_is(&msg[i], "assistant"))
            put_reply_of_thinker(w, content(&msg[i], trim), i > question, i + 1 == n_msg);
        else
            put(w, content(&msg[i], trim));
        puts_(w, "<|im_end|>\n");
    }
    if (add_reply) puts_(w, "<|im_start|>assistant\n");
}

/* ---- llama-3 ---- */

static void llama3_header(writer *w, const char *role) {
    puts_(w, "<|start_header_id|>");
    puts_(w, role);
    puts_(w, "<|end_header_id|>\n\n");
}

static void write_llama3(writer *w, const crit_message *msg, size_t n_msg, bool add_reply) {
    unsigned trim = template_trims(w->tmpl);
    bool quoted;
    size_t i = 0;
    crit_text lit;
    /* From 3.1 on a system turn with two dates is always there. */
    if (find_literal(w->tmpl, "Cutting Knowledge Date: ", "", &lit, &quoted)) {
        llama3_header(w, "system");
        put_unescaped(w, lit, quoted);
        puts_(w, "Today Date: ");
        put_unescaped(w, crit_chat_assigned(w->tmpl, "date_string"), true);
        puts_(w, "\n\n");
        if (role_is(&msg[0], "system")) put(w, content(&msg[i++], trim));
        puts_(w, "<|eot_id|>");
    }
    for (; i < n_msg; i++) {
        llama3_header(w, msg[i].role);
        put(w, content(&msg[i], trim));
        puts_(w, "<|eot_id|>");
    }
    if (add_reply) llama3_header(w, "assistant");
}

/* ---- llama-2 ---- */

static void write_llama2(writer *w, const crit_message *msg, size_t n_msg) {
    unsigned trim = template_trims(w->tmpl);
    bool own = role_is(&msg[0], "system");
    crit_text system = own ? content(&msg[0], KEEP) : crit_chat_assigned(w->tmpl, "system_message");
    /* The default stands in a branch that the template's makers switched on or off. */
    bool framed = own || (system.len && !crit_text_has(w->tmpl, "false == true") && !strstr(msg[0].content, "<<SYS>>"));
    /* Before every user turn, unless the template writes it ahead of its loop. */
    const char *loop = memmem(w->tmpl.ptr, w->tmpl.len, "for message", 11);
    bool bos_once = loop && crit_text_has((crit_text){w->tmpl.ptr, (size_t)(loop - w->tmpl.ptr)}, "bos_token");
    for (size_t i = own; i < n_msg; i++) {
        if (role_is(&msg[i], "assistant")) {
            puts_(w, " ");
            put(w, content(&msg[i], trim));
            puts_(w, " ");
            put(w, w->eos);
            continue;
        }
        /* That of the first turn is written by the caller. */
        if (i > own && !bos_once) put(w, w->bos);
        puts_(w, "[INST] ");
        bool with_system = framed && i == own;
        if (with_system) {
            puts_(w, "<<SYS>>\n");
            put_unescaped(w, system, !own);
            puts_(w, "\n<</SYS>>\n\n");
        }
        put(w, content(&msg[i], with_system ? trim & TRIM_END : trim)); /* system and user text are trimmed as one */
        puts_(w, " [/INST]");
    }
}

/* ---- mistral ---- */

static void write_mistral(writer *w, const crit_message *msg, size_t n_msg) {
    crit_text open, close, t = w->tmpl;
    bool q_open, q_close, system = role_is(&msg[0], "system");
    /* The versions differ in the blanks around the marks. */
    if (!find_literal(t, " [INST]", "", &open, &q_open) && !find_literal(t, "[INST]", "", &open, &q_open))
        open = text_of("[INST] ");
    if (!find_literal(t, " [/INST]", "", &close, &q_close)) close = text_of("[/INST]");
    open.len =
        (open.ptr[0] == ' ') + 6 + (open.len > 6u + (open.ptr[0] == ' ') && open.ptr[6 + (open.ptr[0] == ' ')] == ' ');
    close.len = (close.ptr[0] == ' ') + 7;
    bool reply_blank = crit_text_has(t, "\" \" + ") || crit_text_has(t, "' ' + ");
    bool eos_blank = crit_text_has(t, "eos_token + ' '") || crit_text_has(t, "eos_token+ ' '");
    size_t with_system = system; /* the user turn that carries the system text */
    if (system && crit_text_has(t, "loop.last and system_message"))
        for (size_t i = 1; i < n_msg; i++)
            if (role_is(&msg[i], "user")) with_system = i;
    for (size_t i = system; i < n_msg; i++) {
        if (role_is(&msg[i], "assistant")) {
            if (reply_blank) puts_(w, " ");
            put(w, content(&msg[i], template_trims(t)));
            put(w, w->eos);
            if (eos_blank) puts_(w, " ");
            continue;
        }
        put(w, open);
        if (system && i == with_system) {
            put(w, content(&msg[0], KEEP));
            puts_(w, "\n\n");
        }
        put(w, content(&msg[i], KEEP));
        put(w, close);
    }
}

/* ---- zephyr, TinyLlama ---- */

static void write_zephyr(writer *w, const crit_message *msg, size_t n_msg, bool add_reply) {
    unsigned trim = template_trims(w->tmpl);
    for (size_t i = 0; i < n_msg; i++) {
        puts_(w, "<|");
        puts_(w, msg[i].role);
        puts_(w, "|>\n");
        put(w, content(&msg[i], trim));
        put(w, w->eos);
        puts_(w, "\n");
    }
    if (add_reply) puts_(w, "<|assistant|>\n");
}

/* ---- all ---- */

static crit_status check(const crit_vocab *v, crit_chat_family family, const crit_message *msg, size_t n_msg,
                         crit_error *err) {
    crit_text t = crit_vocab_chat_template(v);
    if (!t.len) return crit_fail(err, CRIT_E_CHAT, "the model has no chat template");
    if (family == CRIT_CHAT_NONE)
        return crit_fail(err, CRIT_E_CHAT, "the model's chat template is not one we know: %.*s%s",
                         t.len > 120 ? 120 : (int)t.len, t.ptr, t.len > 120 ? "..." : "");
    if (!n_msg) return crit_fail(err, CRIT_E_ARG, "a chat needs at least one message");
    bool paired = family == CRIT_CHAT_LLAMA2 || family == CRIT_CHAT_MISTRAL;
    for (size_t i = 0; i < n_msg; i++) {
        if (!msg[i].role || !msg[i].content) return crit_fail(err, CRIT_E_ARG, "message %zu lacks role or content", i);
        bool system = role_is(&msg[i], "system");
        if (!system && !role_is(&msg[i], "user") && !role_is(&msg[i], "assistant"))
            return crit_fail(err, CRIT_E_ARG, "message %zu has the unknown role \"%.40s\"", i, msg[i].role);
        if (paired && system && (i > 0 || n_msg == 1 || !msg[1].role || !role_is(&msg[1], "user")))
            return crit_fail(err, CRIT_E_ARG, "a %s chat takes a system message only before the first user message",
                             crit_chat_family_name(family));
    }
    if (family != CRIT_CHAT_CHATML && family != CRIT_CHAT_LLAMA3 && crit_vocab_eos(v) < 0)
        return crit_fail(err, CRIT_E_CHAT, "the %s chat template needs an EOS token", crit_chat_family_name(family));
    return CRIT_OK;
}

crit_status crit_chat_write(const crit_vocab *v, const crit_message *msg, size_t n_msg, bool add_reply, char *buf,
                            size_t cap, size_t *n, crit_error *err) {
    *n = 0;
    crit_chat_family family = crit_vocab_chat_family(v);
    crit_status st = check(v, family, msg, n_msg, err);
    if (st) return st;
    writer w = {.buf = buf, .cap = cap, .tmpl = crit_vocab_chat_template(v)};
    w.bos = crit_vocab_text(v, crit_vocab_bos(v));
    w.eos = crit_vocab_text(v, crit_vocab_eos(v));
    if (crit_vocab_adds_bos(v) || crit_text_has(w.tmpl, "bos_token") ||
        (w.bos.len && find_literal(w.tmpl, "<|begin_of_text|>", "", &(crit_text){0}, &(bool){false})))
        put(&w, w.bos);
    switch (family) {
    case CRIT_CHAT_CHATML:
        write_chatml(&w, msg, n_msg, add_reply);
        break;
    case CRIT_CHAT_LLAMA3:
        write_llama3(&w, msg, n_msg, add_reply);
        break;
    case CRIT_CHAT_LLAMA2:
        write_llama2(&w, msg, n_msg);
        break;
    case CRIT_CHAT_MISTRAL:
        write_mistral(&w, msg, n_msg);
        break;
    case CRIT_CHAT_ZEPHYR:
        write_zephyr(&w, msg, n_msg, add_reply);
        break;
    case CRIT_CHAT_NONE:
        break;
    }
    *n = w.n;
    if (w.n >= cap) return crit_fail(err, CRIT_E_SPACE, "room for %zu bytes, the chat has %zu and a NUL", cap, w.n);
    buf[w.n] = 0;
    return CRIT_OK;
}
