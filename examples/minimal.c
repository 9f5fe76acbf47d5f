/* SPDX-License-Identifier: MIT */
/* The library in one page: read a text, continue it greedily.     usage: minimal MODEL.gguf TEXT */
#include <critiprefill/critiprefill.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: minimal MODEL.gguf TEXT\n"), 2;
    const char *text = argv[2];
    crit_model *model = NULL;
    crit_session *session = NULL;
    crit_sampler *sampler = NULL;
    crit_error err = {.code = CRIT_E_NOMEM, .message = "out of memory"};
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = 1;

    if (crit_model_open(&model, argv[1], NULL, &err)) goto done;
    crit_tokenize(model, text, strlen(text), CRIT_TOK_BOS_EOS, NULL, 0, &n, NULL); /* how many? */
    ids = malloc((n + 1) * sizeof *ids);
    if (!ids || crit_tokenize(model, text, strlen(text), CRIT_TOK_BOS_EOS, ids, n, &n, &err)) goto done;
    if (crit_session_open(&session, model, NULL, &err) || crit_sampler_open(&sampler, model, NULL, &err)) goto done;
    if (crit_prefill(session, ids, n, NULL, &err)) goto done;
    for (int i = 0; i < 32; i++) {
        int32_t id = crit_sample(sampler, crit_logits(session));
        char piece[256];
        if (crit_token_ends(model, id)) break;
        fwrite(piece, 1, crit_token_bytes(model, id, false, piece, sizeof piece), stdout);
        if (crit_decode(session, id, &err)) goto done;
    }
    putchar('\n');
    rc = 0;
done:
    if (rc) fprintf(stderr, "minimal: %s\n", err.message);
    free(ids);
    crit_sampler_close(&sampler);
    crit_session_close(&session);
    crit_model_close(&model);
    return rc;
}
