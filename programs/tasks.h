/* SPDX-License-Identifier: MIT */
/* Retrieval tasks: texts that hide something, the question for it, and what the answer should hold.
 *
 * Sample number i of a task is a function of (task, length, seed, i) and of the tokenizer, which decides how much fits:
 * not of other samples, nor of any answer.  Generators know no model; they are given a function that counts tokens.
 *
 *     task_find -> task_fit (how much text fills the length) -> task_make (one sample), ... -> score by how */
#ifndef PROG_TASKS_H
#define PROG_TASKS_H

#include <jansson.h>

#include "buf.h"
#include "options.h"
#include "rng.h"
#include "scoring.h"

typedef enum score_kind {
    SCORE_ALL,    /* share of the references that the answer contains */
    SCORE_ORDER,  /* share of the references that it names in order, up to the first one missing */
    SCORE_PART,   /* 1 when it contains one of them */
    SCORE_F1,     /* words shared with the best of them */
    SCORE_PIECE,  /* length of its longest piece of the first reference, as a share of that */
    SCORE_FORCED, /* share of values whose every token was the likeliest, given those before it */
} score_kind;

enum { LOOKUP_MAX = 32, QUESTION_MAX = 64 };

typedef struct sample {
    uint64_t number;
    /* Which question of its text (task_env.n_question): 0 is the one drawn with the text. */
    uint32_t asked;
    buf text;   /* what the user says */
    buf prefix; /* start of the answer, given to the model: behind the text, or behind the assistant's header */
    bool names; /* which says what was asked for: not when the question is to stand before the text only */
    buf ref;    /* references, each ended by a NUL */
    size_t n_ref;
    struct {
        size_t at, len;
    } value[LOOKUP_MAX]; /* SCORE_FORCED: bytes of text */
    size_t n_value;
    double depth;       /* percent of the text before what is asked for; NaN where it is in several places */
    uint32_t n_predict; /* tokens to generate */
    score_kind how;
    /* task_make's: the text of many questions that was sized last.  Sizing it anew for each makes all for each. */
    struct {
        const struct task *t;
        uint64_t seed, text;
        uint32_t ctx, question, n_question, asked; /* asked: the size that task_fit found */
        uint32_t size;
    } sized;
} sample;

typedef struct task task;

typedef struct task_env {
    uint64_t seed;
    uint32_t ctx;      /* tokens, answer included */
    uint32_t question; /* QUESTION_ */
    double depth;      /* percent, for needle, passkey and copy; < 0: drawn */
    uint32_t n_digit;  /* of the passkey */
    const buf *essay;  /* prose; NULL = none */
    const json_t *squad, *hotpot, *bench;
    int (*count)(void *user, const sample *s, size_t *n_tok); /* as the model reads it; an exit code */
    void *user;
    uint32_t n_question; /* of each text, in tasks that have many: sample i asks question i % n_question of text
                            i / n_question; 0 = 1 */
    uint32_t n_example; /* set by task_fit: size of the worked example, where a task has one */
} task_env;

enum { NEEDS_ESSAY = 1, NEEDS_SQUAD = 2, NEEDS_HOTPOT = 4 };

struct task {
    const char *name;
    unsigned kind; /* CMD_ */
    score_kind how;
    uint32_t n_predict;
    unsigned needs;
    uint32_t min_size; /* units of text, below which there is no sample */
    /* units there are; NULL: any number */
    uint32_t (*max_size)(const task_env *env, uint64_t number);
    bool sized_each; /* samples differ so much in size that each has its own */
    bool many;       /* what is asked for is one of many alike, and others of the same text can be asked for */
    int (*prepare)(task_env *env);
    void (*build)(const task_env *env, const task *t, uint32_t size, rng *r, sample *out);
    const void *spec;
};

/* NULL when there is none.  By index: NULL past the last. */
const task *task_find(unsigned kind, const char *name);
const task *task_at(size_t i);
/* Questions that share a text: n, or 1 where a text of the task has one only. */
uint32_t task_n_question(const task *t, uint32_t n);
/* Samples there are: UINT64_MAX unless they come from a file. */
uint64_t task_n_sample(const task *t, const task_env *env);
/* Units that fill env->ctx.  EXIT_OK, or the exit code after a line on stderr (as task_make). */
int task_fit(const task *t, task_env *env, uint32_t *size);
/* s: empty or used before. */
int task_make(const task *t, const task_env *env, uint32_t size, uint64_t number, sample *s);
void sample_free(sample *s);
refs sample_refs(const sample *s);

/* ---- for the generators ---- */
extern const task tasks_hidden[], tasks_ruler[]; /* ended by name NULL, as all */
extern const task tasks_niah[], tasks_qa[], tasks_lookup[], tasks_longbench[], tasks_chain[];
void sample_ref(sample *s, const char *text);
/* head, context, gap, question; the question in its place or, by where, before the context. */
void sample_compose(sample *s, const char *head, const buf *context, const char *gap, const buf *question,
                    uint32_t where);
extern const char noise_line[]; /* RULER's */
enum { UUID_LEN = 36 };
void draw_uuid(rng *r, char out[UUID_LEN + 1]); /* version 4 */
const char *draw_word(rng *r);                  /* noun */
void draw_key(rng *r, buf *out);                /* adjective-noun */
/* Which of the text's n lines s asks for: own, or for its further questions others, all different where n allows. */
uint32_t sample_line(const task_env *env, const task *t, const sample *s, uint32_t n, uint32_t own);
/* Where n_needle lines go among n: ascending positions, all different; drawn from r. */
bool draw_places(rng *r, uint32_t n, uint32_t n_needle, uint32_t *out);

#endif
