/* SPDX-License-Identifier: MIT */
/* Two small vocabularies: byte-level BPE ("gpt2") with a handful of merges, and SentencePiece ("llama") with byte
 * fall-back, each with control tokens and padded with unused tokens.
 *
 * gpt2: ids 0..255 are the byte characters in byte order, then one token a merge, then <|endoftext|> <|im_start|>
 * <|im_end|>.  llama: <unk> <s> </s>, <0x00>..<0xFF> at 3..258, pieces, <|im_start|> <|im_end|>. */
#include "tiny/tinytok.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"

const char tiny_chatml[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' "
    "}}{% endif %}";

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, UNUSED = 5, BYTE = 6 };

typedef struct vocab {
    char **text;
    int32_t *kind;
    float *score;
    size_t n, cap;
} vocab;

static void add(vocab *v, const char *text, int kind, float score) {
    if (v->n >= v->cap) {
        fprintf(stderr, "tiny: a vocabulary of %zu is too small for the tokenizer\n", v->cap);
        abort();
    }
    v->text[v->n] = strdup(text);
    if (!v->text[v->n]) abort();
    v->kind[v->n] = kind;
    v->score[v->n++] = score;
}

/* The printable character that stands for a byte in byte-level BPE, as UTF-8. */
static void byte_char(int b, char out[4]) {
    int c = b;
    if (!((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174)) {
        c = 256; /* the others are numbered in order from 256 */
        for (int i = 0; i < b; i++) c += !((i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174);
    }
    if (c < 0x80)
        snprintf(out, 4, "%c", c);
    else
        snprintf(out, 4, "%c%c", 0xc0 | c >> 6, 0x80 | (c & 63));
}

/* Space is U+0120 here. */
static const char *const merges[] = {"t h",          "i n", "e r",  "a n",   "th e",       "\xc4\xa0 t", "\xc4\xa0 a",
                                     "\xc4\xa0t he", "o n", "in g", "an d",  "\xc4\xa0 s", "r e",        "\xc4\xa0 w",
                                     "h e",          "l l", "l o",  "he ll", "hell o",     "\xc4\xa0w o"};
enum { N_MERGES = sizeof merges / sizeof *merges };

static void gpt2(gw *w, const tiny_params *p, vocab *v) {
    for (int b = 0; b < 256; b++) {
        char c[4];
        byte_char(b, c);
        add(v, c, NORMAL, 0);
    }
    for (int i = 0; i < N_MERGES; i++) {
        char joined[32];
        const char *gap = strchr(merges[i], ' ');
        snprintf(joined, sizeof joined, "%.*s%s", (int)(gap - merges[i]), merges[i], gap + 1);
        add(v, joined, NORMAL, 0);
    }
    const uint32_t special = (uint32_t)v->n;
    add(v, "<|endoftext|>", CONTROL, 0);
    add(v, "<|im_start|>", CONTROL, 0);
    add(v, "<|im_end|>", CONTROL, 0);
    gw_kv_str(w, "tokenizer.ggml.model", "gpt2");
    gw_kv_str(w, "tokenizer.ggml.pre", p->tok_pre);
    gw_kv_strs(w, "tokenizer.ggml.merges", merges, N_MERGES);
    gw_kv_u32(w, "tokenizer.ggml.bos_token_id", special);
    gw_kv_u32(w, "tokenizer.ggml.eos_token_id", special + 2);
    gw_kv_bool(w, "tokenizer.ggml.add_bos_token", 0);
}

/* U+2581 stands for a space. */
static const char *const pieces[] = {"\xe2\x96\x81",
                                     "e",
                                     "t",
                                     "a",
                                     "o",
                                     "n",
                                     "h",
                                     "s",
                                     "r",
                                     "l",
                                     "w",
                                     "d",
                                     "th",
                                     "he",
                                     "the",
                                     "\xe2\x96\x81t",
                                     "\xe2\x96\x81the",
                                     "er",
                                     "in",
                                     "an",
                                     "\342\226\201a",
                                     "lo",
                                     "ll"};

static void spm(gw *w, const tiny_params *p, vocab *v) {
    (void)p;
    add(v, "<unk>", UNKNOWN, 0);
    add(v, "<s>", CONTROL, 0);
    add(v, "</s>", CONTROL, 0);
    for (int b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", b);
        add(v, text, BYTE, 0);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        const size_t len = strlen(pieces[i]); /* longer pieces first */
        add(v, pieces[i], NORMAL, -(float)i - (len > 1 ? 0 : 100));
    }
    add(v, "<|im_start|>", CONTROL, 0);
    add(v, "<|im_end|>", CONTROL, 0);
    gw_kv_str(w, "tokenizer.ggml.model", "llama");
    gw_kv_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gw_kv_u32(w, "tokenizer.ggml.eos_token_id", 2);
    gw_kv_u32(w, "tokenizer.ggml.unknown_token_id", 0);
    gw_kv_bool(w, "tokenizer.ggml.add_bos_token", 1);
    gw_kv_bool(w, "tokenizer.ggml.add_space_prefix", 1);
}

void tiny_tokenizer(gw *w, const tiny_params *p) {
    if (p->tok == TINY_TOK_NONE) return;
    vocab v = {.cap = p->n_vocab};
    v.text = calloc(v.cap, sizeof *v.text);
    v.kind = calloc(v.cap, sizeof *v.kind);
    v.score = calloc(v.cap, sizeof *v.score);
    if (!v.text || !v.kind || !v.score) abort();
    if (p->tok == TINY_TOK_GPT2)
        gpt2(w, p, &v);
    else
        spm(w, p, &v);
    while (v.n < v.cap) {
        char pad[32];
        snprintf(pad, sizeof pad, "[PAD%zu]", v.n);
        add(&v, pad, UNUSED, -1000);
    }
    gw_kv_strs(w, "tokenizer.ggml.tokens", (const char *const *)v.text, v.n);
    gw_kv_arr(w, "tokenizer.ggml.token_type", GGUF_I32, v.kind, sizeof *v.kind, v.n);
    if (p->tok == TINY_TOK_LLAMA) gw_kv_arr(w, "tokenizer.ggml.scores", GGUF_F32, v.score, sizeof *v.score, v.n);
    if (p->chat_template && p->chat_template[0]) gw_kv_str(w, "tokenizer.chat_template", p->chat_template);
    for (size_t i = 0; i < v.n; i++) free(v.text[i]);
    free(v.text);
    free(v.kind);
    free(v.score);
}
