/* SPDX-License-Identifier: MIT */
/* One prompt read and answered in a session of its own, with everything measured: what run and bench are made of. */
#ifndef PROG_ANSWER_H
#define PROG_ANSWER_H

#include "agree.h"
#include "critiprefill/policy.h"
#include "options.h"
#include "prompt.h"

typedef struct question {
    const crit_model *model;
    const prompt *text;
    fit fit;
    const crit_session_params *session;
    const crit_sampler_params *sampler;
    bool stream;        /* the answer to stdout as it comes */
    bool to_the_end;    /* decode every token of n_predict, also the last one and behind an end token (bench) */
    bool bar;           /* progress bar allowed */
    agree *agree;       /* logits of the prompt's end go there; NULL = none */
    double min_recall;  /* no answer when fewer of the look-ups measured were kept; 0 = whatever it is */
    const char *prefix; /* snapshot of the text's first n_prefix tokens; NULL = none */
    size_t n_prefix;
    uint32_t n_answer; /* 0, 1 = one; more are decoded side by side and not streamed */
} question;

/* One of several answers. */
typedef struct one_answer {
    int32_t *ids;
    size_t n;
    buf text;
    utf8 u;
    bool ended;
    crit_sampler *sampler;
} one_answer;

typedef struct answer {
    int32_t *ids;
    size_t n;
    buf text;         /* valid UTF-8 */
    double open_ms;   /* session */
    double prefix_ms; /* loading of the prefix */
    double prompt_ms; /* prefill */
    double answer_ms; /* from the prefill's end to the last token */
    double first_ms;  /* session, prefix, prefill and the first token */
    size_t n_decode;  /* decode steps in answer_ms: the first token needs none */
    one_answer *all;  /* [n_answer] when there are several: the first one's are in ids and text too */
    size_t n_answer;
    size_t batch_kv_bytes; /* of the prompt and all answers */
    crit_stats stats;      /* without a prefill (nothing behind a prefix): zeros and NaN */
    crit_decode_stats decode;
    size_t peak_rss_bytes; /* of the process so far */
} answer;

/* EXIT_OK or the exit code after a line on stderr; a is to be freed either way. */
int answer_run(const question *q, answer *a);
void answer_free(answer *a);
double per_second(double n, double ms); /* NaN when nothing was done */

#endif
