/* SPDX-License-Identifier: MIT */
/* critiprefill cluster: read a fixed text, prepare what a policy of decoding wants from it, keep all of it in a file.
 */
#include <sys/stat.h>

#include "answer.h"
#include "bench.h"
#include "commands.h"
#include "files.h"
#include "jsonout.h"
#include "progress.h"
#include "term.h"

typedef struct cluster {
    const options *o;
    crit_model *model;
    crit_model_info info;
    prompt text;
    double load_ms, read_ms, save_ms;
    crit_snapshot_info out;
} cluster;

static int read_text(cluster *c) {
    const options *o = c->o;
    buf text = {0};
    int rc = text_read(o, &text);
    if (!rc && !text.n) rc = fail("%s: the text is empty", text_name(o));
    if (!rc) rc = model_open(o, &c->model, &c->info, &c->load_ms);
    if (!rc) rc = prompt_may_fit(o, c->model, &c->info, text.n);
    if (!rc)
        rc = o->chat ? prompt_chat_begin(&c->text, c->model, o->system, text.s, text.n)
                     : prompt_tokenize(&c->text, c->model, text.s, text.n, CRIT_TOK_BOS_EOS);
    if (!rc && !c->text.n) rc = fail("the text has no tokens");
    buf_free(&text);
    return rc;
}

static int stop_asked(void *user) {
    (void)user;
    return term_interrupted();
}

static int read_and_save(cluster *c) {
    const options *o = c->o;
    crit_error err = {0};
    fit f;
    crit_session *s = NULL;
    int rc = prompt_fit(&c->text, o, &c->info, &f);
    if (rc) return rc;
    crit_session_params sp = session_params(o, o->modes.v[0], f.n_ctx);
    progress bar;
    crit_prefill_params pp;
    crit_prefill_params_init(&pp);
    pp.progress = progress_step;
    pp.progress_user = &bar;
    crit_save_params save;
    crit_save_params_init(&save);
    save.zstd = (int)o->zstd;
    save.mark = o->chat ? PREFIX_CHAT : 0;
    save.poll = stop_asked;
    if (crit_session_open(&s, c->model, &sp, &err)) return fail_with(&err);
    progress_start(&bar, !o->no_progress, mode_name(o, o->modes.v[0]));
    double t = now_ms();
    crit_status st = crit_prefill(s, c->text.ids, c->text.n, &pp, &err);
    c->read_ms = now_ms() - t;
    progress_end(&bar);
    t = now_ms();
    if (!st) st = crit_session_save(s, o->output, c->text.ids, c->text.n, &save, &err);
    c->save_ms = now_ms() - t;
    crit_session_close(&s);
    c->out = (crit_snapshot_info){.struct_size = sizeof c->out};
    if (!st) st = crit_snapshot_read_info(c->model, o->output, &c->out, NULL, 0, &err);
    return st ? fail_with(&err) : EXIT_OK;
}

static int tell(const cluster *c) {
    const options *o = c->o;
    if (!c->out.policy[0])
        note("%s: nothing is prepared for %s in it (text too short, or a policy that keeps nothing)", o->output,
             o->decode);
    if (!o->json) {
        if (!o->no_progress)
            note("%s: %u tokens read in %.2f s, %.1f MB written in %.2f s", o->output, c->out.n_tok, c->read_ms / 1e3,
                 (double)c->out.file_bytes / 1e6, c->save_ms / 1e3);
        return EXIT_OK;
    }
    json_t *j = json_object();
    json_put(j, "file", json_cstr(o->output));
    json_put(j, "n", json_integer(c->out.n_tok));
    json_put(j, "policy", json_cstr(c->out.policy));
    json_put(j, "file_bytes", json_size(c->out.file_bytes));
    json_put(j, "load_ms", json_num(c->load_ms));
    json_put(j, "read_ms", json_num(c->read_ms));
    json_put(j, "read_per_second", json_num(per_second((double)c->text.n, c->read_ms)));
    json_put(j, "save_ms", json_num(c->save_ms));
    json_put(j, "model", json_cstr(o->model));
    json_put(j, "cpu", json_cstr(c->info.cpu));
    json_put(j, "threads", json_integer(options_threads(o)));
    return json_print(j);
}

/* Better now than after the reading; crit_session_save judges again. */
static int check_output(const char *path) {
    struct stat there;
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode)) return fail("%s: is there and no regular file", path);
    return bench_check_plot(path);
}

int cluster_main(const options *o) {
    cluster c = {.o = o};
    int rc = check_output(o->output);
    if (!rc) rc = read_text(&c);
    if (!rc) rc = read_and_save(&c);
    if (!rc) rc = tell(&c);
    prompt_free(&c.text);
    crit_model_close(&c.model);
    return rc;
}
