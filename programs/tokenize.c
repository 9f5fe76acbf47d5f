/* SPDX-License-Identifier: MIT */
/* critiprefill tokenize: the ids of a text, on one line or with their pieces. */
#include <stdlib.h>

#include "commands.h"
#include "files.h"
#include "prompt.h"
#include "term.h"

static bool put_piece(buf *out, const crit_model *model, int32_t id) {
    char small[256], *s = small;
    size_t n = crit_token_bytes(model, id, true, small, sizeof small);
    if (n > sizeof small) {
        s = malloc(n);
        if (!s) return false;
        n = crit_token_bytes(model, id, true, s, n);
    }
    buf_fmt(out, "%7d  ", id);
    buf_quoted(out, s, n);
    buf_str(out, "\n");
    if (s != small) free(s);
    return true;
}

int tokenize_main(const options *o) {
    buf text = {0}, out = {0};
    prompt p = {0};
    crit_model *model = NULL;
    crit_model_info info;
    double ms;
    int rc = text_read(o, &text);
    if (!rc) rc = model_open(o, &model, &info, &ms);
    unsigned flags = (o->bos ? CRIT_TOK_BOS_EOS : 0u) | (o->parse_special ? CRIT_TOK_PARSE_SPECIAL : 0u);
    if (!rc) rc = prompt_tokenize(&p, model, text.s, text.n, flags);
    for (size_t i = 0; i < p.n && !rc; i++) {
        if (o->ids)
            buf_fmt(&out, i ? " %d" : "%d", p.ids[i]);
        else if (!put_piece(&out, model, p.ids[i]))
            rc = fail_memory();
    }
    if (!rc && o->ids) buf_str(&out, "\n");
    if (!rc) rc = out_buf(&out);
    buf_free(&text);
    buf_free(&out);
    prompt_free(&p);
    crit_model_close(&model);
    return rc;
}
